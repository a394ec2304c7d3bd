"""Tests of ``src/gradnas/arch/cell_desc.py``."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gradnas.arch import (
    AuxTowerDesc,
    CellConf,
    CellDesc,
    CellType,
    ConvMacroParams,
    EdgeDesc,
    NodeDesc,
    OpDesc,
    Params,
)
from gradnas.arch.codec import decode, encode

MakeCell = Callable[..., CellDesc]
CONV = ConvMacroParams(4, 4)


def weights(name: str) -> dict[str, Any]:
    return {"name": name, "sd": {"w": 1}}


def trained(cell: CellDesc) -> CellDesc:
    return cell.map_ops(lambda place, op: replace(op, trainables={"name": op.name, "sd": {"w": place}}))


# ------------------------------------------------------------------------------------------------------------- edges


def test_edge_needs_as_many_ids_as_its_op_reads_inputs() -> None:
    with pytest.raises(ValueError, match=r"op 'a' reads 2 inputs, got the ids \(0,\)"):
        EdgeDesc(OpDesc("a", in_len=2), (0,))


def test_input_ids_of_an_edge_are_distinct() -> None:
    with pytest.raises(ValueError, match=r"input ids of op 'a' must be distinct, got \(1, 1\)"):
        EdgeDesc(OpDesc("a", in_len=2), (1, 1))


def test_input_ids_of_an_edge_are_not_negative() -> None:
    with pytest.raises(ValueError, match="input id of op 'a' must be at least 0, got -1"):
        EdgeDesc(OpDesc("a"), (-1,))


def test_input_ids_given_as_a_list_become_a_tuple() -> None:
    assert EdgeDesc(OpDesc("a", in_len=2), [1, 0]).input_ids == (1, 0)  # type: ignore[arg-type]


def test_clone_of_an_edge_replaces_the_channels_of_op_and_children_only() -> None:
    child = OpDesc("child", Params(conv=CONV, stride=2))
    op = OpDesc("parent", Params(conv=CONV, stride=1), 2, children=(child,), children_ins=(1,))
    new = ConvMacroParams(8, 6)
    clone = EdgeDesc(op, (3, 0)).clone(new, clear_trainables=True)
    expected_child = OpDesc("child", Params(conv=new, stride=2))
    expected = OpDesc("parent", Params(conv=new, stride=1), 2, children=(expected_child,), children_ins=(1,))
    assert clone == EdgeDesc(expected, (3, 0))


def test_clone_of_an_edge_without_channels_keeps_the_old_ones() -> None:
    edge = EdgeDesc(OpDesc("a", Params(conv=CONV)), (0,))
    assert edge.clone(None, clear_trainables=False) == edge


@pytest.mark.parametrize("conv", [None, ConvMacroParams(4, 4)])
@pytest.mark.parametrize("clear", [True, False])
def test_clone_of_an_edge_keeps_weights_unless_told(conv: ConvMacroParams | None, clear: bool) -> None:
    edge = EdgeDesc(OpDesc("a", Params(conv=CONV), trainables=weights("a")), (0,))
    assert edge.clone(conv, clear).op_desc.trainables == (None if clear else weights("a"))


# ------------------------------------------------------------------------------------------------------ auxiliary tower


@pytest.mark.parametrize("field", ["ch_in", "n_classes", "stride"])
def test_numbers_of_the_auxiliary_tower_are_at_least_one(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} of the auxiliary tower must be at least 1, got 0"):
        AuxTowerDesc(**{"ch_in": 8, "n_classes": 10, "stride": 3, field: 0})


def test_what_came_later_is_stored_where_it_is_used() -> None:
    usual, published = AuxTowerDesc(8, 10, 3), AuxTowerDesc(8, 10, 3, second_norm=False)
    assert encode(usual) == {"ch_in": 8, "n_classes": 10, "stride": 3}
    assert encode(published) == {"ch_in": 8, "n_classes": 10, "stride": 3, "second_norm": False}
    for tower in (usual, published):
        assert decode(AuxTowerDesc, encode(tower), "tower") == tower
    with pytest.raises(ValueError, match="field 'stride' is missing"):
        decode(AuxTowerDesc, {"ch_in": 8, "n_classes": 10}, "tower")


# --------------------------------------------------------------------------------------------------------------- cells


def test_cell_types_have_the_names_used_in_files() -> None:
    assert {member.name: member.value for member in CellType} == {"Regular": "regular", "Reduction": "reduction"}


def test_settings_and_weights_are_not_part_of_the_identity(make_cell: MakeCell) -> None:
    other = trained(make_cell(conf_cell=CellConf(n_nodes=7)))
    assert other == make_cell()
    assert hash(other) == hash(make_cell())


def test_deep_copy_of_a_cell_is_equal(make_cell: MakeCell) -> None:
    assert copy.deepcopy(make_cell()) == make_cell()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": -1}, "cell id must be at least 0, got -1"),
        ({"stems": (OpDesc("a"),)}, r"cells\[5\] needs exactly two stems and two stem shapes, got 1 and 2"),
        ({"stem_shapes": ((4, 8, 8),)}, r"cells\[5\] needs exactly two stems and two stem shapes, got 2 and 1"),
        ({"stem_shapes": ((4, 8, 8), (4, 8))}, r"cells\[5\].stem_shapes\[1\] must be \(channels, height, width\)"),
        ({"node_shapes": ((4, 8, 8),)}, r"cells\[5\] has 2 nodes but 1 node shapes"),
        ({"node_shapes": ((4, 8, 8), (4, 8, 4))}, r"cells\[5\]: all nodes must have one height and width"),
        ({"node_shapes": ((4, 8, 8), (4, -1, 8))}, r"cells\[5\].node_shapes\[1\], H must be at least 1, got -1"),
        ({"out_shape": (0, 8, 8)}, r"cells\[5\].out_shape, C must be at least 1, got 0"),
        ({"trainables_from": 6}, r"cells\[5\]: trainables_from must be an earlier cell or itself, got 6"),
        ({"trainables_from": -1}, r"cells\[5\]: trainables_from must be an earlier cell or itself, got -1"),
    ],
)
def test_contradiction_is_refused_with_its_place(make_cell: MakeCell, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make_cell(5), **changes)  # type: ignore[arg-type]


def test_nodes_may_differ_in_channels(make_cell: MakeCell) -> None:
    assert make_cell(node_shapes=((4, 8, 8), (6, 8, 8))).node_shapes[1][0] == 6


def test_edge_of_node_k_reads_states_up_to_k_plus_one_only(make_cell: MakeCell) -> None:
    def node(state: int) -> NodeDesc:
        return NodeDesc((EdgeDesc(OpDesc("a"), (state,)),), CONV)

    assert make_cell(5, node_descs=(node(1), node(2))).nodes()[1].edges[0].input_ids == (2,)
    with pytest.raises(ValueError, match=r"cells\[5\].nodes\[0\].edges\[0\] reads state 2, but only states 0-1 exist"):
        make_cell(5, node_descs=(node(2), node(2)))
    with pytest.raises(ValueError, match=r"cells\[5\].nodes\[1\].edges\[0\] reads state 3, but only states 0-2 exist"):
        make_cell(5, node_descs=(node(1), node(3)))


def test_lists_are_frozen(make_cell: MakeCell) -> None:
    cell = make_cell()
    again = replace(cell, stems=list(cell.stems), node_shapes=[list(s) for s in cell.node_shapes])  # type: ignore[arg-type]
    assert again == cell
    assert hash(again) == hash(cell)


def test_clone_with_another_id_keeps_its_owner(make_cell: MakeCell) -> None:
    clone = make_cell(1).clone(4)
    assert clone == replace(make_cell(1), id=4)
    assert clone.trainables_from == 1


def test_reset_nodes_returns_a_copy(make_cell: MakeCell) -> None:
    cell = make_cell()
    post_op = OpDesc("concate_channels", Params(out_states=1))
    changed = cell.reset_nodes(list(cell.nodes()[:1]), [(4, 8, 8)], post_op, (4, 8, 8))
    assert changed.nodes() == cell.nodes()[:1]
    assert (changed.node_shapes, changed.post_op, changed.out_shape) == (((4, 8, 8),), post_op, (4, 8, 8))
    assert len(cell.nodes()) == 2


def test_reset_nodes_checks_again(make_cell: MakeCell) -> None:
    cell = make_cell()
    with pytest.raises(ValueError, match="has 2 nodes but 1 node shapes"):
        cell.reset_nodes(cell.nodes(), [(4, 8, 8)], cell.post_op, cell.out_shape)


def test_empty_and_full_cells(make_cell: MakeCell) -> None:
    full = make_cell()
    empty_node = NodeDesc((), CONV)
    half = replace(full, node_descs=(full.nodes()[0], empty_node))
    empty = replace(full, node_descs=(empty_node, empty_node))
    assert [(cell.all_empty(), cell.all_full()) for cell in (full, half, empty)] == [
        (False, True),
        (False, False),
        (True, False),
    ]


PLACES = [
    "stems.0",
    "stems.1",
    "nodes.0.edges.0",
    "nodes.0.edges.1",
    "nodes.1.edges.0",
    "nodes.1.edges.1",
    "post_op",
]


def test_ops_come_in_order_with_their_places(make_cell: MakeCell) -> None:
    assert [place for place, _ in make_cell().top_ops()] == PLACES


def test_map_ops_calls_with_each_place_and_changes_a_copy(make_cell: MakeCell) -> None:
    cell = make_cell()
    changed = cell.map_ops(lambda place, op: OpDesc(place, in_len=op.in_len))
    assert [(place, op.name) for place, op in changed.top_ops()] == [(place, place) for place in PLACES]
    assert cell == make_cell()


def test_clear_trainables_returns_a_cell_without_weights(make_cell: MakeCell) -> None:
    cell = trained(make_cell())
    assert all(op.trainables is None for _, op in cell.clear_trainables().top_ops())
    assert all(op.trainables is not None for _, op in cell.top_ops())


def test_state_goes_through_a_cell_without_weights(make_cell: MakeCell) -> None:
    cell = trained(make_cell())
    again = make_cell().load_state_dict(cell.state_dict())
    assert again.state_dict() == cell.state_dict()


def test_state_of_another_cell_is_refused(make_cell: MakeCell) -> None:
    message = r"weights of cell 0 \(regular\) were given to cell 1 \(regular\)"
    with pytest.raises(ValueError, match=message):
        make_cell(1).load_state_dict(make_cell(0).state_dict())


def test_state_of_another_cell_type_is_refused(make_cell: MakeCell) -> None:
    with pytest.raises(ValueError, match=r"weights of cell 0 \(regular\) were given to cell 0 \(reduction\)"):
        make_cell(0, CellType.Reduction).load_state_dict(make_cell(0).state_dict())


def test_state_of_a_cell_with_other_edges_is_refused(make_cell: MakeCell) -> None:
    cell = make_cell()
    smaller = cell.reset_nodes(cell.nodes()[:1], cell.node_shapes[:1], cell.post_op, cell.out_shape)
    with pytest.raises(ValueError, match=r"cells\[0\]: the stored weights are of a cell with other nodes or edges"):
        smaller.load_state_dict(cell.state_dict())
