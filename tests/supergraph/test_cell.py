"""Tests of ``src/gradnas/supergraph/cell.py``."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gradnas.arch import (
    CellConf,
    CellDesc,
    CellType,
    ConvMacroParams,
    EdgeDesc,
    NodeDesc,
    OpDesc,
    Params,
)
from gradnas.ops import OPS, ArchParams, Op, OpRegistry
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Cell, Model

CONV = ConvMacroParams(1, 1)


class Times(Op):
    """Multiply by ``params['factor']``, 1 when absent: answers are known by hand."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def new_times(op_desc: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
    return Times(float(str(op_desc.params.get("factor", 1.0))))


REGISTRY = OpRegistry(parent=OPS)
REGISTRY.register_op("times", new_times)


def times(factor: float = 1.0) -> OpDesc:
    return OpDesc("times", Params(conv=CONV, factor=factor))


def choice(*primitives: str) -> OpDesc:
    return OpDesc("mixed_op", Params(conv=CONV, primitives=primitives))


def cell_desc(nodes: Sequence[Sequence[tuple[OpDesc, int]]], *, concat: tuple[int, ...] = (), id: int = 0) -> CellDesc:
    """A regular cell of one channel on a 2×2 map, from (op, state it reads) pairs per node."""
    merged = len(concat) or len(nodes)
    params = Params(conv=ConvMacroParams(merged, merged), out_states=merged)
    return CellDesc(
        id=id,
        cell_type=CellType.Regular,
        conf_cell=CellConf(n_nodes=len(nodes)),
        stems=(times(), times()),
        stem_shapes=((1, 2, 2), (1, 2, 2)),
        node_descs=tuple(NodeDesc(tuple(EdgeDesc(op, (i,)) for op, i in node), CONV) for node in nodes),
        node_shapes=((1, 2, 2),) * len(nodes),
        post_op=OpDesc("concate_channels", params.replace(concat_ids=concat) if concat else params),
        out_shape=(merged, 2, 2),
        trainables_from=0,
    )


def make(desc: CellDesc, owner: Cell | None = None) -> Cell:
    return Cell(desc, True, False, owner, registry=REGISTRY)


def run(cell: Cell, s0: float = 1.0, s1: float = 10.0, weights: Tensor | None = None) -> list[float]:
    """Output per channel for constant inputs."""
    out = cell(torch.full((1, 1, 2, 2), s0), torch.full((1, 1, 2, 2), s1), weights)
    assert (out == out[:, :, :1, :1]).all()
    return [float(value) for value in out[0, :, 0, 0].detach()]


def dense(n_nodes: int, op: OpDesc) -> CellDesc:
    return cell_desc([[(op, i) for i in range(n + 2)] for n in range(n_nodes)])


# ------------------------------------------------------------------------------------------------------------- forward


def test_a_node_is_the_plain_sum_of_its_edges() -> None:
    nodes = [[(times(2), 0), (times(3), 1)], [(times(5), 2), (times(7), 0)]]
    assert run(make(cell_desc(nodes))) == [2 + 30, 5 * 32 + 7]


def test_a_node_of_one_edge_is_that_edge() -> None:
    assert run(make(cell_desc([[(times(3), 1)]]))) == [30]


def test_stems_pre_process_the_inputs_in_order() -> None:
    desc = replace(cell_desc([[(times(), 0)], [(times(), 1)]]), stems=(times(2), times(3)))
    assert run(make(desc)) == [2, 30]


def test_states_are_inputs_then_nodes_in_order() -> None:
    nodes = [[(times(100), 0)], [(times(1000), 0)]]
    assert run(make(cell_desc(nodes, concat=(0, 1, 2, 3)))) == [1, 10, 100, 1000]


def test_merge_follows_the_listed_ids() -> None:
    nodes = [[(times(100), 0)], [(times(1000), 0)]]
    assert run(make(cell_desc(nodes, concat=(3, 1)))) == [1000, 10]


def test_a_node_without_edges_copies_the_last_state() -> None:
    assert run(make(cell_desc([[], [(times(2), 0)], []]))) == [10, 2, 2]


def test_the_copy_of_a_node_without_edges_is_independent() -> None:
    seen: list[Tensor] = []
    cell = make(cell_desc([[], []]))
    cell.post_op.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    run(cell)
    assert len({state.data_ptr() for state in seen[1:]}) == 3


def test_row_of_an_edge_is_its_place_in_node_then_edge_order() -> None:
    weights = torch.tensor([[1.0, 0], [2, 0], [3, 0], [5, 0], [7, 0]])
    n0 = 1 * 1 + 2 * 10
    assert run(make(dense(2, choice("times", "none"))), weights=weights) == [n0, 3 * 1 + 5 * 10 + 7 * n0]


