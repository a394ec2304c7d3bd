"""Tests of ``src/gradnas/spaces/darts.py``."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnas.arch import DARTS_PRIMITIVES, PUBLISHED, CellType, EdgeDesc, ModelDesc
from gradnas.spaces import DartsSpace
from gradnas.supergraph import MixedOp, Model


def edges(desc: ModelDesc, cell_type: CellType | None = None) -> list[EdgeDesc]:
    cells = [cell for cell in desc.cell_descs if cell_type in (None, cell.cell_type)]
    return [edge for cell in cells for node in cell.nodes() for edge in node.edges]


def test_defaults_are_the_search_network_of_the_paper() -> None:
    conf = DartsSpace().build().conf_model_desc
    assert (conf.n_cells, conf.n_reductions, conf.cell.n_nodes) == (8, 2, 4)
    assert (conf.model_stems.init_node_ch, conf.model_stems.stem_multiplier, conf.max_final_edges) == (16, 3, 2)
    assert conf.dataset.image_shape == (3, 32, 32)
    assert conf.dataset.n_classes == 10


def test_every_edge_chooses_among_the_candidates_in_their_order() -> None:
    found = edges(DartsSpace().build())
    assert len(found) == 8 * 14
    assert {edge.op_desc.name for edge in found} == {"mixed_op"}
    assert {edge.op_desc.params["primitives"] for edge in found} == {DARTS_PRIMITIVES}


@given(nodes=st.integers(1, 7))
@settings(deadline=None)
def test_node_i_reads_every_earlier_state(nodes: int) -> None:
    for cell in DartsSpace(cells=3, reductions=1, nodes=nodes).build().cell_descs:
        for n, node in enumerate(cell.nodes()):
            assert [edge.input_ids for edge in node.edges] == [(i,) for i in range(n + 2)]
        assert sum(len(node.edges) for node in cell.nodes()) == nodes * (nodes + 3) // 2


def test_stride_two_where_a_reduction_cell_reads_its_inputs_only() -> None:
    desc = DartsSpace().build()
    assert {edge.op_desc.stride for edge in edges(desc, CellType.Regular)} == {1}
    for edge in edges(desc, CellType.Reduction):
        assert edge.op_desc.stride == (2 if edge.input_ids[0] < 2 else 1)


def test_candidates_of_ones_own_keep_their_order() -> None:
    primitives = ["none", "sep_conv_7x7", "skip_connect"]
    desc = DartsSpace(channels=2, cells=1, reductions=0, nodes=1, image_size=6, primitives=primitives).build()
    model = Model(desc, affine=False)
    assert {op.names for op in model.mixed_ops()} == {tuple(primitives)}
    assert all(isinstance(op, MixedOp) for op in model.ops())
    assert model(torch.randn(2, 3, 6, 6))[0].shape == (2, 10)


def test_an_unknown_candidate_is_refused_at_construction_with_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"no operation 'sep_conv_9x9'\. Did you mean 'sep_conv_7x7'"):
        DartsSpace(primitives=("sep_conv_9x9", "none"))


@pytest.mark.parametrize("primitives", [(), ("skip_connect",), ("none",), ("skip_connect", "skip_connect")])
def test_candidates_without_a_choice_are_refused_at_construction(primitives: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"an edge needs (at least two different candidates|a candidate other than)"):
        DartsSpace(primitives=primitives)


def test_images_need_not_be_square() -> None:
    desc = DartsSpace(1, (9, 14), 3, channels=2, cells=3, nodes=1, reductions=1).build()
    assert desc.cell_descs[-1].out_shape[1:] == (5, 7)
    assert Model(desc, affine=False)(torch.randn(2, 1, 9, 14))[0].shape == (2, 3)


def test_further_settings_go_by_their_short_names() -> None:
    desc = DartsSpace(stem_multiplier=1, merge="proj_channels", max_final_edges=3).build()
    assert desc.model_stems[0].conv.ch_out == 16
    assert desc.cell_descs[0].out_shape == (16, 32, 32)
    assert desc.max_final_edges == 3


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"unknown setting 'stem_multiplyer'\. Did you mean 'stem_multiplier'\?"):
        DartsSpace(stem_multiplyer=2)


def test_what_cannot_be_built_is_refused_at_construction() -> None:
    with pytest.raises(ValueError, match="2 reductions need at least 5 cells, got cells=4"):
        DartsSpace(cells=4)


def test_growing_takes_the_image_of_the_space() -> None:
    found = DartsSpace().from_genotype(PUBLISHED["DARTS_V1"])
    grown = DartsSpace(1, 28, 7).grow(found, channels=8, cells=10)
    assert grown.conf_model_desc.dataset.image_shape == (1, 28, 28)
    assert grown.logits_op.params["n_classes"] == 7
    assert grown.genotype() == PUBLISHED["DARTS_V1"]


def test_growing_does_not_change_the_settings_of_the_space() -> None:
    space = DartsSpace()
    before = space.conf
    space.grow(space.from_genotype(PUBLISHED["XNAS"]), channels=36, cells=20)
    assert space.conf == before
