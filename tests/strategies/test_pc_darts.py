"""Tests of ``src/gradnas/strategies/pc_darts.py``; partial channels: ``tests/supergraph/test_partial.py``."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F
from torch.optim import SGD

from gradnas.arch import OpDesc
from gradnas.data import BatchLoader, DataLoaders, ImageSet, Normalization
from gradnas.finalizers import Finalizers
from gradnas.ops import ArchParams
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.spaces import DartsSpace
from gradnas.strategies import Batch, PcDarts
from gradnas.strategies.pc_darts import EdgeNormalized
from gradnas.supergraph import Cell, DagEdge, Model
from gradnas.training import OptimConf, Score, TrainConf

F64 = torch.float64
OPS = ("skip_connect", "sep_conv_3x3", "max_pool_3x3", "none")
SPACE = DartsSpace(1, 8, 4, channels=4, cells=3, nodes=2, reductions=1, primitives=OPS)
RULE = EdgeNormalized()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def batch(seed: int) -> Batch:
    return random(8, 1, 8, 8, seed=seed), torch.randint(4, (8,), generator=torch.Generator().manual_seed(seed))


def supergraph(strategy: PcDarts, space: DartsSpace = SPACE) -> Model:
    torch.manual_seed(0)
    model = Model(strategy.supergraph(space.build()), affine=False).double()
    model.set_mixing_rule(strategy.mixing_rule)
    for i, value in enumerate(model.all_owned().param_by_kind()):
        value.data = random(*value.shape, seed=10 + i)
    return model


def edge(alphas: Sequence[float], beta: float) -> ArchParams:
    values = {"alphas": torch.tensor(alphas, dtype=F64), "betas": torch.tensor(beta, dtype=F64)}
    return ArchParams.view([(name, Parameter(value)) for name, value in values.items()])


def beta(op: Any) -> Tensor:
    value = op.arch_params()["betas"]
    assert isinstance(value, Tensor)
    return value.detach()


# ---------------------------------------------------------------------------------------------------------------- rule


def test_edge_weights_are_a_softmax_over_the_edges_of_each_node() -> None:
    betas, nodes = [0.3, -1.0, 2.0, 0.5, 0.0, 1.0, 7.0], [0, 0, 1, 1, 1, 1, 3]
    found = RULE.edge_weights([edge([0.0, 1.0], b) for b in betas], nodes).tolist()
    for b, node, gamma in zip(betas, nodes, found, strict=True):
        rivals = [math.exp(other) for other, n in zip(betas, nodes, strict=True) if n == node]
        assert gamma == pytest.approx(math.exp(b) / sum(rivals), rel=1e-12)
    for node in (0, 1, 3):
        assert sum(g for g, n in zip(found, nodes, strict=True) if n == node) == pytest.approx(1.0)


def gammas(cell: Cell) -> dict[tuple[int, int], float]:
    """Softmax of beta by hand, (node, edge) to the weight of the edge."""
    found: dict[tuple[int, int], float] = {}
    for n, node in enumerate(cell.node_edges()):
        total = sum(math.exp(float(beta(e.op))) for e in node)
        found |= {(n, i): math.exp(float(beta(e.op))) / total for i, e in enumerate(node)}
    return found


def products(cell: Cell) -> dict[tuple[int, int], Tensor]:
    """Softmax of alpha times gamma by hand, (node, edge) to (N,)."""
    found = {}
    for (n, i), gamma in gammas(cell).items():
        powers = cell.node_edges()[n][i].op.alphas.detach().exp()  # type: ignore[union-attr, operator]  # of a mixed op
        found[n, i] = powers / powers.sum() * gamma
    return found


@pytest.mark.parametrize("partial", [1, 2])
def test_mixing_weights_of_a_cell_are_the_products_and_gamma_for_what_passes(partial: int) -> None:
    model = supergraph(PcDarts(partial=partial))
    for cell, rows in zip(model.typed_cells(), model.probabilities(), strict=True):
        strengths = torch.stack(list(products(cell).values()))
        gamma = torch.tensor(list(gammas(cell).values()), dtype=F64)
        completed = strengths if partial == 1 else torch.cat([strengths, gamma.unsqueeze(1)], dim=1)
        found = (cell.mixing_weights(), cell.probabilities(), rows)
        for table, expected in zip(found, (completed, strengths, completed), strict=True):
            assert table is not None
            torch.testing.assert_close(table.detach(), expected, rtol=1e-12, atol=0)
            for of_node in (table[:2, :4], table[2:, :4]):
                torch.testing.assert_close(of_node.sum().detach(), torch.tensor(1.0, dtype=F64))
        factors = cell.edge_factors()
        assert factors is not None
        torch.testing.assert_close(factors.detach(), gamma, rtol=1e-12, atol=0)


def test_what_passes_follows_beta_alone() -> None:
    """The passing weight is gamma itself: the slopes of a row that was divided and summed again would be rounding."""
    cell = supergraph(PcDarts(partial=2)).typed_cells()[0]
    table = cell.mixing_weights()
    assert table is not None
    ops = cell.mixed_ops()
    gamma = list(gammas(cell).values())
    for row in range(5):
        of_betas = torch.autograd.grad(table[row, -1], [op.arch_params()["betas"] for op in ops], retain_graph=True)  # type: ignore[arg-type]  # parameters
        of_alphas = torch.autograd.grad(table[row, -1], [op.alphas for op in ops], retain_graph=True)
        assert not any(bool(slopes.any()) for slopes in of_alphas)  # exactly
        same = range(2) if row < 2 else range(2, 5)
        expected = [gamma[row] * ((i == row) - gamma[i]) if i in same else 0.0 for i in range(5)]
        assert [float(slope) for slope in of_betas] == pytest.approx(expected, abs=1e-12)


def test_first_parameters_are_small_and_of_the_right_shape() -> None:
    torch.manual_seed(0)
    drawn = [dict(RULE.initial(4)) for _ in range(300)]
    for name, shape in (("alphas", (4,)), ("betas", ())):
        values = torch.stack([d[name].detach() for d in drawn])  # type: ignore[union-attr]  # parameters both
        assert values.shape[1:] == shape == RULE.shape(name, 4)
        assert 0.8e-3 < float(values.std()) < 1.2e-3
        assert abs(float(values.mean())) < 2e-4
    assert list(drawn[0]) == list(RULE.entries) == ["alphas", "betas"]


def test_cells_of_a_type_share_alphas_and_betas() -> None:
    model = supergraph(PcDarts())
    first, _, last = model.typed_cells()
    for a, b in zip(first.mixed_ops(), last.mixed_ops(), strict=True):
        for name in RULE.entries:
            assert a.arch_params()[name] is b.arch_params()[name]
    assert len(list(model.all_owned().param_by_kind("betas"))) == 10


@pytest.mark.parametrize("seed", range(5))
def test_edges_of_a_node_are_ranked_by_the_product(seed: int) -> None:
    alphas, betas = random(6, 4, seed=seed), (0.3 * random(6, seed=50 + seed)).tolist()
    edges, allowed = [edge(row, b) for row, b in zip(alphas.tolist(), betas, strict=True)], [0, 1, 2]
    total = sum(math.exp(b) for b in betas)
    strengths = [
        max(math.exp(row[k]) for k in allowed) / sum(map(math.exp, row)) * math.exp(b) / total  # none in the sum
        for row, b in zip(alphas.tolist(), betas, strict=True)
    ]
    ranks = [RULE.choose(e, allowed)[1] for e in edges]
    assert sorted(range(6), key=lambda i: ranks[i]) == sorted(range(6), key=lambda i: strengths[i])
    for rank, strength in zip(ranks, strengths, strict=True):  # they differ as the logarithms do
        assert rank - ranks[0] == pytest.approx(math.log(strength / strengths[0]), abs=1e-9)


def test_an_edge_with_a_sure_candidate_and_a_small_gamma_ranks_below() -> None:
    sure, unsure = edge([5.0, 0.0, 0.0], -2.0), edge([1.0, 0.0, 0.0], 1.0)
    assert RULE.choose(sure, [0, 1]) < RULE.choose(unsure, [0, 1])
    assert RULE.choose(edge([0.0, 1.0, 9.0], 0.0), [0, 1])[0] == 1  # the strongest that is allowed
    assert RULE.choose(edge([1.0, 1.0, 0.0], 0.0), [0, 1])[0] == 0  # of equal ones the first
    for bad in (edge([0.0, math.nan], 0.0), edge([0.0, 1.0], math.nan)):
        assert math.isnan(RULE.choose(bad, [0])[1])


def test_record_holds_alphas_and_betas() -> None:
    recorded = RULE.record([edge([0.5, -1.0], 0.25), edge([2.0, 3.0], -4.0)])
    assert recorded == {"alphas": [[0.5, -1.0], [2.0, 3.0]], "betas": [[0.25], [-4.0]]}


# ----------------------------------------------------------------------------------------------------------- gradients


def test_one_part_is_darts() -> None:
    assert PcDarts(partial=1).supergraph(SPACE.build()) == SPACE.build()


def weighed(e: DagEdge, source: Tensor, weights_N: Tensor, gamma: float, parts: int) -> Tensor:
    """An edge from the equation: gamma times the mixture of the first channels beside gamma times the others."""
    width = source.shape[1] // parts
    terms = [w * f(source[:, :width]) for w, f in zip(weights_N, e.op.candidates, strict=True)]  # type: ignore[arg-type]  # a ModuleList
    mixture, rest = torch.stack(terms).sum(0), source[:, width:]
    if e.op.desc.stride == 2 and parts > 1:
        rest = F.max_pool2d(rest, 2)
    return torch.nn.ChannelShuffle(parts)(torch.cat([mixture, gamma * rest], dim=1)) if parts > 1 else mixture


@pytest.mark.parametrize("partial", [1, 2, 4])
def test_network_is_darts_with_parts_of_the_channels_and_weighted_edges(partial: int) -> None:
    model = supergraph(PcDarts(partial=partial))
    x, _ = batch(1)
    s0 = s1 = model.model_stems[0](x)
    if not model.stems_equal:
        s1 = model.model_stems[1](x)
    for cell in model.typed_cells():
        weights, gamma = products(cell), gammas(cell)
        states = [cell.stems[0](s0), cell.stems[1](s1)]
        for n, node in enumerate(cell.node_edges()):
            terms = []
            for i, e in enumerate(node):
                assert isinstance(e, DagEdge)
                terms.append(weighed(e, states[e.input_ids[0]], weights[n, i], gamma[n, i], partial))
            states.append(torch.stack(terms).sum(0))
        s0, s1 = s1, cell.post_op(states)
    expected = model.logits_op(model.pool_op(s1))
    torch.testing.assert_close(model(x)[0], expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(model(x, model.probabilities())[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("partial", [1, 2])
def test_gradient_of_alphas_and_betas_equals_central_differences(partial: int) -> None:
    strategy = PcDarts(partial=partial, lr=0.0, weight_decay=0.0)
    model = supergraph(strategy)
    learnt = list(model.all_owned().param_by_kind())

    def loss(batch: Batch, **_: Any) -> Tensor:
        return F.cross_entropy(model(batch[0])[0], batch[1])

    strategy.prepare(model, loss, SGD(model.weights(), lr=0.1))
    strategy.step(batch(1), batch(2))
    state = strategy.state_dict()["optimizer"]["state"]["state"]
    found, expected, h = [], [], 1e-5
    with torch.no_grad():
        for i, value in enumerate(learnt):
            found += (state[i]["exp_avg"].flatten() / 0.5).tolist()
            entries = value.view(-1)
            for j in range(len(entries)):
                start, slopes = float(entries[j]), []
                for sign in (1, -1):
                    entries[j] = start + sign * h
                    slopes.append(sign * float(loss(batch(2))) / (2 * h))
                entries[j] = start
                expected.append(sum(slopes))
    a, b = torch.tensor(found), torch.tensor(expected)
    assert float((a - b).norm() / b.norm()) < 1e-6
    of_betas = [float(state[i]["exp_avg"].abs()) for i, value in enumerate(learnt) if value.dim() == 0]
    assert len(of_betas) == 10
    assert min(of_betas) > 1e-6


# -------------------------------------------------------------------------------------------------------- a real search


class Loader(BatchLoader):
    def batch(self, epoch: int, index: int) -> Batch:
        x, y = super().batch(epoch, index)
        return x.double(), y


def loader(purpose: str) -> Loader:
    g = torch.Generator().manual_seed(len(purpose))
    images = ImageSet(images=torch.randn(16, 1, 8, 8, generator=g), labels=torch.arange(16) % 4, classes=tuple("abcd"))
    same = Normalization(mean=(0.0,), std=(1.0,))
    return Loader(images, batch_size=8, normalization=same, shuffle=True, seed=0, purpose=purpose)


def test_the_architecture_waits_bit_for_bit_and_without_state_and_then_moves() -> None:
    kept: list[list[Tensor]] = []
    states: list[int] = []

    class Watching(ArchTrainer):
        def post_epoch(self, data_loaders: DataLoaders, train: Score, lr: float, start: float) -> None:
            super().post_epoch(data_loaders, train, lr, start)
            kept.append([value.detach().clone() for value in self.alphas])
            states.append(len(self.strategy.state_dict()["optimizer"]["state"]["state"]))

    conf = TrainConf(epochs=4, optimizer=OptimConf(lr=0.1), max_steps_per_epoch=1)
    strategy = PcDarts(partial=2, lr=0.01)
    trainer = Watching(conf, supergraph(strategy), strategy=strategy)
    start = [value.detach().clone() for value in trainer.alphas]
    weights = [p.detach().clone() for p in trainer.model.weights()]  # type: ignore[operator]  # a Model
    trainer.fit(DataLoaders(train=loader("train"), alpha=loader("alpha")))
    assert strategy.warmup_epochs(4) == 1
    assert all(torch.equal(a, b) for a, b in zip(start, kept[0], strict=True))
    assert states == [0, 20, 20, 20]
    for before, after in itertools.pairwise(kept):
        assert all(bool((a != b).all()) for a, b in zip(before, after, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(weights, trainer.model.weights(), strict=True))  # type: ignore[operator]  # a Model


def test_the_found_network_has_all_channels_and_knows_nothing_of_parts() -> None:
    strategy = PcDarts(partial=4)
    model = supergraph(strategy)
    found = Finalizers().finalize_model(model)
    full = dict(SPACE.build().top_ops())
    chosen = [(place, op) for place, op in found.top_ops() if ".nodes." in place]
    assert len(chosen) == 3 * 2 * 2
    for place, op in chosen:
        assert op.name in OPS[:-1]
        assert not {"partial", "primitives"} & set(op.params)
        assert op.params["conv"] == full[place.rpartition(".")[0] + ".0"].params["conv"]
    torch.manual_seed(0)
    network = Model(found, affine=True).double()
    assert network(batch(1)[0])[0].shape == (8, 4)
    convs = [m for m in network.cells.modules() if isinstance(m, torch.nn.Conv2d)]
    assert max(conv.in_channels for conv in convs) >= 4
    for n, node in enumerate(found.cell_descs[0].nodes()):
        strongest = sorted(
            ((float(w[: len(OPS) - 1].max()), i) for (m, i), w in products(model.typed_cells()[0]).items() if m == n),
            reverse=True,
        )
        assert sorted(e.input_ids[0] for e in node.edges) == sorted(i for _, i in strongest[:2])


# ---------------------------------------------------------------------------------------------------------- supergraph


def test_supergraph_marks_every_choice_and_changes_nothing_else() -> None:
    desc = SPACE.build()
    before = desc.hash()
    made, again = PcDarts(partial=2).supergraph(desc), PcDarts(partial=2).supergraph(desc)
    assert made == again
    assert desc.hash() == before
    assert desc == SPACE.build()
    for (place, op), (same, old) in zip(made.top_ops(), desc.top_ops(), strict=True):
        assert place == same
        if "primitives" in old.params:
            assert op == OpDesc(old.name, old.params.replace(partial=2))
        else:
            assert op == old
    assert sum("partial" in op.params for _, op in made.top_ops()) == 15
    assert replace(made, cell_descs=desc.cell_descs) == desc


@pytest.mark.parametrize("partial", [3, 8])
def test_channels_that_cannot_be_divided_are_refused_with_numbers(partial: int) -> None:
    message = rf"one of {partial} equal parts.*4 input and 4 output channels.*multiple of {partial}"
    with pytest.raises(ValueError, match=message):
        PcDarts(partial=partial).supergraph(SPACE.build())
    by_hand = SPACE.build().map_ops(
        lambda _, op: OpDesc(op.name, op.params.replace(partial=partial)) if "primitives" in op.params else op
    )
    with pytest.raises(ValueError, match=r"cells\[0\]\.nodes\[0\].*" + message):
        Model(by_hand)


@pytest.mark.parametrize(("partial", "has"), [(2, 1), (4, 2), (1, 2), (2, 4)])
def test_a_model_of_other_parts_is_refused(partial: int, has: int) -> None:
    model = supergraph(PcDarts(partial=has))
    with pytest.raises(
        ValueError, match=rf"partial={partial} needs .* 1/{partial} of the channels, the model has 1/{has}\."
    ):
        PcDarts(partial=partial).prepare(model, lambda *_, **__: torch.zeros(()), SGD(model.weights(), lr=0.1))


def test_a_model_with_whole_channels_on_one_edge_is_refused() -> None:
    strategy = PcDarts(partial=2)

    def whole(place: str, op: OpDesc) -> OpDesc:
        return ops[place] if place == "cells.1.nodes.1.edges.2" else op

    desc = SPACE.build()
    ops = dict(desc.top_ops())
    model = Model(strategy.supergraph(desc).map_ops(whole), affine=False)
    model.set_mixing_rule(strategy.mixing_rule)
    with pytest.raises(ValueError, match=r"the model has 1/1\. Build it from strategy\.supergraph\(desc\)"):
        strategy.prepare(model, lambda *_, **__: torch.zeros(()), SGD(model.weights(), lr=0.1))


# ------------------------------------------------------------------------------------------------------------ settings


def test_defaults_are_those_of_the_paper() -> None:
    strategy = PcDarts()
    assert strategy.bilevel
    assert (strategy.partial, strategy.lr, strategy.betas, strategy.weight_decay) == (4, 6e-4, (0.5, 0.999), 1e-3)
    assert [strategy.warmup_epochs(epochs) for epochs in (50, 10, 4, 3, 1)] == [15, 3, 1, 0, 0]


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"partial": 0}, ValueError, "partial .*must be"),
        ({"partial": -4}, ValueError, "partial"),
        ({"partial": 2.0}, (TypeError, ValueError), "partial"),
        ({"partial": True}, (TypeError, ValueError), "partial"),
        ({"lr": -1.0}, ValueError, "lr must be"),
        ({"weight_decay": math.inf}, ValueError, "weight_decay must be"),
        ({"betas": (0.5,)}, ValueError, "betas must be"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        PcDarts(**setting)


def test_a_mixed_op_with_its_default_candidates_is_narrowed_too() -> None:
    def shortened(place: str, op: OpDesc) -> OpDesc:
        kept = {name: value for name, value in op.params.items() if name != "primitives"}
        return OpDesc(op.name, type(op.params)(kept)) if op.name == "mixed_op" else op

    desc = PcDarts().supergraph(SPACE.build().map_ops(shortened))
    assert {op.partial for op in Model(desc, affine=False).mixed_ops()} == {4}