def test_edges_without_a_choice_take_no_row() -> None:
    mixed = choice("times", "none")
    nodes = [[(times(2), 0), (mixed, 1)], [(times(3), 1), (mixed, 0)]]
    assert run(make(cell_desc(nodes)), weights=torch.tensor([[0.5, 0], [4.0, 0]])) == [2 + 5, 30 + 4]


def test_without_weights_the_cell_applies_the_rule_to_its_alphas() -> None:
    cell = make(dense(2, choice("times", "none")))
    with torch.no_grad():
        for k, op in enumerate(cell.mixed_ops()):
            op.alphas.copy_(torch.tensor([0.0, float(k)]))
    shares = [1 / (1 + torch.e**k) for k in range(5)]
    n0 = shares[0] + 10 * shares[1]
    assert run(cell) == pytest.approx([n0, shares[2] + 10 * shares[3] + n0 * shares[4]])


def test_inputs_are_not_changed() -> None:
    model = Model(DartsSpace(channels=4, cells=1, nodes=2, reductions=0, image_size=6).build(), affine=False)
    s = torch.randn(2, 12, 6, 6)
    before = s.clone()
    model.typed_cells()[0](s, s)
    assert torch.equal(s, before)


@pytest.mark.parametrize("rows", [4, 6])
def test_wrong_number_of_rows_names_the_cell(rows: int) -> None:
    cell = make(dense(2, choice("times", "none")))
    with pytest.raises(ValueError, match=rf"cells\[0\] has 5 edges that hold a choice, .* shape \({rows}, 2\)"):
        run(cell, weights=torch.zeros(rows, 2))


# ----------------------------------------------------------------------------------------------------------- structure


@pytest.mark.parametrize(("n_nodes", "expected"), [(1, 2), (2, 5), (3, 9), (4, 14), (5, 20)])
def test_number_of_edges_of_a_dense_cell(n_nodes: int, expected: int) -> None:
    cell = make(dense(n_nodes, times()))
    assert len(cell.edges()) == expected
    assert cell.mixed_ops() == []


def test_edges_come_in_node_then_edge_order() -> None:
    cell = make(dense(2, times()))
    assert cell.edges() == [cell.nodes[0][0], cell.nodes[0][1], cell.nodes[1][0], cell.nodes[1][1], cell.nodes[1][2]]


def test_edges_of_a_dense_cell_of_four_nodes_read_five_tensors() -> None:
    seen: dict[int, Tensor] = {}
    cell = make(dense(4, choice("times", "none")))
    for op in cell.mixed_ops():
        op.register_forward_pre_hook(lambda _, inputs: seen.update({id(inputs[0]): inputs[0]}))
    run(cell)
    assert len(seen) == 5


def test_alphas_are_the_rows_of_the_mixed_ops() -> None:
    cell = make(dense(2, choice("times", "skip_connect", "none")))
    alphas, weights = cell.alphas(), cell.mixing_weights()
    assert alphas is not None
    assert weights is not None
    assert alphas.shape == (5, 3)
    assert all(torch.equal(row, op.alphas) for row, op in zip(alphas, cell.mixed_ops(), strict=True))
    torch.testing.assert_close(weights, alphas.softmax(1))


def test_the_output_reaches_every_alpha_through_the_rule() -> None:
    cell = make(dense(2, choice("times", "skip_connect", "none")))
    cell(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).sum().backward()
    assert all(op.alphas.grad is not None and (op.alphas.grad != 0).all() for op in cell.mixed_ops())


def test_a_discrete_cell_has_no_alphas() -> None:
    cell = make(dense(2, times()))
    assert cell.alphas() is None
    assert cell.mixing_weights() is None


