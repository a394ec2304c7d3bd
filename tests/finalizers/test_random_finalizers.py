"""Tests of ``src/gradnas/finalizers/random_finalizers.py``."""

from collections import Counter
from itertools import combinations, product
from typing import Any

import pytest
import torch
from torch import nn

from gradnas.arch import ModelDesc, NodeDesc, OpDesc, Params
from gradnas.finalizers import RandomFinalizers
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Cell, Model

OPS = ("none", "skip_connect", "identity")
SEEDS = 2000  # the counts follow from them, so a bound that holds once holds always


def supergraph(nodes: int = 2, cells: int = 4, **settings: Any) -> Model:
    torch.manual_seed(0)
    conf = {"channels": 2, "reductions": 1, "primitives": ("none", "avg_pool_3x3", "skip_connect", "sep_conv_3x3")}
    return Model(DartsSpace(1, 8, 4, cells=cells, nodes=nodes, **{**conf, **settings}).build(), affine=False)


@pytest.fixture(scope="module")
def model() -> Model:
    return supergraph()


@pytest.fixture(scope="module")
def cell() -> Cell:
    """A cell without weights in its candidates, cheap to finalize thousands of times."""
    return supergraph(nodes=3, cells=1, reductions=0, primitives=OPS).typed_cells()[0]


def node_of(cell: Cell, n: int, seed: int, limit: int = 2, owner: int = 0, **settings: Any) -> NodeDesc:
    node = cell.nodes[n]
    assert isinstance(node, nn.ModuleList)
    drawer = RandomFinalizers(seed, **settings)
    return drawer.finalize_node(node, n, cell.desc.nodes()[n], limit, cell_index=0, trainables_from=owner)


def picks(node: NodeDesc) -> tuple[tuple[str, int], ...]:
    return tuple((edge.op_desc.name, edge.input_ids[0]) for edge in node.edges)


def drawn(model: Model, seed: int, **settings: Any) -> ModelDesc:
    return RandomFinalizers(seed, **settings).finalize_model(model)


def chi_square(counts: Counter[Any], outcomes: list[Any]) -> float:
    assert set(counts) <= set(outcomes)
    expected = counts.total() / len(outcomes)
    return sum((counts[outcome] - expected) ** 2 / expected for outcome in outcomes)


def bound(outcomes: list[Any]) -> float:
    """Mean plus six standard deviations of the chi-square distribution of so many outcomes."""
    free = len(outcomes) - 1
    return free + 6 * (2 * free) ** 0.5


# -------------------------------------------------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("seed", range(20))
def test_edges_of_a_node_are_distinct_and_as_many_as_the_limit(seed: int, cell: Cell) -> None:
    for n in range(3):
        sources = [source for _, source in picks(node_of(cell, n, seed))]
        assert len(sources) == 2
        assert sources == sorted(set(sources))


@pytest.mark.parametrize("allow_same_edge", [False, True])
def test_none_is_never_drawn(allow_same_edge: bool, cell: Cell) -> None:
    nodes = [node_of(cell, 2, seed, allow_same_edge=allow_same_edge) for seed in range(200)]
    assert {op for node in nodes for op, _ in picks(node)} == set(OPS) - {"none"}


def test_node_with_fewer_edges_than_the_limit_keeps_them_all(cell: Cell) -> None:
    assert [source for _, source in picks(node_of(cell, 0, 1, limit=5))] == [0, 1]


def test_limit_zero_draws_nothing(cell: Cell) -> None:
    assert picks(node_of(cell, 1, 1, limit=0)) == ()


@pytest.mark.parametrize("allow_same_edge", [False, True])
def test_negative_limit_is_refused(allow_same_edge: bool, cell: Cell) -> None:
    with pytest.raises(ValueError, match=r"max_final_edges must be at least 0, got -1\."):
        node_of(cell, 1, 1, limit=-1, allow_same_edge=allow_same_edge)


def test_edges_and_candidates_are_uniform_and_independent(cell: Cell) -> None:
    names = [name for name in OPS if name != "none"]
    outcomes = [((a, i), (b, j)) for i, j in combinations(range(4), 2) for a, b in product(names, names)]
    counts = Counter(picks(node_of(cell, 2, seed)) for seed in range(SEEDS))
    assert chi_square(counts, outcomes) < bound(outcomes)
    sources = Counter(tuple(source for _, source in pair) for pair in counts.elements())
    assert chi_square(sources, list(combinations(range(4), 2))) < bound(list(range(6)))


