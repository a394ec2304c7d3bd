"""The drawings that tests/report/drawing/test_golden_drawings.py compares with: by structure, so that a nudge passes.

To write them again after a change that is meant to alter what they show, and then look at each:

    PYTHONPATH=src python tests/golden/drawings/regenerate.py
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gradnas.arch import PUBLISHED, CellDesc, ConvMacroParams, EdgeDesc, Genotype, ModelDesc, NodeDesc, OpDesc
from gradnas.report import draw
from gradnas.spaces import DartsSpace

HERE = Path(__file__).parent


def found() -> ModelDesc:
    genotype = Genotype(
        normal=[("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 2), ("dil_conv_3x3", 0)],
        normal_concat=[2, 3],
        reduce=[("max_pool_3x3", 0), ("avg_pool_3x3", 1), ("none", 0), ("conv_3x1_1x3", 2)],
        reduce_concat=[3],
    )
    return DartsSpace(in_channels=1, image_size=8, channels=8, cells=3, nodes=2, reductions=1).from_genotype(genotype)


def darts_v2() -> ModelDesc:
    return DartsSpace().from_genotype(PUBLISHED["DARTS_V2"], channels=36, cells=20, aux_weight=0.4)


def supergraph() -> ModelDesc:
    return DartsSpace(channels=4, cells=3, nodes=3, reductions=1).build()


def grown() -> ModelDesc:
    """Cells that differ, composites over several states, and a projection behind the nodes, as growing by cells has."""
    plain = DartsSpace(channels=4, cells=3, reductions=1).from_genotype(PUBLISHED["DARTS_V2"])
    cell = plain.cell_descs[0]
    parts = (_op(cell, "sep_conv_3x3"), _op(cell, "max_pool_3x3"), _op(cell, "skip_connect", stride=2))
    several = OpDesc("multi_op", {"conv": _conv(cell)}, in_len=3, children=parts, children_ins=(0, 1, 2))
    changed = with_node(cell, (EdgeDesc(several, (0, 1, 2)),), at=1)
    project = OpDesc("proj_channels", {"conv": ConvMacroParams(64, 4), "concat_ids": (0, 2, 3, 5), "out_states": 4})
    changed = changed.reset_nodes(changed.nodes(), changed.node_shapes, project, changed.out_shape)
    return replace(plain, cell_descs=(changed, *plain.cell_descs[1:]))


def copied() -> ModelDesc:
    """A node without edges copies the state before it; one name is too long for its label."""
    plain = DartsSpace(channels=4, cells=2, reductions=0).from_genotype(PUBLISHED["DARTS_V2"])
    cell = with_node(plain.cell_descs[0], (), at=1)
    long = _op(cell, "a_very_long_name_of_an_operation_that_somebody_wrote")
    cell = with_node(cell, (EdgeDesc(long, (2,)), EdgeDesc(_op(cell, "skip_connect"), (0,))), at=2)
    return replace(plain, cell_descs=(cell, *plain.cell_descs[1:]))


def with_node(cell: CellDesc, edges: tuple[EdgeDesc, ...], *, at: int) -> CellDesc:
    """The cell with other edges at one node."""
    nodes = list(cell.nodes())
    nodes[at] = NodeDesc(edges, nodes[at].conv_params)
    return cell.reset_nodes(nodes, cell.node_shapes, cell.post_op, cell.out_shape)


def _conv(cell: CellDesc) -> ConvMacroParams:
    return cell.nodes()[0].conv_params


def _op(cell: CellDesc, name: str, stride: int = 1) -> OpDesc:
    return OpDesc(name, {"conv": _conv(cell), "stride": stride})


SAMPLES: Mapping[str, Callable[[], ModelDesc]] = {
    "found": found,
    "darts_v2": darts_v2,
    "supergraph": supergraph,
    "grown": grown,
    "copied": copied,
}

if __name__ == "__main__":
    for name, build in SAMPLES.items():
        draw(build(), HERE / f"{name}.svg")
