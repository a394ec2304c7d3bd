"""Tests of ``src/gradnas/pipeline/discretized.py``, and of the drop in accuracy that a search records.

The reference is the network that is really built from the description, as a search network, with its weights; for
partial channels, whose description carries none, a forward pass written out here.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gradnas.arch import ModelDesc, OpDesc, Params
from gradnas.data import DataLoaders
from gradnas.finalizers import Finalizers, RandomFinalizers
from gradnas.foundation.seeds import seeded_initialization
from gradnas.pipeline import ArchTrainer
from gradnas.pipeline.discretized import Discretized
from gradnas.spaces import DartsSpace
from gradnas.strategies import Darts, PcDarts, Xnas
from gradnas.supergraph import MixedOp, Model

PRIMITIVES = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]


def supergraph(desc: ModelDesc | None = None, *, seed: int = 0, fused: bool = False, strategy: Any = None) -> Model:
    """With alphas far apart, and statistics that moved."""
    if desc is None:
        desc = DartsSpace(1, 8, 5, channels=4, cells=4, nodes=3, reductions=1, primitives=PRIMITIVES).build()
    with seeded_initialization(seed, "test"):
        model = Model(desc if strategy is None else strategy.supergraph(desc), affine=False, fused=fused)
        if strategy is not None:
            model.set_mixing_rule(strategy.mixing_rule)
        with torch.no_grad():
            for value in model.all_owned().values():
                if isinstance(value, Tensor) and value.is_floating_point():
                    value.copy_(torch.randn(value.shape))
            for _ in range(3):
                model.train()(2.0 * torch.randn(8, 1, 8, 8) + 1.0)
    return model


def images(n: int = 6) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def logits_of(module: Any) -> Tensor:
    """In float64: the weights were copied in float32, which loses nothing."""
    with torch.no_grad():
        logits: Tensor = module.double().eval()(images())[0]
    return logits


def assert_same_function(model: Model, finalizers: Finalizers) -> None:
    found = finalizers.finalize_model(model)
    child, discretized = Model(found, affine=False), Discretized.of(model, found.clear_trainables())
    assert discretized is not None
    torch.testing.assert_close(logits_of(discretized), logits_of(child), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_logits_are_those_of_the_network_that_is_really_built(seed: int, fused: bool) -> None:
    model = supergraph(seed=seed, fused=fused)
    whole = logits_of(model)
    assert_same_function(model.float(), Finalizers())
    found = Discretized.of(model, Finalizers().finalize_model(model))
    assert found is not None
    assert float((logits_of(found) - whole).abs().max()) > 1e-3  # another function than the supergraph's


@pytest.mark.parametrize("seed", range(4))
def test_any_member_of_the_space_is_one(seed: int) -> None:
    assert_same_function(supergraph(), RandomFinalizers(seed))


def test_two_candidates_on_one_edge_are_both_computed() -> None:
    model, doubles = supergraph(), 0
    for seed in range(6):
        finalizers = RandomFinalizers(seed, allow_same_edge=True)
        cell = finalizers.finalize_model(model).cell_descs[0]
        doubles += any(len({edge.input_ids for edge in node.edges}) < len(node.edges) for node in cell.nodes())
        assert_same_function(model.float(), finalizers)
    assert doubles > 0


def with_fixed_edge(name: str) -> ModelDesc:
    """The first edge of the second node is this operation in every cell, and no choice."""
    desc = DartsSpace(1, 8, 5, channels=4, cells=3, nodes=2, reductions=1, primitives=PRIMITIVES).build()

    def fixed(place: str, op: OpDesc) -> OpDesc:
        if not place.endswith("nodes.1.edges.0"):
            return op
        return OpDesc(name, Params({key: value for key, value in op.params.items() if key != "primitives"}))

    return desc.map_ops(fixed)


def test_edges_without_a_choice_compute_as_they_do() -> None:
    model = supergraph(with_fixed_edge("sep_conv_3x3"))
    assert [len(cell.mixed_ops()) for cell in model.typed_cells()] == [4, 4, 4]
    assert_same_function(model, Finalizers())


def test_description_without_the_fixed_operation_is_no_choice() -> None:
    model, other = supergraph(with_fixed_edge("sep_conv_3x3")), supergraph(with_fixed_edge("dil_conv_3x3"))
    assert Discretized.of(model, Finalizers().finalize_model(other)) is None


def test_operation_that_is_no_candidate_is_no_choice() -> None:
    names = ["max_pool_3x3", "skip_connect", "dil_conv_3x3", "none"]
    other = supergraph(DartsSpace(1, 8, 5, channels=4, cells=4, nodes=3, reductions=1, primitives=names).build())
    with torch.no_grad():
        for op in other.mixed_ops():
            op.alphas.copy_(torch.tensor([0.0, 0.0, 9.0, 0.0]))
    assert Discretized.of(supergraph(), Finalizers().finalize_model(other)) is None


def test_state_that_the_node_does_not_read_is_no_choice() -> None:
    found = Finalizers().finalize_model(supergraph())
    chosen = found.cell_descs[0].nodes()[0].edges[0].input_ids
    desc = supergraph().desc
    cells = []
    for cell in desc.cell_descs:
        first, *rest = cell.nodes()
        fewer = replace(first, edges=tuple(edge for edge in first.edges if edge.input_ids != chosen))
        cells.append(cell.reset_nodes([fewer, *rest], cell.node_shapes, cell.post_op, cell.out_shape))
    assert Discretized.of(supergraph(replace(desc, cell_descs=tuple(cells))), found) is None


def test_model_is_left_as_it_was() -> None:
    model = supergraph().eval()
    found = Finalizers().finalize_model(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    computed, rules = [op.computed for op in model.mixed_ops()], [op.rule for op in model.mixed_ops()]
    discretized = Discretized.of(model, found)
    assert discretized is not None
    with torch.no_grad():
        discretized(images().float())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [op.computed for op in model.mixed_ops()] == computed
    assert all(op.rule is rule for op, rule in zip(model.mixed_ops(), rules, strict=True))
    assert not model.training


def test_only_what_was_found_is_called_and_fallen_candidates_stay_fallen() -> None:
    model = supergraph(strategy=Xnas(horizon=10))
    for op in model.mixed_ops():
        op.compute_only([True, False, True, True])
    called: list[str] = []
    for cell in model.typed_cells():
        for edge in cell.edges():
            assert isinstance(edge.op, MixedOp)
            for name, candidate in zip(edge.op.names, edge.op.candidates, strict=True):
                candidate.register_forward_hook(lambda *_, name=name: called.append(name))
    found = Finalizers().finalize_model(model)
    discretized = Discretized.of(model, found)
    assert discretized is not None
    with torch.no_grad():
        discretized(images().float())
    assert sorted(called) == sorted(e.op_desc.name for c in found.cell_descs for n in c.nodes() for e in n.edges)
    assert {op.computed for op in model.mixed_ops()} == {(0, 2)}


# ----------------------------------------------------------------------------------------------------- partial channels


def partial_child(model: Model, found: ModelDesc, x: Tensor, parts: int) -> Tensor:
    """The chosen candidates on the first of the parts of the channels; the others pass by, shuffled in between."""

    def edge_output(edge: Any, names: list[str], state: Tensor) -> Tensor:
        op = edge.op
        seen = state.shape[1] // parts
        computed = torch.stack([op.candidates[op.names.index(name)](state[:, :seen]) for name in names]).sum(0)
        passed = state[:, seen:]
        if computed.shape[2:] != state.shape[2:]:
            passed = torch.nn.functional.max_pool2d(passed, 2, stride=2, ceil_mode=True)
        both = torch.cat([computed, passed], dim=1)
        n, c, h, w = both.shape
        return both.view(n, parts, c // parts, h, w).transpose(1, 2).reshape(n, c, h, w)

    s0 = model.model_stems[0](x)
    s1 = s0 if model.stems_equal else model.model_stems[1](s0 if model.stems_chained else x)
    for cell, chosen in zip(model.typed_cells(), found.cell_descs, strict=True):
        states = [cell.stems[0](s0), cell.stems[1](s1)]
        for edges, node in zip(cell.node_edges(), chosen.nodes(), strict=True):
            kept: dict[Any, list[str]] = {}
            for edge in node.edges:
                kept.setdefault(edge.input_ids, []).append(edge.op_desc.name)
            states.append(
                sum(edge_output(e, kept[e.input_ids], states[e.input_ids[0]]) for e in edges if e.input_ids in kept)  # type: ignore[misc,index,arg-type]
            )
        s0, s1 = s1, cell.post_op(states)
    logits: Tensor = model.logits_op(model.pool_op(s1))
    return logits


def assert_partial_child(model: Model, found: ModelDesc, parts: int) -> None:
    discretized = Discretized.of(model, found)
    assert discretized is not None
    model.double().eval()
    with torch.no_grad():
        expected = partial_child(model, found, images(), parts)
        torch.testing.assert_close(discretized(images())[0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("parts", [2, 4])
def test_with_partial_channels_it_is_the_partial_child(parts: int, fused: bool) -> None:
    model = supergraph(strategy=PcDarts(partial=parts), fused=fused)
    assert_partial_child(model, Finalizers().finalize_model(model), parts)


@pytest.mark.parametrize("fused", [False, True])
def test_channels_pass_once_where_two_candidates_are_on_one_edge(fused: bool) -> None:
    doubles = 0
    for seed in range(6):
        model = supergraph(strategy=PcDarts(partial=2), fused=fused)
        found = RandomFinalizers(seed, allow_same_edge=True).finalize_model(model)
        doubles += any(len({e.input_ids for e in node.edges}) < len(node.edges) for node in found.cell_descs[0].nodes())
        assert_partial_child(model, found, 2)
    assert doubles > 0


@pytest.mark.parametrize("parts", [1, 2])
def test_rows_are_those_of_the_choice_and_of_what_passes_by(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """With partial channels an entry more: 1 on each edge that is kept, 0 on the others."""
    seen: list[Any] = []
    model = supergraph(strategy=PcDarts(partial=parts))
    monkeypatch.setattr(Model, "forward", lambda self, x, mixing: (seen.append(mixing), None))
    found = Finalizers().finalize_model(model)
    discretized = Discretized.of(model, found)
    assert discretized is not None
    discretized(images())
    for cell, chosen, table in zip(model.typed_cells(), found.cell_descs, seen[0], strict=True):
        kept = [{e.input_ids: e.op_desc.name for e in node.edges} for node in chosen.nodes()]
        rows = []
        for edges, of_node in zip(cell.node_edges(), kept, strict=True):
            for edge in edges:
                name = of_node.get(edge.input_ids)  # type: ignore[arg-type,call-overload]
                row = [float(name == primitive) for primitive in PRIMITIVES]
                rows.append(row if parts == 1 else [*row, float(name is not None)])
        assert table.tolist() == rows
        assert sum(sum(row[:4]) for row in rows) == 6


# ---------------------------------------------------------------------------------------------------------- in a search


def data(tools: Any, **changes: Any) -> DataLoaders:
    loaders: DataLoaders = tools.context().loaders(tools.search_conf(**changes), "search", test=False)
    return loaders


def accuracy(network: Any, loaders: DataLoaders, batches: int | None) -> float:
    assert loaders.val is not None
    hits, n = 0, 0
    for x, y in list(loaders.val)[:batches]:
        with torch.no_grad():
            hits += int((network.eval()(x)[0].argmax(1) == y).sum())
        n += len(y)
    return 100.0 * hits / n


@pytest.mark.parametrize("batches", [None, 2])
def test_recorded_drop_is_the_difference_of_two_accuracies(tools: Any, batches: int | None) -> None:
    desc = DartsSpace(1, 8, 5, channels=4, cells=3, nodes=2, reductions=1, primitives=tools.primitives).build()
    log: list[dict[str, Any]] = []
    conf = tools.search_conf(epochs=3, max_steps_per_epoch=batches, eval_batch_size=8)
    loaders = data(tools, eval_batch_size=8)
    model = supergraph(desc, seed=1)
    ArchTrainer(conf, model, strategy=Darts(lr=0.3), alpha_log=log.append).fit(loaders)
    child = Model(Finalizers().finalize_model(model), affine=False)
    drop = accuracy(model, loaders, batches) - accuracy(child, loaders, batches)
    assert log[-1]["discretization_drop"] == pytest.approx(drop, abs=1e-9)
    assert any(line["discretization_drop"] != 0 for line in log)


def test_drop_needs_validation_and_is_recorded_when_there_is_one(tools: Any) -> None:
    class Single(Darts):
        bilevel = False

    log: list[dict[str, Any]] = []
    conf = tools.search_conf(val_ratio=0.0)
    ArchTrainer(conf, supergraph(tools.space.build()), strategy=Single(), alpha_log=log.append).fit(
        data(tools, val_ratio=0.0)
    )
    assert [line["discretization_drop"] for line in log] == [None, None]
    log.clear()
    conf = tools.search_conf(epochs=3, validate_every_epochs=2)
    ArchTrainer(conf, supergraph(tools.space.build()), alpha_log=log.append).fit(data(tools))
    assert [line["discretization_drop"] is None for line in log] == [True, False, False]


def test_measuring_changes_nothing_of_the_search(tools: Any) -> None:
    """A search whose finalizers find what no candidate is measures nothing: the rest is the same."""
    names = ["max_pool_3x3", "skip_connect", "dil_conv_3x3", "none"]
    foreign = Finalizers().finalize_model(
        supergraph(DartsSpace(1, 8, 5, channels=2, cells=3, nodes=2, reductions=1, primitives=names).build())
    )

    class Foreign(Finalizers):
        def finalize_model(self, model: Model, to_cpu: bool = True, restore_device: bool = True) -> ModelDesc:
            return foreign

    states, logs = [], []
    for finalizers in (Finalizers(), Foreign()):
        model = supergraph(tools.space.build())
        log: list[dict[str, Any]] = []
        ArchTrainer(tools.search_conf(), model, finalizers=finalizers, alpha_log=log.append).fit(data(tools))
        states.append(model.state_dict())
        logs.append(log)
    assert [line["discretization_drop"] for line in logs[1]] == [None, None]
    assert [line["discretization_drop"] is None for line in logs[0]] == [False, False]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