@pytest.mark.parametrize("affine", [True, False])
def test_affine_reaches_stems_edges_and_merge(affine: bool) -> None:
    space = DartsSpace(channels=4, cells=1, nodes=1, reductions=0, merge="proj_channels")
    cell = Cell(space.build().cell_descs[0], affine, False, None)
    norms = [m for m in cell.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    # stems, merge, and per edge two separable convolutions of two norms, two dilated ones, two pools in search
    assert len(norms) == 2 + 1 + 2 * (4 + 2 + (0 if affine else 2))
    assert {norm.affine for norm in norms} == {affine}


# ------------------------------------------------------------------------------------------------------------- sharing


def test_alphas_are_those_of_the_owner() -> None:
    desc = dense(3, choice("times", "none"))
    owner = make(desc)
    user = make(desc.clone(1), owner)
    assert [id(op.alphas) for op in user.mixed_ops()] == [id(op.alphas) for op in owner.mixed_ops()]
    assert not user.all_owned()
    assert len(owner.all_owned()) == 9


def test_a_choice_without_counterpart_is_refused() -> None:
    mixed = choice("times", "none")
    owner = make(cell_desc([[(mixed, 0)]]))
    longer = cell_desc([[(mixed, 0), (mixed, 1)]], id=1)
    with pytest.raises(ValueError, match=r"cells\[1\]\.nodes\[0\]\.edges\[1\] has no counterpart in cells\[0\]"):
        make(longer, owner)


def test_a_node_of_choices_without_counterpart_is_refused() -> None:
    mixed = choice("times", "none")
    owner = make(cell_desc([[(mixed, 0)]]))
    with pytest.raises(ValueError, match=r"cells\[1\]\.nodes\[1\]\.edges\[0\] has no counterpart in cells\[0\]"):
        make(cell_desc([[(mixed, 0)], [(mixed, 1)]], id=1), owner)


def test_a_choice_whose_counterpart_holds_none_is_refused() -> None:
    owner = make(cell_desc([[(times(), 0)]]))
    with pytest.raises(ValueError, match=r"cells\[1\]\.nodes\[0\]\.edges\[0\] has no counterpart"):
        make(cell_desc([[(choice("times", "none"), 0)]], id=1), owner)


def test_fewer_choices_than_the_owner_are_refused() -> None:
    mixed = choice("times", "none")
    owner = make(cell_desc([[(mixed, 0), (mixed, 1)], [(mixed, 0)]]))
    with pytest.raises(ValueError, match=r"cells\[1\] has 2 edges that hold a choice, but cells\[0\], .*, has 3"):
        make(cell_desc([[(mixed, 0)], [(mixed, 0)]], id=1), owner)


def test_the_owners_candidates_in_another_order_are_refused() -> None:
    owner = make(cell_desc([[(choice("times", "none"), 0)]]))
    with pytest.raises(ValueError, match=r"cells\[1\]\.nodes\[0\]\.edges\[0\] has the candidates \['none', 'times'\]"):
        make(cell_desc([[(choice("none", "times"), 0)]], id=1), owner)


def test_another_number_of_candidates_than_the_owner_is_refused() -> None:
    owner = make(cell_desc([[(choice("times", "none"), 0)]]))
    with pytest.raises(ValueError, match=r"cells\[1\]\.nodes\[0\]\.edges\[0\]: shared alphas have shape \(2,\)"):
        make(cell_desc([[(choice("times", "skip_connect", "none"), 0)]], id=1), owner)


def test_the_owner_has_no_effect_on_a_discrete_cell() -> None:
    owner = make(cell_desc([[(times(), 0)]]))
    user = make(cell_desc([[(times(2), 0), (times(3), 1)], [(times(5), 2)]], id=1), owner)
    assert run(user) == [32, 160]


def test_edges_of_a_cell_need_one_number_of_candidates() -> None:
    nodes = [[(choice("times", "none"), 0), (choice("times", "skip_connect", "none"), 1)]]
    with pytest.raises(ValueError, match=r"cells\[0\] has edges with \[2, 3\] candidates; all edges of a cell need"):
        make(cell_desc(nodes))


# ------------------------------------------------------------------------------------------------------ errors of ops


def test_an_op_that_refuses_its_description_is_named_by_place() -> None:
    strided = OpDesc("identity", Params(conv=CONV, stride=2))
    with pytest.raises(ValueError, match=r"^cells\[3\]\.nodes\[0\]\.edges\[1\]: 'identity' keeps size and channels"):
        make(cell_desc([[(times(), 0), (strided, 1)]], id=3))


def test_an_unknown_op_is_named_by_place() -> None:
    with pytest.raises(
        KeyError, match=r"cells\[3\]\.nodes\[0\]\.edges\[0\]: no operation 'tims'\. Did you mean 'times'"
    ):
        make(cell_desc([[(OpDesc("tims", Params(conv=CONV)), 0)]], id=3))


def test_a_bad_stem_is_named_by_place() -> None:
    odd = OpDesc("prepr_reduce", Params(conv=ConvMacroParams(1, 3)))
    with pytest.raises(ValueError, match=r"^cells\[0\]\.stems\[0\]: 'prepr_reduce' .* even number"):
        make(replace(cell_desc([[(times(), 0)]]), stems=(odd, times())))


def test_a_bad_merge_is_named_by_place() -> None:
    merge = OpDesc("concate_channels", Params(conv=CONV, out_states=2, concat_ids=(2,)))
    with pytest.raises(ValueError, match=r"^cells\[0\]\.post_op: .* disagree"):
        make(replace(cell_desc([[(times(), 0)]]), post_op=merge))


def test_an_edge_that_reads_a_later_state_is_refused_when_described() -> None:
    with pytest.raises(ValueError, match=r"cells\[0\]\.nodes\[1\]\.edges\[0\] reads state 3, but only states 0-2"):
        cell_desc([[(times(), 0)], [(times(), 3)]])
