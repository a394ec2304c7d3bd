"""Tests of ``src/gradnas/arch/convert.py``."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gradnas.arch import CellDesc, CellType, EdgeDesc, Genotype, ModelDesc, NodeDesc, OpDesc, Params, concat_ids

MakeModel = Callable[..., ModelDesc]
MakeCell = Callable[..., CellDesc]


def rewire(cell: CellDesc, *nodes: tuple[tuple[str, int], ...]) -> CellDesc:
    conv = cell.nodes()[0].conv_params
    descs = tuple(NodeDesc(tuple(EdgeDesc(OpDesc(name), (state,)) for name, state in node), conv) for node in nodes)
    return replace(cell, node_descs=descs)


def make_discrete(make_model: MakeModel) -> ModelDesc:
    regular, reduction, last = make_model().cell_descs
    wiring = (("skip_connect", 1), ("none", 0)), (("sep_conv_3x3", 2), ("none", 1))
    cells = (
        rewire(regular, *wiring),
        rewire(reduction, (("none", 0), ("none", 1)), (("max_pool_3x3", 2), ("none", 0))),
        rewire(last, *wiring),
    )
    return make_model(cell_descs=cells)


def test_known_genotype(make_model: MakeModel) -> None:
    assert make_discrete(make_model).genotype() == Genotype(
        normal=[("skip_connect", 1), ("none", 0), ("sep_conv_3x3", 2), ("none", 1)],
        normal_concat=[2, 3],
        reduce=[("none", 0), ("none", 1), ("max_pool_3x3", 2), ("none", 0)],
        reduce_concat=[2, 3],
    )


def test_genotype_of_a_network_without_reduction_has_empty_halves(make_model: MakeModel) -> None:
    first, _, _ = make_discrete(make_model).cell_descs
    genotype = make_model(cell_descs=(first,), aux_tower_descs=(None,)).genotype()
    assert (genotype.reduce, genotype.reduce_concat) == ((), ())


def test_cells_of_one_type_that_differ_in_wiring_are_refused(make_model: MakeModel) -> None:
    desc = make_discrete(make_model)
    first, second, _ = desc.cell_descs
    third = rewire(desc.cell_descs[2], (("none", 1), ("none", 0)), (("sep_conv_3x3", 2), ("none", 1)))
    with pytest.raises(ValueError, match=r"cells\[2\] and cells\[0\] are both regular but differ"):
        replace(desc, cell_descs=(first, second, third)).genotype()


def test_cells_of_one_type_that_differ_in_merge_are_refused(make_model: MakeModel) -> None:
    desc = make_discrete(make_model)
    first, second, third = desc.cell_descs
    third = replace(third, post_op=OpDesc("concate_channels", Params(out_states=1)))
    with pytest.raises(ValueError, match=r"cells\[2\] and cells\[0\] are both regular but differ"):
        replace(desc, cell_descs=(first, second, third)).genotype()


def test_edge_with_two_inputs_has_no_genotype(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match=r"cells\[0\]\.nodes\[1\] has the edges \[\(2,\), \(0, 1\)\].*Use to_json\(\)"):
        make_model().genotype()


def test_node_with_one_edge_has_no_genotype(make_model: MakeModel, make_cell: MakeCell) -> None:
    cell = rewire(make_cell(), (("none", 0),), (("none", 0), ("none", 1)))
    with pytest.raises(ValueError, match=r"cells\[0\]\.nodes\[0\] has the edges \[\(0,\)\]; .* exactly two edges"):
        make_model(cell_descs=(cell,), aux_tower_descs=(None,)).genotype()


def test_merge_reads_the_last_states(make_cell: MakeCell) -> None:
    cell = make_cell()
    assert concat_ids(cell) == (2, 3)
    assert concat_ids(replace(cell, post_op=OpDesc("concate_channels", Params(out_states=3)))) == (1, 2, 3)


def test_merge_reads_the_listed_states_in_their_order(make_cell: MakeCell) -> None:
    cell = replace(make_cell(), post_op=OpDesc("concate_channels", Params(out_states=2, concat_ids=(3, 0))))
    assert concat_ids(cell) == (3, 0)


def test_genotype_lists_the_concatenated_states(make_model: MakeModel) -> None:
    post_op = OpDesc("concate_channels", Params(out_states=1, concat_ids=(2,)))
    desc = make_discrete(make_model)
    cells = [replace(c, post_op=post_op) if c.cell_type is CellType.Regular else c for c in desc.cell_descs]
    genotype = make_model(cell_descs=tuple(cells)).genotype()
    assert (genotype.normal_concat, genotype.reduce_concat) == ((2,), (2, 3))
