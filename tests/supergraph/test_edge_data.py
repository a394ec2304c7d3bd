"""Tests of ``src/gradnas/supergraph/edge_data.py`` and of the updates of ``Model`` that hand out edges and nodes."""

import copy
import io
import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Identity, Parameter

from gradnas.arch import CellType
from gradnas.finalizers import Finalizers
from gradnas.ops import Op
from gradnas.spaces import DartsSpace
from gradnas.strategies import PcDarts, Xnas
from gradnas.supergraph import MixedOp, Model, Softmax
from gradnas.supergraph.edge_data import EdgeData, GraphEdge, GraphNode

OPS = ("skip_connect", "max_pool_3x3", "sep_conv_3x3", "none")
# Cells: normal, reduction, normal, reduction, normal. Each has 2 + 3 edges.
SPACE = DartsSpace(1, 8, 4, channels=2, cells=5, nodes=2, reductions=2, primitives=OPS)
STAGES = {0: "stage-1", 1: "stage-2", 2: "stage-2", 3: "stage-3", 4: "stage-3"}
EDGES = [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
X = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def model(space: DartsSpace = SPACE, **options: Any) -> Model:
    torch.manual_seed(0)
    return Model(space.build(), affine=False, **options)


def edges_of(graph: Model, scope: Any = None, private: bool = False) -> list[GraphEdge]:
    found: list[GraphEdge] = []
    calls = graph.update_edges(found.append, scope, private_edge_data=private)
    assert calls == len(found)
    return found


def edge_of(graph: Model, cell: int, head: int, tail: int) -> GraphEdge:
    (found,) = (e for e in edges_of(graph, private=True) if (e.cell, e.head, e.tail) == (cell, head, tail))
    return found


# --------------------------------------------------------------------------------------------------------------- scopes


def test_scopes_are_all_the_types_and_the_stages_there_are() -> None:
    assert model().scopes() == ["all", "normal", "reduction", "stage-1", "stage-2", "stage-3"]
    without = DartsSpace(1, 8, 4, channels=2, cells=2, nodes=1, reductions=0, primitives=OPS)
    assert model(without).scopes() == ["all", "normal", "stage-1"]


def test_cells_of_a_stage_have_one_output_size_and_the_next_stage_half_of_it() -> None:
    graph = model()
    sizes = {f"stage-{k}": 8 // 2 ** (k - 1) for k in (1, 2, 3)}
    for stage, size in sizes.items():
        cells = {edge.cell for edge in edges_of(graph, stage, private=True)}
        assert {graph.typed_cells()[c].desc.out_shape[1:] for c in cells} == {(size, size)}


@pytest.mark.parametrize(
    ("scope", "cells"),
    [
        (None, [0, 1, 2, 3, 4]),
        ("all", [0, 1, 2, 3, 4]),
        ("normal", [0, 2, 4]),
        ("reduction", [1, 3]),
        ("stage-1", [0]),
        ("stage-2", [1, 2]),
        ("stage-3", [3, 4]),
        (["stage-1", "reduction"], [0, 1, 3]),
        (("stage-1", "stage-3"), [0, 3, 4]),
        (["normal", "all"], [0, 1, 2, 3, 4]),
    ],
)
def test_private_update_visits_every_copy_in_scope_in_order(scope: Any, cells: list[int]) -> None:
    visited = [(edge.cell, edge.head, edge.tail) for edge in edges_of(model(), scope, private=True)]
    assert visited == [(cell, head, tail) for cell in cells for head, tail in EDGES]


@pytest.mark.parametrize(
    ("scope", "representatives"),
    [
        (None, [0, 1]),
        ("normal", [0]),
        ("reduction", [1]),
        ("stage-2", [1, 2]),
        ("stage-3", [3, 4]),
        (["stage-3", "stage-1"], [0, 3]),
    ],
)
def test_shared_update_visits_each_type_once_at_its_first_copy_in_scope(scope: Any, representatives: list[int]) -> None:
    assert Counter(edge.cell for edge in edges_of(model(), scope)) == {cell: len(EDGES) for cell in representatives}


def test_shared_update_through_a_later_copy_reaches_the_first() -> None:
    graph = model()
    counts: Counter[tuple[str, int, int]] = Counter()

    def count(edge: GraphEdge) -> None:
        edge.data.set("times", (edge.data.times if edge.data.has("times") else 0) + 1, shared=True)
        counts[str(graph.typed_cells()[edge.cell].desc.cell_type), edge.head, edge.tail] += 1

    graph.update_edges(count, "stage-3")
    assert set(counts.values()) == {1}
    assert len(counts) == 2 * len(EDGES)
    assert [edge.data.times for edge in edges_of(graph, private=True)] == [1] * 25


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("scope", ["stage-4", "regular", ["normal", "stage-4"], "", [], ()], ids=str)
def test_unknown_scope_names_those_there_are(scope: Any, private: bool) -> None:
    match = r"unknown scope .*Known: all, normal, reduction, stage-1, stage-2, stage-3\."
    for update in (model().update_edges, model().update_nodes):
        with pytest.raises(ValueError, match=match):
            update(lambda _: pytest.fail("called"), scope, private)


# ---------------------------------------------------------------------------------------------------- values of an edge


def test_private_values_belong_to_one_copy_and_shared_ones_to_the_type() -> None:
    graph = model()
    numbers = itertools.count()
    graph.update_edges(lambda edge: edge.data.set("own", next(numbers)), private_edge_data=True)
    graph.update_edges(lambda edge: edge.data.set("type", f"from {edge}", shared=True))
    found = edges_of(graph, private=True)
    assert [edge.data.own for edge in found] == list(range(25))
    first = {CellType.Regular: 0, CellType.Reduction: 1}
    for edge in found:
        cell = first[graph.typed_cells()[edge.cell].desc.cell_type]
        assert edge.data.type == f"from cells[{cell}] {edge.head} -> {edge.tail}"


def test_a_key_is_private_or_shared_but_not_both() -> None:
    data = edge_of(model(), 0, 0, 2).data
    data.set("mine", 1)
    data.set("ours", 2, shared=True)
    with pytest.raises(ValueError, match="'mine' is private already"):
        data.set("mine", 3, shared=True)
    with pytest.raises(ValueError, match="'ours' is shared already"):
        data.set("ours", 3)
    data.set("mine", 4)
    data.set("ours", 5, shared=True)
    assert (data.mine, data.ours) == (4, 5)


def test_op_is_always_private_and_alpha_and_rule_always_shared() -> None:
    data = edge_of(model(), 0, 0, 2).data
    with pytest.raises(ValueError, match=r"'op' is always private; write set\('op', …, shared=False\)"):
        data.set("op", data.op, shared=True)
    for key in ("alpha", "rule"):
        with pytest.raises(ValueError, match=rf"'{key}' is always shared; write set\('{key}', …, shared=True\)"):
            data.set(key, getattr(data, key))


def test_a_missing_value_names_those_there_are() -> None:
    data = edge_of(model(), 0, 0, 2).data
    data.set("cost", 3)
    assert data.has("cost")
    assert data.has("alpha")
    assert not data.has("costs")
    assert not data.has("_private")
    assert data.keys() == ["op", "alpha", "rule", "cost"]
    with pytest.raises(AttributeError, match=r"no data 'costs'.* Did you mean 'cost'\? Known: op, alpha, rule, cost"):
        _ = data.costs


def test_writing_an_attribute_is_refused_because_it_does_not_say_for_whom() -> None:
    data = edge_of(model(), 0, 0, 2).data
    with pytest.raises(AttributeError, match=r"data\.set\('cost', …, shared=…\)"):
        data.cost = 3
    assert not data.has("cost")


@pytest.mark.parametrize("key", ["set", "has", "keys", "finalize", "finalized", "_x", "two words", ""])
def test_what_cannot_be_read_back_cannot_be_a_key(key: str) -> None:
    with pytest.raises(ValueError, match="cannot be a key"):
        edge_of(model(), 0, 0, 2).data.set(key, 1)


def test_a_full_copy_of_the_model_has_values_of_its_own() -> None:
    graph = model()
    edge_of(graph, 0, 0, 2).data.set("mine", [1])
    edge_of(graph, 0, 0, 2).data.set("ours", [2], shared=True)
    twin = copy.deepcopy(graph)
    edge_of(twin, 0, 0, 2).data.mine.append(3)
    edge_of(twin, 4, 0, 2).data.ours.append(4)
    edge_of(twin, 4, 0, 2).data.set("alpha", Parameter(torch.ones(4)), shared=True)
    assert edge_of(graph, 0, 0, 2).data.mine == [1]
    assert edge_of(graph, 2, 0, 2).data.ours == [2]
    assert edge_of(twin, 2, 0, 2).data.ours == [2, 4]
    assert not torch.equal(edge_of(graph, 0, 0, 2).data.alpha, torch.ones(4))


def test_notes_are_no_part_of_the_stored_state() -> None:
    graph = model()
    before = list(graph.state_dict())
    graph.update_edges(lambda edge: edge.data.set("note", Parameter(torch.ones(1)), shared=True))
    assert list(graph.state_dict()) == before
    assert len(list(graph.parameters())) == len(list(model().parameters()))


# ------------------------------------------------------------------------------------------------------------ finalized


def test_a_finalized_copy_is_left_out_and_another_one_stands_for_the_type() -> None:
    graph = model()
    edge_of(graph, 0, 0, 2).data.finalize()
    private = [(edge.cell, edge.head, edge.tail) for edge in edges_of(graph, private=True)]
    assert (0, 0, 2) not in private
    assert len(private) == 24
    shared = [edge.cell for edge in edges_of(graph) if (edge.head, edge.tail) == (0, 2)]
    assert sorted(shared) == [1, 2]


def test_a_type_that_is_finalized_in_all_copies_is_not_visited() -> None:
    graph = model()
    graph.update_edges(lambda edge: edge.data.finalize(), "normal", private_edge_data=True)
    assert {edge.cell for edge in edges_of(graph)} == {1}
    assert edges_of(graph, "normal") == []


def test_finalizing_in_the_callback_does_not_hand_the_type_on_to_the_next_copy() -> None:
    assert model().update_edges(lambda edge: edge.data.finalize(), "normal") == len(EDGES)


def test_a_finalized_copy_cannot_be_set_but_its_shared_values_follow_the_others() -> None:
    graph = model()
    first, second = edge_of(graph, 0, 0, 2), edge_of(graph, 2, 0, 2)
    first.data.set("kept", 1)
    assert not first.data.finalized
    first.data.finalize()
    assert first.data.finalized
    assert not second.data.finalized
    for key, shared in (("kept", False), ("ours", True), ("op", False), ("alpha", True)):
        with pytest.raises(RuntimeError, match=f"'{key}' cannot be set: .*was finalized"):
            first.data.set(key, 2, shared=shared)
    second.data.set("ours", 3, shared=True)
    assert (first.data.kept, first.data.ours) == (1, 3)
    assert not first.data.has("finalized")


# ------------------------------------------------------------------------------------------------------ op, alpha, rule


@pytest.mark.parametrize("fused", [False, True])
def test_alpha_is_the_parameter_that_the_model_owns_stores_and_computes_with(fused: bool) -> None:
    graph = model(fused=fused).train()
    given = Parameter(torch.tensor([0.5, -0.5, 1.0, 0.0]))
    edge_of(graph, 4, 1, 3).data.set("alpha", given, shared=True)
    for cell in (0, 2, 4):
        assert edge_of(graph, cell, 1, 3).data.alpha is given
    owned = {id(value): name for name, value in graph.all_owned().items()}
    assert owned[id(given)].startswith("cells.0.")
    assert sum(value.data_ptr() == given.data_ptr() for value in graph.state_dict().values()) == 1
    assert sum(p is given for p in graph.parameters()) == 1
    graph(X)[0].square().sum().backward()
    assert given.grad is not None
    assert bool((given.grad != 0).any())
    assert edge_of(graph, 1, 1, 3).data.alpha is not given


@pytest.mark.parametrize("fused", [False, True])
def test_alpha_through_a_copy_gives_the_function_of_the_first_copys_table(fused: bool) -> None:
    one, other = model(fused=fused).double(), model(fused=fused).double()
    value = torch.tensor([0.5, -0.5, 1.0, 0.0], dtype=torch.float64)
    edge_of(one, 2, 2, 3).data.set("alpha", Parameter(value.clone()), shared=True)
    with torch.no_grad():
        other.owner_cells()[0].mixed_ops()[4].alphas.copy_(value)
    assert torch.equal(one(X.double())[0], other(X.double())[0])


def test_alpha_follows_what_torch_puts_in_its_place() -> None:
    graph, other = model(), model()
    edge_of(graph, 2, 0, 2).data.set("alpha", Parameter(torch.arange(4.0)), shared=True)
    buffer = io.BytesIO()
    torch.save(graph.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer), assign=True)
    assert torch.equal(edge_of(other, 4, 0, 2).data.alpha, torch.arange(4.0))
    assert sum(p is edge_of(other, 4, 0, 2).data.alpha for p in other.parameters()) == 1


def test_alpha_leaves_a_rule_that_learns_the_same() -> None:
    graph = model()
    rule = _Doubled()
    graph.set_mixing_rule(rule)
    edge_of(graph, 0, 0, 2).data.set("alpha", Parameter(torch.zeros(4)), shared=True)
    assert all(op.rule is rule for op in graph.mixed_ops())


@pytest.mark.parametrize("strategy", [Xnas(), PcDarts()], ids=str)
def test_alpha_brings_the_softmax_where_the_rule_learns_something_else(strategy: Any) -> None:
    graph = model()
    graph.set_mixing_rule(strategy.mixing_rule)
    graph.update_edges(lambda edge: edge.data.set("alpha", Parameter(torch.arange(4.0)), shared=True), "normal")
    for edge in edges_of(graph, private=True):
        changed = edge.cell in (0, 2, 4)
        assert (type(edge.data.rule) is Softmax) == changed
        assert (type(edge.data.op.rule) is Softmax) == changed
    expected = torch.arange(4.0).softmax(0)
    assert all(torch.equal(row, expected) for row in graph.mixing_weights()[4].unbind(0))  # type: ignore[union-attr]


def test_an_edge_whose_rule_learns_no_alphas_has_none() -> None:
    graph = model()
    graph.set_mixing_rule(Xnas().mixing_rule)
    data = edge_of(graph, 0, 0, 2).data
    assert not data.has("alpha")
    assert data.keys() == ["op", "rule"]


class _Doubled(Softmax):
    def weights(self, alphas_EN: Tensor) -> Tensor:
        return 2 * super().weights(alphas_EN)


def test_rule_applies_to_all_copies_and_keeps_the_alphas() -> None:
    graph = model()
    before = [edge.data.alpha for edge in edges_of(graph)]
    rule = _Doubled()
    graph.update_edges(lambda edge: edge.data.set("rule", rule, shared=True))
    assert all(op.rule is rule for op in graph.mixed_ops())
    assert all(edge.data.alpha is old for edge, old in zip(edges_of(graph), before, strict=True))
    rows = graph.mixing_weights()[4]
    assert rows is not None
    torch.testing.assert_close(rows.sum(1), torch.full((5,), 2.0))


def test_softmax_keeps_the_alphas_of_a_rule_that_learns_more() -> None:
    graph = model()
    graph.set_mixing_rule(PcDarts().mixing_rule)
    before = [edge.data.alpha for edge in edges_of(graph)]
    graph.update_edges(lambda edge: edge.data.set("rule", Softmax(), shared=True), "stage-3")
    assert all(edge.data.alpha is old for edge, old in zip(edges_of(graph), before, strict=True))
    assert all(list(op.arch_params()) == ["alphas"] for op in graph.mixed_ops())


def test_rule_that_learns_something_else_starts_afresh_everywhere() -> None:
    graph = model()
    rule = Xnas().mixing_rule
    graph.update_edges(lambda edge: edge.data.set("rule", rule, shared=True), "stage-3")
    assert not any(edge.data.has("alpha") for edge in edges_of(graph, private=True))
    graph(X)


@pytest.mark.parametrize("fused", [False, True])
def test_op_of_one_copy_is_replaced_in_that_copy(fused: bool) -> None:
    space = DartsSpace(1, 8, 4, channels=2, cells=2, nodes=1, reductions=0, primitives=OPS)
    graph = model(space, fused=fused)
    graph(X)

    def choose(edge: GraphEdge) -> None:
        edge.data.set("op", edge.data.op.candidates[0])

    graph.update_edges(choose, private_edge_data=True)
    assert not list(graph.mixed_ops())
    assert [type(edge.data.op).__name__ for edge in edges_of(graph, private=True)] == ["SkipConnect"] * 4
    assert not edges_of(graph)[0].data.has("alpha")
    s0 = graph.model_stems[0](X)
    s1 = s0
    for cell in graph.typed_cells():
        a, b = cell.stems[0](s0), cell.stems[1](s1)
        s0, s1 = s1, a + b
    torch.testing.assert_close(graph(X)[0], graph.logits_op(graph.pool_op(s1)))


@pytest.mark.parametrize("value", ["skip_connect", Identity(), [Identity(), Identity()]], ids=repr)
def test_op_must_be_an_operation(value: Any) -> None:
    with pytest.raises(TypeError, match="'op' must be an operation without a choice"):
        edge_of(model(), 0, 0, 2).data.set("op", value)


def test_op_cannot_bring_candidates_of_its_own() -> None:
    graph = model()
    op = edge_of(graph, 0, 0, 2).data.op
    assert isinstance(op, MixedOp)
    assert isinstance(op, Op)
    with pytest.raises(TypeError, match=r"got MixedOp. Candidates come from the description"):
        edge_of(graph, 2, 0, 2).data.set("op", op)


def test_alpha_of_another_kind_or_length_is_refused_and_nothing_changes() -> None:
    graph = model()
    data = edge_of(graph, 2, 0, 2).data
    before = data.alpha
    with pytest.raises(TypeError, match=r"'alpha' must be a Parameter of shape \(4,\), got Tensor"):
        data.set("alpha", torch.zeros(4), shared=True)
    with pytest.raises(ValueError, match=r"shape \(4,\), one number for each of \['skip_connect'.*got \(3,\)"):
        data.set("alpha", Parameter(torch.zeros(3)), shared=True)
    with pytest.raises(TypeError, match=r"'alpha' must be a Parameter.* got NoneType"):
        data.set("alpha", None, shared=True)
    with pytest.raises(TypeError, match="'rule' must be a MixingRule, got str"):
        data.set("rule", "softmax", shared=True)
    assert data.alpha is before
    assert edge_of(graph, 0, 0, 2).data.alpha is before


def test_a_discrete_network_has_edges_without_alphas() -> None:
    graph = Model(Finalizers().finalize_model(model()))
    data = edges_of(graph)[0].data
    assert data.keys() == ["op"]
    for key, value in (("alpha", Parameter(torch.zeros(4))), ("rule", Softmax())):
        with pytest.raises(ValueError, match=f"'{key}' cannot be set: the edge has no candidates"):
            data.set(key, value, shared=True)
    assert not any(edge.data.has("alpha") for edge in edges_of(graph, private=True))


def test_an_edge_that_reads_several_states_has_heads_but_no_head() -> None:
    edge = GraphEdge(1, (0, 2), 3, EdgeData({}, {}, {}))
    assert str(edge) == "cells[1] 0, 2 -> 3"
    with pytest.raises(ValueError, match=r"reads the states \(0, 2\); ask for its heads"):
        _ = edge.head


# ---------------------------------------------------------------------------------------------------------------- nodes


def nodes_of(graph: Model, scope: Any = None, private: bool = False) -> list[GraphNode]:
    found: list[GraphNode] = []
    assert graph.update_nodes(found.append, scope, private) == len(found)
    return found


def test_nodes_know_their_edges() -> None:
    first, second = nodes_of(model(), "stage-1")
    assert (first.cell, first.id, second.id) == (0, 2, 3)
    assert [(edge.head, edge.tail) for edge in first.incoming] == [(0, 2), (1, 2)]
    assert [(edge.head, edge.tail) for edge in first.outgoing] == [(2, 3)]
    assert [(edge.head, edge.tail) for edge in second.incoming] == [(0, 3), (1, 3), (2, 3)]
    assert second.outgoing == ()


def test_nodes_of_a_type_come_once_at_the_first_copy_in_scope_or_for_every_copy() -> None:
    graph = model()
    assert [(node.cell, node.id) for node in nodes_of(graph)] == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert [(node.cell, node.id) for node in nodes_of(graph, "stage-3")] == [(3, 2), (3, 3), (4, 2), (4, 3)]
    assert [node.cell for node in nodes_of(graph, "normal", private=True)] == [0, 0, 2, 2, 4, 4]


def test_values_of_a_node_are_its_own_and_not_those_of_an_edge() -> None:
    graph = model()
    graph.update_nodes(lambda node: node.data.set("note", node.id, shared=True), "stage-3")
    graph.update_nodes(lambda node: node.data.set("op", (node.cell, node.id)), private_edge_data=True)
    assert [node.data.note for node in nodes_of(graph, private=True)] == [2, 3] * 5
    assert [node.data.op for node in nodes_of(graph, "stage-3")] == [(3, 2), (3, 3), (4, 2), (4, 3)]
    assert not any(edge.data.has("note") for edge in edges_of(graph))


def test_a_finalized_node_is_left_out() -> None:
    graph = model()
    nodes_of(graph)[0].data.finalize()
    assert [(node.cell, node.id) for node in nodes_of(graph)] == [(0, 3), (1, 2), (1, 3), (2, 2)]