def test_nodes_draw_independently_of_each_other(cell: Cell) -> None:
    first = [picks(node_of(cell, 0, seed)) for seed in range(SEEDS // 4)]
    second = [picks(node_of(cell, 1, seed)) for seed in range(SEEDS // 4)]
    pairs = Counter((a[0][0], b[0][0]) for a, b in zip(first, second, strict=True))
    outcomes = list(product(OPS[1:], OPS[1:]))
    assert chi_square(pairs, outcomes) < bound(outcomes)


def test_draw_depends_on_the_place_of_the_node(cell: Cell) -> None:
    node, desc = cell.nodes[2], cell.desc.nodes()[2]
    assert isinstance(node, nn.ModuleList)
    here, there = (
        [picks(RandomFinalizers(seed).finalize_node(node, n, desc, 2, trainables_from=0)) for seed in range(20)]
        for n in (2, 3)
    )
    assert sum(a == b for a, b in zip(here, there, strict=True)) < 10


def test_pairs_are_uniform_when_one_edge_may_be_drawn_twice(cell: Cell) -> None:
    pairs = list(product(OPS[1:], range(4)))
    outcomes = [frozenset(two) for two in combinations(pairs, 2)]
    counts = Counter(frozenset(picks(node_of(cell, 2, seed, allow_same_edge=True))) for seed in range(SEEDS // 2))
    assert chi_square(counts, outcomes) < bound(outcomes)


def test_one_edge_may_be_drawn_twice_when_allowed(cell: Cell) -> None:
    sources = [[s for _, s in picks(node_of(cell, 0, seed, allow_same_edge=True))] for seed in range(50)]
    assert any(a == b for a, b in sources)


def test_architecture_parameters_have_no_influence(model: Model) -> None:
    other = supergraph()
    for op in other.mixed_ops():
        op.alphas.data.copy_(torch.randn(4) * 5)
    assert drawn(model, 3) == drawn(other, 3)


def test_edges_without_a_choice_are_kept_beside_those_drawn() -> None:
    def change(place: str, op: OpDesc) -> OpDesc:
        if not place.endswith("nodes.2.edges.3"):
            return op
        return OpDesc("skip_connect", Params({k: v for k, v in op.params.items() if k != "primitives"}))

    changed = Model(supergraph(nodes=3).desc.map_ops(change), affine=False)
    for seed in range(5):
        pairs = picks(drawn(changed, seed).cell_descs[0].nodes()[2])
        assert pairs[0] == ("skip_connect", 3)
        assert len({source for _, source in pairs}) == 3


# ------------------------------------------------------------------------------------------------- seeds, types, purity


def test_cells_of_a_type_are_equal(model: Model) -> None:
    for seed in range(5):
        desc = drawn(model, seed)
        nodes = [[picks(n) for n in cell.nodes()] for cell in desc.cell_descs if cell.cell_type.value == "regular"]
        assert len(nodes) == 3
        assert nodes[0] == nodes[1] == nodes[2]
        desc.genotype()  # refuses cells of a type that differ


def test_cell_types_draw_apart(model: Model) -> None:
    def of_type(desc: ModelDesc, i: int) -> list[Any]:
        return [picks(n) for n in desc.cell_descs[i].nodes()]

    assert model.desc.cell_descs[2].cell_type.value == "reduction"
    descs = [drawn(model, seed) for seed in range(5)]
    assert any(of_type(desc, 0) != of_type(desc, 2) for desc in descs)


def test_same_seed_draws_the_same_and_another_does_not(model: Model) -> None:
    assert drawn(model, 1) == drawn(model, 1)
    assert drawn(supergraph(), 1) == drawn(model, 1)
    assert len({drawn(model, seed).hash() for seed in range(4)}) == 4


def test_draw_does_not_depend_on_what_was_drawn_before(model: Model) -> None:
    drawer = RandomFinalizers(1)
    assert drawer.finalize_model(model) == drawer.finalize_model(model)


def test_draw_does_not_depend_on_the_number_of_later_cells(model: Model) -> None:
    shallow, deep = (drawn(supergraph(cells=cells), 2) for cells in (3, 4))
    assert [picks(n) for n in shallow.cell_descs[0].nodes()] == [picks(n) for n in deep.cell_descs[0].nodes()]


def test_global_random_numbers_and_the_model_are_left_as_they_were(model: Model) -> None:
    state, weights = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    drawn(model, 1)
    assert torch.equal(torch.rand(1), expected)
    torch.set_rng_state(state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_chosen_candidate_carries_its_own_weights(model: Model) -> None:
    for seed in range(4):
        for cell, desc in zip(model.typed_cells(), drawn(model, seed).cell_descs, strict=True):
            for n, node in enumerate(desc.nodes()):
                for edge in node.edges:
                    mixed = cell.nodes[n][edge.input_ids[0]].op
                    candidate = mixed.candidates[mixed.names.index(edge.op_desc.name)]
                    own = candidate.state_dict()
                    assert edge.op_desc.trainables is not None
                    assert edge.op_desc.trainables["sd"].keys() == own.keys()
                    assert all(torch.equal(v, own[k]) for k, v in edge.op_desc.trainables["sd"].items())


def test_drawn_network_is_discrete_and_runs(model: Model) -> None:
    desc = drawn(model, 1)
    assert not any(op.name in {"mixed_op", "none"} for _, op in desc.top_ops())
    assert Model(desc)(torch.zeros(2, 1, 8, 8))[0].shape == (2, 4)
