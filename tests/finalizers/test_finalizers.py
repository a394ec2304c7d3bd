"""Tests of ``src/gradnas/finalizers/finalizers.py``."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradnas.arch import (
    DARTS_PRIMITIVES,
    PUBLISHED,
    CellDesc,
    CellType,
    ConvMacroParams,
    EdgeDesc,
    ModelDesc,
    NodeDesc,
    OpDesc,
    Params,
)
from gradnas.finalizers import Finalizers
from gradnas.ops import DropPath_
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Cell, DagEdge, Model

OPS = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "none")
REGULAR, REDUCTION = CellType.Regular, CellType.Reduction
DARTS_V2 = PUBLISHED["DARTS_V2"]

# Rows of alphas over OPS, and what they say in the words of a table.
POOL, SKIP, SEP, NONE = ([3.0 if i == k else 0.0 for i in range(4)] for k in range(4))
FLAT = [0.0] * 4


def supergraph(nodes: int = 2, **settings: Any) -> Model:
    torch.manual_seed(0)
    conf = {"channels": 2, "cells": 3, "reductions": 1, "primitives": OPS}
    space = DartsSpace(1, 8, 4, nodes=nodes, **{**conf, **settings})
    return Model(space.build(), affine=False)


def fill(model: Model, tables: Mapping[CellType, Sequence[Sequence[float]]]) -> Model:
    """Write a table of alphas into the cells of each type, one row per edge in (node, edge) order."""
    for cell in model.owner_cells():
        rows = tables.get(cell.desc.cell_type)
        if rows is None:
            rows = [[0.0] * len(op.names) for op in cell.mixed_ops()]
        for op, row in zip(cell.mixed_ops(), rows, strict=True):
            op.alphas.data.copy_(torch.tensor(row))
    return model


def kept(desc: ModelDesc, cell: int = 0) -> list[list[tuple[str, int]]]:
    """Per node the (op, source) pairs of a cell."""
    return [[(e.op_desc.name, e.input_ids[0]) for e in n.edges] for n in desc.cell_descs[cell].nodes()]


def finalized_row(*rows: Sequence[float]) -> list[tuple[str, int]]:
    """What is kept of the second node (three edges) of a regular cell whose table ends with these rows."""
    return kept(Finalizers().finalize_model(fill(supergraph(), {REGULAR: [FLAT, FLAT, *rows]})))[1]


# -------------------------------------------------------------------------------------------------- hand-written tables


def test_table_written_by_hand_gives_the_cell_it_describes() -> None:
    table = [SEP, POOL, SKIP, [0, 0, 9, 0], [5, 0, 0, 0]]
    desc = Finalizers().finalize_model(fill(supergraph(), {REGULAR: table}))
    assert kept(desc) == [[("sep_conv_3x3", 0), ("max_pool_3x3", 1)], [("sep_conv_3x3", 1), ("max_pool_3x3", 2)]]


def test_each_cell_type_follows_its_own_table() -> None:
    model = fill(supergraph(), {REGULAR: [SEP] * 5, REDUCTION: [POOL] * 5})
    desc = Finalizers().finalize_model(model)
    names = [{op for node in kept(desc, i) for op, _ in node} for i in range(3)]
    assert [cell.cell_type for cell in desc.cell_descs] == [REGULAR, REDUCTION, REGULAR]
    assert names == [{"sep_conv_3x3"}, {"max_pool_3x3"}, {"sep_conv_3x3"}]


def test_none_is_never_chosen_although_it_is_the_strongest() -> None:
    assert finalized_row([1, 2, 0, 9], SEP, SEP)[0][0] != "none"
    desc = Finalizers().finalize_model(fill(supergraph(), {REGULAR: [[1, 2, 0, 9]] * 5}))
    assert {op for node in kept(desc) for op, _ in node} == {"skip_connect"}


def test_edge_dominated_by_none_is_the_weakest() -> None:
    assert finalized_row([1, 2, 0, 9], [0.1, 0, 0, 0], [0, 0, 0.1, 0]) == [("max_pool_3x3", 1), ("sep_conv_3x3", 2)]


def test_strength_is_the_probability_and_not_the_logit() -> None:
    # algorithms.md, section 17: eight logits of 2 have strength 1/8, (1, -9, ...) has 0.9997.
    assert finalized_row([2] * 4, [1, -9, -9, -9], SEP) == [("max_pool_3x3", 1), ("sep_conv_3x3", 2)]


def test_ranks_are_the_worked_examples() -> None:
    model = supergraph(nodes=1, primitives=DARTS_PRIMITIVES)
    none_first = [0.0, *[-9.0] * 6, 5.0]
    ranks = []
    for row in ([2.0] * 8, [1.0, *[-9.0] * 7], none_first):
        fill(model, {REGULAR: [row] * 2})
        op, rank = Finalizers().finalize_edge(model.typed_cells()[0].edges()[0])
        assert op.op_desc.name == "max_pool_3x3"
        ranks.append(rank)
    assert ranks[0] == pytest.approx(0.125)
    assert ranks[1] == pytest.approx(0.9997, abs=5e-5)
    assert ranks[2] == pytest.approx(0.0067, abs=5e-5)


def test_earlier_of_equal_candidates_is_chosen() -> None:
    assert [op for op, _ in finalized_row([0, 2, 2, 0], [2, 2, 2, 2], [0, 0, 0, 0])] == ["skip_connect", "max_pool_3x3"]


def test_lower_input_wins_among_equally_strong_edges() -> None:
    assert finalized_row(SEP, SKIP, POOL) == [("sep_conv_3x3", 0), ("skip_connect", 1)]


def test_strongest_edge_comes_first_when_a_node_is_cut() -> None:
    assert finalized_row([0, 0, 1, 0], NONE, [0, 7, 0, 0]) == [("skip_connect", 2), ("sep_conv_3x3", 0)]


def test_edges_stay_in_input_order_when_a_node_is_not_cut() -> None:
    model = fill(supergraph(), {REGULAR: [[0, 0, 1, 0], [9, 0, 0, 0], FLAT, FLAT, FLAT]})
    assert kept(Finalizers().finalize_model(model))[0] == [("sep_conv_3x3", 0), ("max_pool_3x3", 1)]


def test_node_with_fewer_edges_than_the_limit_keeps_them_all() -> None:
    model = fill(supergraph(max_final_edges=3), {REGULAR: [SEP, NONE, NONE, SEP, POOL]})
    assert [[source for _, source in node] for node in kept(Finalizers().finalize_model(model))] == [[0, 1], [0, 1, 2]]


@pytest.mark.parametrize(("limit", "counts"), [(0, [0, 0, 0]), (1, [1, 1, 1]), (2, [2, 2, 2]), (9, [2, 3, 4])])
def test_limit_is_that_of_the_description(limit: int, counts: list[int]) -> None:
    desc = Finalizers().finalize_model(supergraph(nodes=3, max_final_edges=limit))
    assert [len(node) for node in kept(desc)] == counts


def test_published_genotype_comes_out_of_a_table_built_from_it() -> None:
    torch.manual_seed(0)
    model = Model(DartsSpace(channels=4, cells=8, nodes=4, reductions=2).build(), affine=False)
    nodes_of = {REGULAR: DARTS_V2.normal_nodes, REDUCTION: DARTS_V2.reduce_nodes}
    tables = {}
    for cell_type, nodes in nodes_of.items():
        rows = []
        for n, pairs in enumerate(nodes):
            strengths = {source: (op, 4.0 - k) for k, (op, source) in enumerate(pairs)}  # printed strongest first
            for source in range(n + 2):
                op, strength = strengths.get(source, ("none", 6.0))
                rows.append([strength if name == op else 0.0 for name in DARTS_PRIMITIVES])
        tables[cell_type] = rows
    assert Finalizers().finalize_model(fill(model, tables)).genotype() == DARTS_V2


# --------------------------------------------------------------------------------------------------------- select_edges


def ranked(*ranks: float) -> list[tuple[EdgeDesc, float]]:
    conv = ConvMacroParams(2, 2)
    return [(EdgeDesc(OpDesc("skip_connect", Params(conv=conv)), (i,)), rank) for i, rank in enumerate(ranks)]


def selected(limit: int, *ranks: float) -> list[int]:
    return [edge.input_ids[0] for edge in Finalizers().select_edges(ranked(*ranks), limit)]


@pytest.mark.parametrize(
    ("limit", "ranks", "expected"),
    [
        (2, (0.1, 0.3, 0.2), [1, 2]),
        (2, (0.1, 0.2), [0, 1]),
        (3, (0.1, 0.2), [0, 1]),
        (1, (0.2, 0.2, 0.2), [0]),
        (2, (0.1, 0.5, 0.5, 0.5), [1, 2]),
        (0, (0.1, 0.2), []),
        (2, (), []),
    ],
)
def test_strongest_edges_are_selected(limit: int, ranks: tuple[float, ...], expected: list[int]) -> None:
    assert selected(limit, *ranks) == expected


def test_equal_ranks_are_ordered_by_input_id_whatever_the_order_given() -> None:
    edges = ranked(0.5, 0.5, 0.5)[::-1]
    assert [e.input_ids for e in Finalizers().select_edges(edges, 2)] == [(0,), (1,)]


def test_selection_does_not_change_the_list_it_is_given() -> None:
    edges = ranked(0.1, 0.3, 0.2)
    Finalizers().select_edges(edges, 2)
    assert edges == ranked(0.1, 0.3, 0.2)


def test_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_final_edges must be at least 0, got -1\."):
        selected(-1, 0.1)


@pytest.mark.parametrize("limit", [1, 5])
def test_rank_that_is_not_a_number_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=r"ranks must be numbers, got \[0.1, nan, 0.3\]"):
        selected(limit, 0.1, math.nan, 0.3)


@pytest.mark.parametrize(("cell_type", "cell"), [(REGULAR, 0), (REDUCTION, 1)])
def test_diverged_architecture_parameter_is_refused_with_its_node_and_edge(cell_type: CellType, cell: int) -> None:
    model = fill(supergraph(), {cell_type: [FLAT, FLAT, FLAT, [0, math.nan, 0, 0], FLAT]})
    with pytest.raises(ValueError, match=rf"cells\[{cell}\]\.nodes\[1\].*edge 1 \(reads \(1,\)\) is not a number"):
        Finalizers().finalize_model(model)


# ------------------------------------------------------------------------------------------------------- required edges


def with_required_edges(where: Sequence[tuple[int, int]]) -> Model:
    """A supergraph whose edges (node, edge) of every cell are a plain skip without a choice."""

    def change(place: str, op: OpDesc) -> OpDesc:
        if not any(place.endswith(f"nodes.{n}.edges.{e}") for n, e in where):
            return op
        return OpDesc("skip_connect", Params({k: v for k, v in op.params.items() if k != "primitives"}))

    torch.manual_seed(0)
    return Model(supergraph().desc.map_ops(change), affine=False)


def test_required_edge_is_kept_outside_the_limit_and_comes_first() -> None:
    model = with_required_edges([(1, 2)])
    fill(model, {REGULAR: [FLAT, FLAT, SEP, [9, 0, 0, 0]], REDUCTION: [FLAT] * 4})
    expected = [("skip_connect", 2), ("sep_conv_3x3", 0), ("max_pool_3x3", 1)]
    assert kept(Finalizers().finalize_model(model))[1] == expected


def test_required_edges_stay_in_input_order() -> None:
    model = with_required_edges([(1, 1), (1, 0)])
    assert [source for _, source in kept(Finalizers().finalize_model(model))[1]] == [0, 1, 2]


def test_limit_zero_keeps_only_required_edges() -> None:
    model = with_required_edges([(1, 1)])
    conf = replace(model.desc.conf_model_desc, max_final_edges=0)
    model.desc = replace(model.desc, conf_model_desc=conf)
    assert kept(Finalizers().finalize_model(model)) == [[], [("skip_connect", 1)]]


def test_edges_without_a_choice_have_no_rank() -> None:
    node = with_required_edges([(1, 1)]).typed_cells()[0].nodes[1]
    assert isinstance(node, nn.ModuleList)
    required, optional = Finalizers().get_edge_ranks(node)
    assert [edge.input_ids for edge in required] == [(1,)]
    assert [edge.input_ids for edge, _ in optional] == [(0,), (2,)]
    assert all(0 < rank < 1 for _, rank in optional)


# ------------------------------------------------------------------------------------------------ the rest of the model


def test_everything_but_the_choice_is_that_of_the_supergraph() -> None:
    model = supergraph()
    desc = Finalizers().finalize_model(model)
    assert desc.conf_model_desc == model.desc.conf_model_desc
    assert desc.aux_tower_descs == model.desc.aux_tower_descs
    assert (desc.model_stems, desc.pool_op, desc.logits_op) == (
        model.desc.model_stems,
        model.desc.pool_op,
        model.desc.logits_op,
    )
    for new, old in zip(desc.cell_descs, model.desc.cell_descs, strict=True):
        assert (new.id, new.cell_type, new.trainables_from) == (old.id, old.cell_type, old.trainables_from)
        assert (new.stems, new.stem_shapes, new.post_op) == (old.stems, old.stem_shapes, old.post_op)
        assert (new.node_shapes, new.out_shape, new.conf_cell) == (old.node_shapes, old.out_shape, old.conf_cell)
        assert [n.conv_params for n in new.nodes()] == [n.conv_params for n in old.nodes()]


def test_auxiliary_towers_are_kept() -> None:
    space = DartsSpace(1, 32, 4, channels=2, cells=6, nodes=1, reductions=2, primitives=OPS, aux_weight=0.4)
    model = Model(space.build(), affine=False)
    desc = Finalizers().finalize_model(model)
    assert desc.has_aux_tower()
    assert desc.aux_tower_descs == model.desc.aux_tower_descs


@pytest.mark.parametrize("stems", [("stem_conv3x3", "stem_conv3x3"), ("stem_conv3x3", "stem_conv3x3Relu")])
def test_stems_carry_their_weights(stems: tuple[str, str]) -> None:
    model = supergraph(stems=stems)
    desc = Finalizers().finalize_model(model)
    for stem, built in zip(desc.model_stems, model.model_stems, strict=False):
        assert stem.trainables is not None
        assert all(torch.equal(v, built.state_dict()[k]) for k, v in stem.trainables["sd"].items())


def test_finalized_description_is_discrete_and_runs() -> None:
    desc = Finalizers().finalize_model(supergraph())
    assert not any(op.name in {"mixed_op", "none"} for _, op in desc.top_ops())
    built = Model(desc)
    assert not built.all_owned()
    assert built(torch.zeros(2, 1, 8, 8))[0].shape == (2, 4)


def test_finalizing_twice_gives_equal_results() -> None:
    model = supergraph()
    first, second = (Finalizers().finalize_model(model) for _ in range(2))
    assert first == second
    assert first.hash() == second.hash()


def test_cells_of_a_type_are_equal_and_nobody_is_warned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        desc = Finalizers().finalize_model(supergraph(cells=5))
    assert kept(desc, 0) == kept(desc, 1) == kept(desc, 4)


class EachCellItsOwn(Finalizers):
    """Keeps fewer edges in later cells."""

    def finalize_node(
        self, node: nn.ModuleList, node_index: int, node_desc: NodeDesc, max_final_edges: int, *args: Any, **kwargs: Any
    ) -> NodeDesc:
        limit = 1 if kwargs["cell_index"] == 2 else max_final_edges
        return super().finalize_node(node, node_index, node_desc, limit, *args, **kwargs)


def test_cells_of_a_type_that_differ_are_named_in_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"cells \[2\] chose other edges than cell 0, although both are regular"):
        Finalizers.finalize_model(EachCellItsOwn(), supergraph())


# ----------------------------------------------------------------------------------------------- leaves the model alone


def traces(model: Model) -> list[Tensor]:
    return [
        *(value.clone() for value in model.state_dict().values()),
        *(p.grad.clone() for p in model.parameters() if p.grad is not None),
        torch.tensor([m.training for m in model.modules()]),
        torch.tensor([p.requires_grad for p in model.parameters()]),
        torch.tensor([id(p) for p in model.parameters()]),
        torch.get_rng_state(),
    ]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("to_cpu", [True, False])
def test_model_is_left_as_it_was(training: bool, to_cpu: bool) -> None:
    model = supergraph()
    model(torch.ones(2, 1, 8, 8))[0].sum().backward()
    model.train(training)
    desc, before = model.desc.hash(), traces(model)
    Finalizers().finalize_model(model, to_cpu=to_cpu)
    assert same(before, traces(model))
    assert model.desc.hash() == desc


def test_model_is_left_as_it_was_after_an_error() -> None:
    model = supergraph().eval()
    model.typed_cells()[1].mixed_ops()[0].alphas.data.fill_(math.inf)
    before = traces(model)
    with pytest.raises(ValueError, match="not a number"):
        Finalizers().finalize_model(model)
    assert same(before, traces(model))


def test_generator_of_drop_path_is_left_as_it_was() -> None:
    model = supergraph()
    model.dropped = DropPath_(0.5, torch.Generator().manual_seed(1))
    before = model.dropped.generator.get_state()
    Finalizers().finalize_model(model)
    assert torch.equal(model.dropped.generator.get_state(), before)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("to_cpu", "restore", "moves"), [(True, True, ["cpu", "here"]), (True, False, ["cpu"]), (False, True, [])]
)
def test_model_moves_to_the_cpu_and_back(
    to_cpu: bool, restore: bool, moves: list[str], fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = supergraph()
    here, moved = next(model.parameters()).device, []
    monkeypatch.setattr(model, "to", lambda device: moved.append("cpu" if device == "cpu" else device))
    if fails:
        model.typed_cells()[0].mixed_ops()[0].alphas.data.fill_(math.nan)
        with pytest.raises(ValueError, match="not a number"):
            Finalizers().finalize_model(model, to_cpu, restore)
    else:
        Finalizers().finalize_model(model, to_cpu, restore)
    assert moved == [here if move == "here" else move for move in moves]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_model_on_an_accelerator_stays_there_and_the_weights_come_to_the_cpu() -> None:
    model = supergraph().to("cuda")
    on_device = Finalizers().finalize_model(model, to_cpu=False)
    desc = Finalizers().finalize_model(model)
    assert {p.device.type for p in model.parameters()} == {"cuda"}
    assert desc == on_device
    assert {v.device.type for d in (desc, on_device) for v in carried(d)} == {"cpu"}


# -------------------------------------------------------------------------------------------------------------- weights


def test_weights_are_detached_copies_on_the_cpu() -> None:
    model = supergraph()
    own = {p.data_ptr() for p in [*model.parameters(), *model.buffers()]}
    values = carried(Finalizers().finalize_model(model))
    assert len(values) > 100
    for value in values:
        assert value.device.type == "cpu"
        assert not value.requires_grad
        assert value.data_ptr() not in own


def carried(desc: ModelDesc) -> list[Tensor]:
    """All weights of a description; a second stem that is the first one carries none."""
    return [value for _, op in desc.top_ops() if op.trainables is not None for value in op.trainables["sd"].values()]


def test_training_on_does_not_change_weights_already_carried() -> None:
    model = fill(supergraph(), {REGULAR: [SEP] * 5})
    op = Finalizers().finalize_model(model).cell_descs[0].nodes()[0].edges[0].op_desc
    assert op.trainables is not None
    before = {name: value.clone() for name, value in op.trainables["sd"].items()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in op.trainables["sd"].items())


def test_architecture_parameters_are_not_carried() -> None:
    for _, op in Finalizers().finalize_model(supergraph()).top_ops():
        assert not any("alphas" in name for name in (op.trainables or {"sd": {}})["sd"])


@pytest.mark.parametrize("training", [True, False])
def test_network_of_a_one_hot_supergraph_gives_the_same_logits(training: bool) -> None:
    # exp(-800) is 0 in float64, so each row mixes exactly one candidate; edges that are cut mix none of theirs.
    ops = ("avg_pool_3x3", "skip_connect", "sep_conv_3x3", "none")
    model = supergraph(nodes=3, primitives=ops)
    numbers = torch.Generator().manual_seed(1)
    tables = {}
    for cell_type in (REGULAR, REDUCTION):
        rows = []
        for n in range(3):
            cut = torch.randperm(n + 2, generator=numbers)[2:].tolist()
            picks = torch.randint(len(ops) - 1, (n + 2,), generator=numbers).tolist()
            picks = [len(ops) - 1 if e in cut else pick for e, pick in enumerate(picks)]
            rows += [[800.0 if i == pick else 0.0 for i in range(len(ops))] for pick in picks]
        tables[cell_type] = rows
    fill(model, tables)
    model(torch.randn(8, 1, 8, 8, generator=numbers))  # running statistics of their own
    desc = Finalizers().finalize_model(model)
    child = Model(desc, affine=False).double().train(training)
    model.double().train(training)
    x = torch.randn(6, 1, 8, 8, generator=numbers, dtype=torch.float64)
    with torch.no_grad():
        expected, found = model(x)[0], child(x)[0]
    assert float(expected.std()) > 1e-2
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


# --------------------------------------------------------------------------------------------------- rules of one's own


def test_overriding_the_edge_is_enough_for_another_rule() -> None:
    class Last(Finalizers):
        """The last candidate that is not none, edges ranked by their input."""

        def finalize_edge(self, edge: DagEdge) -> tuple[EdgeDesc, float | None]:
            *_, (op, _), _ = edge.op.ops()
            return EdgeDesc(op.finalize()[0], edge.desc.input_ids), float(edge.input_ids[0])

    assert kept(Last().finalize_model(supergraph()))[1] == [("sep_conv_3x3", 2), ("sep_conv_3x3", 1)]


def test_overriding_the_selection_is_enough_for_another_rule() -> None:
    class Weakest(Finalizers):
        def select_edges(self, ranked: Sequence[tuple[EdgeDesc, float]], max_final_edges: int) -> list[EdgeDesc]:
            return [edge for edge, _ in sorted(ranked, key=lambda pair: pair[1])][:max_final_edges]

    model = fill(supergraph(), {REGULAR: [FLAT, FLAT, SEP, FLAT, [0, 0, 1, 0]]})
    assert [source for _, source in kept(Weakest().finalize_model(model))[1]] == [1, 2]


def test_overriding_the_cell_is_enough_for_another_rule() -> None:
    class OneEdge(Finalizers):
        def finalize_cell(
            self, cell: Cell, cell_index: int, model_desc: ModelDesc, *args: Any, **kwargs: Any
        ) -> CellDesc:
            conf = replace(model_desc.conf_model_desc, max_final_edges=1)
            return super().finalize_cell(cell, cell_index, replace(model_desc, conf_model_desc=conf))

    assert [len(node) for node in kept(OneEdge().finalize_model(supergraph()))] == [1, 1]
