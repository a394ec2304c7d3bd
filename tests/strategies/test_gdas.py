"""Tests of ``src/gradnas/strategies/gdas.py``; the noise itself is tested in ``test_sampling.py``."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD

from gradnas.data import BatchLoader, DataLoaders, ImageSet, Normalization
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.spaces import DartsSpace
from gradnas.strategies import Batch, Gdas, SearchSchedule
from gradnas.strategies.gdas import HardGumbel
from gradnas.strategies.sampling import Draws, gumbel_like
from gradnas.supergraph import MixedOp, Model
from gradnas.training import OptimConf, TrainConf

F64 = torch.float64
OPS = ("skip_connect", "sep_conv_3x3", "dil_conv_3x3", "none")
SPACE = DartsSpace(1, 8, 4, channels=4, cells=3, nodes=2, reductions=1, primitives=OPS)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def batch(seed: int) -> Batch:
    return random(8, 1, 8, 8, seed=seed), torch.randint(4, (8,), generator=torch.Generator().manual_seed(seed))


def supergraph(rule: HardGumbel, *, fused: bool = False) -> Model:
    torch.manual_seed(0)
    model = Model(SPACE.build(), affine=True, fused=fused).double()
    model.set_mixing_rule(rule)
    for i, alpha in enumerate(model.all_owned().param_by_kind()):
        alpha.data = random(len(OPS), seed=20 + i)
    return model


def tables(model: Model) -> list[Tensor]:
    return [table for table in model.mixing_weights() if table is not None]


# ---------------------------------------------------------------------------------------------------------------- rule


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_weights_are_one_hot_at_the_winner_of_the_noisy_race(temperature: float, dtype: torch.dtype) -> None:
    alphas = (10 * random(1000, 4)).to(dtype)
    found = HardGumbel(temperature).weights(alphas)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert set(found.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(found.sum(1), torch.ones(1000, dtype=found.dtype))
    assert torch.equal(found.argmax(1), (alphas + gumbel_like(alphas, Draws())).argmax(1))


def test_candidates_are_chosen_as_often_as_they_are_probable() -> None:
    n, alpha = 100_000, torch.tensor([0.5, -1.0, 0.0, 1.3])
    counts = HardGumbel(3.0).weights(alpha.expand(n, 4)).sum(0)
    expected = n * alpha.softmax(0)
    assert float(((counts - expected).square() / expected).sum()) < 16.27  # chi square, 3 degrees, at 0.1 %


@pytest.mark.parametrize("temperature", [0.3, 1.0, 10.0])
def test_gradient_of_the_one_computed_candidate_is_that_of_the_formula(temperature: float) -> None:
    alphas = random(6, 4).requires_grad_()
    found = HardGumbel(temperature).weights(alphas)
    noise = gumbel_like(alphas, Draws())
    told = random(6, seed=3)  # G_k; of the others there is nothing
    chosen = found.argmax(1)
    (found[range(6), chosen] * told).sum().backward()
    h = ((alphas.detach().softmax(1).log() + noise) / temperature).softmax(1)
    for e, k in enumerate(chosen.tolist()):
        for j in range(4):
            expected = h[e, k] * (float(j == k) - h[e, j]) * told[e] / temperature
            assert alphas.grad is not None
            assert float(alphas.grad[e, j]) == pytest.approx(float(expected), rel=1e-10, abs=1e-15)


@pytest.mark.parametrize("temperature", [0.1, 10.0])
def test_extreme_parameters_give_finite_gradients(temperature: float) -> None:
    alphas = torch.tensor([[50.0, -50.0, 0.0], [-50.0, -50.0, -50.0], [50.0, 50.0, 50.0]], requires_grad=True)
    found = HardGumbel(temperature).weights(alphas)
    (found * torch.arange(3)).sum().backward()
    assert torch.equal(found.sum(1), torch.ones(3))
    assert alphas.grad is not None
    assert bool(alphas.grad.isfinite().all())


def test_evaluation_computes_the_most_probable_candidate_of_equal_ones_the_first() -> None:
    alphas = torch.tensor([[0.0, 2.0, 1.0], [3.0, 3.0, 0.0], [-1.0, -2.0, -0.5]])
    expected = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert torch.equal(HardGumbel().evaluation_weights(alphas), expected)
    torch.testing.assert_close(HardGumbel().probabilities(alphas), alphas.exp() / alphas.exp().sum(1, keepdim=True))


# ------------------------------------------------------------------------------------------------ what a pass computes


def chosen_and_called(model: Model, x: Tensor) -> tuple[list[list[str]], list[list[str]]]:
    called: list[list[str]] = []
    handles = []
    for op in model.mixed_ops():
        called.append([])
        for name, candidate in zip(op.names, op.candidates, strict=True):
            hook: Callable[..., None] = lambda *_, name=name, row=called[-1]: row.append(name)  # noqa: E731  # short
            handles.append(candidate.register_forward_hook(hook))
    rows = [row for table in tables(model) for row in table]
    chosen = [[OPS[k] for k in row.nonzero().flatten().tolist() if OPS[k] != "none"] for row in rows]
    model(x)
    for handle in handles:
        handle.remove()
    return chosen, called


@pytest.mark.parametrize("training", [True, False])
def test_exactly_one_candidate_is_called_per_edge_and_pass(training: bool) -> None:
    rule = HardGumbel()
    model = supergraph(rule).train(training)
    seen = Counter[str]()
    for step in range(6):
        rule.draws.begin("weights", step)
        chosen, called = chosen_and_called(model, batch(1)[0])
        assert called == chosen
        assert all(len(names) <= 1 for names in called)
        seen.update(name for names in called for name in names)
    best = [OPS[int(op.alphas.argmax())] for op in model.mixed_ops()]
    if training:
        assert set(seen) == set(OPS) - {"none"}
    else:
        assert seen == Counter({name: 6 * n for name, n in Counter(best).items() if name != "none"})


def test_the_fused_plan_has_one_column_per_edge() -> None:
    rule = HardGumbel()
    model = supergraph(rule, fused=True)
    for step in range(4):
        rule.draws.begin("weights", step)
        for cell, table in zip(model.typed_cells(), tables(model), strict=True):
            assert cell._fused is not None
            cell._fused._programs.clear()
            model(batch(1)[0])
            (program,) = cell._fused._programs.values()
            columns = [(c.row, c.candidate) for group in program.plan.groups() for c in group.columns]
            columns += [(column.row, column.candidate) for fan in program.plan.fans for column, _ in fan.single]
            empty = [(row, OPS.index("none")) for of_state in program.plan.whole for _, _, row in of_state]
            assert sorted(columns + empty) == [(e, int(row.argmax())) for e, row in enumerate(table)]  # type: ignore[type-var]  # rows are numbers


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_left_out_in_a_pass_is_there_again_afterwards(fused: bool) -> None:
    model = supergraph(HardGumbel(), fused=fused)
    everything = [op.computed for op in model.mixed_ops()]
    model(batch(1)[0])
    assert [op.computed for op in model.mixed_ops()] == everything
    with pytest.raises(ValueError, match="takes images"):
        model(random(8, 2, 8, 8))
    inside = []
    with pytest.raises(ZeroDivisionError), model.only_weighted(model.mixing_weights()):
        raise ZeroDivisionError(inside.append([op.computed for op in model.mixed_ops()]))
    assert inside != [everything]
    assert [op.computed for op in model.mixed_ops()] == everything == [(0, 1, 2)] * len(everything)


def test_candidates_of_any_weight_but_zero_are_computed() -> None:
    model = supergraph(HardGumbel())
    table = torch.tensor([0.01, -0.3, 0.0, 0.7], dtype=F64).expand(5, 4).contiguous()
    with model.only_weighted([table, None, table]):
        assert [op.computed for op in model.mixed_ops()] == [(0, 1)] * 5 + [(0, 1, 2)] * 5 + [(0, 1)] * 5


def test_rows_for_each_example_compute_every_candidate() -> None:
    model = supergraph(HardGumbel())
    names = Counter[str]()
    for op in model.mixed_ops():
        for name, candidate in zip(op.names, op.candidates, strict=True):
            candidate.register_forward_hook(lambda *_, name=name: names.update([name]))
    x = batch(1)[0]
    model(x, [table.unsqueeze(1).expand(-1, len(x), -1) for table in tables(model)])
    assert names == Counter({name: len(list(model.mixed_ops())) for name in OPS if name != "none"})


def test_gradient_in_a_network_is_the_formula_summed_over_the_cells_of_a_type() -> None:
    temperature = 2.0
    rule = HardGumbel(temperature)
    model = supergraph(rule)
    told: dict[MixedOp, tuple[int, Tensor]] = {}

    def watch(op: MixedOp, k: int) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, out: Tensor) -> None:
            # The weight is 1, so the gradient of what the candidate gives is that of what the edge gives.
            out.register_hook(lambda grad: told.update({op: (k, (grad * out.detach()).sum())}))

        return hook

    for op in model.mixed_ops():
        for k, candidate in enumerate(op.candidates):
            candidate.register_forward_hook(watch(op, k))
    F.cross_entropy(model(batch(1)[0])[0], batch(1)[1]).backward()
    rule.begin_pass()
    for owner in model.owner_cells():
        cells = [cell for cell in model.typed_cells() if cell.desc.trainables_from == owner.desc.id]
        table = owner.alphas()
        assert table is not None
        h = ((table + gumbel_like(table, rule.draws)) / temperature).softmax(1).detach()
        for e, op in enumerate(owner.mixed_ops()):
            k = int(h[e].argmax())
            of_cells = [told[cell.mixed_ops()[e]] for cell in cells if cell.mixed_ops()[e] in told]
            assert all(found == k for found, _ in of_cells)
            assert len(of_cells) == (0 if OPS[k] == "none" else len(cells))
            g = sum((value for _, value in of_cells), torch.zeros((), dtype=F64))
            expected = h[e, k] * (F.one_hot(torch.tensor(k), len(OPS)) - h[e]) * g / temperature
            torch.testing.assert_close(op.alphas.grad, expected, rtol=1e-9, atol=1e-14)
    assert len(told) > 5


def test_a_network_of_nothing_learns_nothing_and_fails_not() -> None:
    strategy = Gdas(weight_decay=0.0)
    rule = strategy.mixing_rule
    assert isinstance(rule, HardGumbel)
    model = supergraph(rule)
    with torch.no_grad():
        for op in model.owner_cells():
            for mixed in op.mixed_ops():
                mixed.alphas.copy_(torch.tensor([0.0, 0.0, 0.0, 500.0]))
    loss: Callable[..., Tensor] = lambda batch, **_: F.cross_entropy(model(batch[0])[0], batch[1])  # noqa: E731  # short
    strategy.prepare(model, loss, SGD(model.weights(), lr=0.1))
    strategy.step(batch(1), batch(2))
    strategy.check()
    assert all(op.alphas.tolist() == [0.0, 0.0, 0.0, 500.0] for op in model.mixed_ops())
    loss(batch(1)).backward()  # the head still learns
    assert model.logits_op.get_parameter("linear.weight").grad is not None


# -------------------------------------------------------------------------------------------------- steps of a search


class Loader(BatchLoader):
    def batch(self, epoch: int, index: int) -> Batch:
        x, y = super().batch(epoch, index)
        return x.double(), y


def loader(purpose: str) -> Loader:
    g = torch.Generator().manual_seed(len(purpose))
    images = ImageSet(images=torch.randn(48, 1, 8, 8, generator=g), labels=torch.arange(48) % 4, classes=tuple("abcd"))
    same = Normalization(mean=(0.0,), std=(1.0,))
    return Loader(images, batch_size=8, normalization=same, shuffle=True, seed=0, purpose=purpose)


@pytest.mark.parametrize("fused", [False, True])
def test_unselected_candidates_have_no_gradient_and_nothing_moves_them(fused: bool) -> None:
    idle_with_momentum = 0

    class Watching(ArchTrainer):
        def pre_step(self, x: Tensor, y: Tensor) -> None:
            super().pre_step(x, y)
            optimizer = self.multi_optim[0].optimizer
            self.before = {name: value.clone() for name, value in self.model.state_dict().items()}
            self.buffers = {p: s["momentum_buffer"].clone() for p, s in optimizer.state.items()}

        def post_step(self, x: Tensor, y: Tensor) -> None:
            nonlocal idle_with_momentum
            optimizer, state = self.multi_optim[0].optimizer, self.model.state_dict()
            for c, (cell, table) in enumerate(zip(self.supergraph.typed_cells(), tables(self.supergraph), strict=True)):
                for op, row in zip(cell.mixed_ops(), table, strict=True):
                    for k, candidate in enumerate(op.candidates):
                        if row[k] == 1:
                            assert all(p.grad is not None for p in candidate.parameters())
                            continue
                        for p in candidate.parameters():
                            assert p.grad is None
                            if p in self.buffers:
                                assert torch.equal(optimizer.state[p]["momentum_buffer"], self.buffers[p])
                                idle_with_momentum += bool((self.buffers[p] != 0).any())
                        for name in (n for n, m in self.model.named_modules() if m is candidate):
                            assert name.startswith(f"cells.{c}.")
                            own = [key for key in state if key.startswith(name + ".")]
                            assert all(torch.equal(state[key], self.before[key]) for key in own)

    conf = TrainConf(epochs=1, optimizer=OptimConf(lr=0.1, momentum=0.9, weight_decay=0.1))
    strategy = Gdas()
    rule = strategy.mixing_rule
    assert isinstance(rule, HardGumbel)
    trainer = Watching(conf, supergraph(rule, fused=fused), strategy=strategy)
    trainer.fit(DataLoaders(train=loader("train"), alpha=loader("alpha")))
    assert trainer.global_step == 6
    assert idle_with_momentum > 20


# -------------------------------------------------------------------------------------------------- schedule, settings


@pytest.mark.parametrize("epochs", [1, 2, 50, 250, 300])
def test_temperature_falls_linearly_over_the_epochs_there_are(epochs: int) -> None:
    strategy = Gdas()
    rule = strategy.mixing_rule
    assert isinstance(rule, HardGumbel)
    model = supergraph(rule)
    schedule = SearchSchedule(epochs=epochs, steps_per_epoch=1, val_samples=0)
    strategy.prepare(model, lambda *_, **__: torch.zeros(()), SGD(model.weights(), lr=0.1), schedule=schedule)
    found = []
    for epoch in range(epochs):
        strategy.new_epoch(epoch)
        assert strategy.describe() == {"temperature": rule.temperature}
        found.append(rule.temperature)
    assert found == pytest.approx([10.0 - 9.9 * epoch / max(1, epochs - 1) for epoch in range(epochs)], rel=1e-12)
    assert found[-1] == (0.1 if epochs > 1 else 10.0)


def test_defaults_are_those_of_the_docstring() -> None:
    strategy = Gdas()
    assert strategy.bilevel
    assert strategy.temperature == (10.0, 0.1)
    assert (strategy.lr, strategy.betas, strategy.weight_decay) == (3e-4, (0.5, 0.999), 1e-3)
    assert strategy.mixing_rule.sparse
    assert strategy.describe() == {"temperature": 10.0}  # before the first epoch
    assert Gdas(temperature=(5.0, 2.0)).describe() == {"temperature": 5.0}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lr": math.inf}, "lr must be"),
        ({"weight_decay": -1.0}, "weight_decay must be"),
        ({"betas": (-0.5, 0.9)}, "betas must be"),
        ({"temperature": (10.0, -0.1)}, "temperature must be two positive"),
        ({"temperature": (10.0, math.nan)}, "temperature must be two positive"),
        ({"temperature": (3.0, 2.0, 1.0)}, "temperature must be two positive"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gdas(**setting)
