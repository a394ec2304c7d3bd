"""Tests of ``src/gradnas/strategies/snas.py``; the noise itself is tested in ``test_sampling.py``."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.spaces import DartsSpace
from gradnas.strategies import Batch, SearchSchedule, Snas
from gradnas.strategies import snas as module
from gradnas.strategies.sampling import Draws, gumbel_like
from gradnas.strategies.snas import GumbelSoftmax
from gradnas.supergraph import MixedOp, Model

F64 = torch.float64
OPS = ("skip_connect", "sep_conv_3x3", "avg_pool_3x3", "none")
SPACE = DartsSpace(1, 8, 4, channels=4, cells=3, nodes=1, reductions=1, primitives=OPS)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def batch(seed: int) -> Batch:
    return random(8, 1, 8, 8, seed=seed), torch.randint(4, (8,), generator=torch.Generator().manual_seed(seed))


TRAIN, VAL = batch(1), batch(2)

# ---------------------------------------------------------------------------------------------------------------- rule


@pytest.mark.parametrize("temperature", [0.03, 0.7, 1.0, 10.0])
def test_weights_are_the_softmax_of_log_probabilities_and_noise(temperature: float) -> None:
    rule, alphas = GumbelSoftmax(temperature), random(5, 4)
    noise = gumbel_like(alphas, Draws())
    powers = (alphas.softmax(1) * noise.exp()) ** (1 / temperature)
    found = rule.weights(alphas)
    torch.testing.assert_close(found, powers / powers.sum(1, keepdim=True), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(found.sum(1), torch.ones(5, dtype=F64), rtol=1e-12, atol=0)


def test_edges_draw_independently() -> None:
    found = GumbelSoftmax().weights(torch.zeros(50, 3))
    assert len({tuple(row) for row in found.tolist()}) == 50


def test_a_low_temperature_gives_one_hot_rows_and_a_high_one_uniform_rows() -> None:
    alphas = random(200, 4)
    cold = GumbelSoftmax(1e-4).weights(alphas)
    assert float((cold - F.one_hot(cold.argmax(1), 4)).abs().max()) < 1e-6
    assert torch.equal(cold.argmax(1), (alphas + gumbel_like(alphas, Draws())).argmax(1))
    assert float((GumbelSoftmax(1e6).weights(alphas) - 0.25).abs().max()) < 1e-4


@pytest.mark.parametrize("temperature", [0.03, 1.0, 10.0])
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
def test_extreme_parameters_give_finite_weights_and_gradients(dtype: torch.dtype, temperature: float) -> None:
    alphas = torch.tensor([[50.0, -50.0, 0.0], [-50.0, -50.0, -50.0], [50.0, 50.0, 50.0]], dtype=dtype)
    alphas.requires_grad_()
    found = GumbelSoftmax(temperature).weights(alphas)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    (found * torch.arange(3)).sum().backward()
    assert alphas.grad is not None
    assert bool(alphas.grad.isfinite().all())
    assert bool(((found >= 0) & (found <= 1)).all())


def test_permuted_candidates_have_permuted_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    alphas, noise, order = random(3, 4), random(3, 4, seed=1), [2, 0, 3, 1]
    monkeypatch.setattr(module, "gumbel_like", lambda table, draws: noise)
    straight = GumbelSoftmax(0.5).weights(alphas)
    monkeypatch.setattr(module, "gumbel_like", lambda table, draws: noise[:, order])
    torch.testing.assert_close(GumbelSoftmax(0.5).weights(alphas[:, order]), straight[:, order], rtol=1e-12, atol=0)


def test_an_edge_with_permuted_candidates_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    order, noise, rule = [2, 0, 3, 1], random(1, 4, seed=1), GumbelSoftmax(0.5)
    ops = []
    for names in (OPS, [OPS[i] for i in order]):
        params = Params(conv=ConvMacroParams(4, 4), stride=1, primitives=tuple(names))
        ops.append(MixedOp(OpDesc("mixed_op", params), None, True, rule=rule).double())
    alphas = random(4, seed=2)
    with torch.no_grad():
        ops[0].alphas.copy_(alphas)
        ops[1].alphas.copy_(alphas[order])
    for place, i in enumerate(order):
        ops[1].candidates[place].load_state_dict(ops[0].candidates[i].state_dict())
    out = []
    for op, numbers in zip(ops, (noise, noise[:, order]), strict=True):
        monkeypatch.setattr(module, "gumbel_like", lambda table, draws, numbers=numbers: numbers)
        out.append(op(random(2, 4, 6, 6, seed=3)))
        out[-1].pow(3).sum().backward()
    torch.testing.assert_close(out[1], out[0])
    assert ops[0].alphas.grad is not None
    torch.testing.assert_close(ops[1].alphas.grad, ops[0].alphas.grad[order])


def test_evaluation_and_ranking_use_the_softmax_without_noise() -> None:
    rule, alphas = GumbelSoftmax(0.1), random(3, 4)
    assert torch.equal(rule.evaluation_weights(alphas), alphas.softmax(1))
    assert torch.equal(rule.probabilities(alphas), alphas.softmax(1))
    model = bound(Snas()).model.eval()
    expected = torch.stack([op.alphas for op in model.typed_cells()[0].mixed_ops()]).softmax(1)
    torch.testing.assert_close(model.mixing_weights()[0], expected)
    assert not torch.allclose(model.train().mixing_weights()[0], expected)  # type: ignore[arg-type]  # there is a table


# ------------------------------------------------------------------------------------------------------------ gradient


class Bound:
    """A strategy bound to a fresh model."""

    def __init__(self, strategy: Snas, **settings: Any) -> None:
        torch.manual_seed(0)
        self.strategy, self.model = strategy, Model(SPACE.build(), affine=False).double()
        self.model.set_mixing_rule(strategy.mixing_rule)
        self.alphas = list(self.model.all_owned().param_by_kind())
        for i, alpha in enumerate(self.alphas):
            alpha.data = random(4, seed=10 + i)
        self.weights = list(self.model.weights())
        strategy.prepare(self.model, self.loss, SGD(self.weights, lr=0.1), **settings)

    def loss(self, batch: Batch, **_: Any) -> Tensor:
        return F.cross_entropy(self.model(batch[0])[0], batch[1])

    def found(self) -> list[Tensor]:
        """The gradient of the one step made so far, from Adam's first moment; the decay must be 0."""
        assert self.strategy.weight_decay == 0
        moments = self.strategy.state_dict()["optimizer"]["state"]["state"]
        return [moments[i]["exp_avg"] / (1 - self.strategy.betas[0]) for i in range(len(self.alphas))]


def bound(strategy: Snas, **settings: Any) -> Bound:
    return Bound(strategy, **settings)


def central_differences(held: Bound, batch: Batch, h: float = 1e-5) -> list[Tensor]:
    slopes = [torch.zeros_like(alpha) for alpha in held.alphas]
    with torch.no_grad():
        for alpha, slope in zip(held.alphas, slopes, strict=True):
            for i in range(len(alpha)):
                start = float(alpha[i])
                for sign in (1, -1):
                    alpha[i] = start + sign * h
                    slope[i] += sign * float(held.loss(batch)) / (2 * h)
                alpha[i] = start
    return slopes


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    a, b = torch.cat(list(found)), torch.cat(list(expected))
    assert float(b.norm()) > 1e-4
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_gradient_is_that_of_the_path_of_the_same_draw(temperature: float) -> None:
    held = bound(Snas(weight_decay=0.0, lr=0.0, temperature=(temperature, 0.03)), seed=4)
    with held.strategy.weight_pass(held.alphas, learning=True):
        expected = central_differences(held, TRAIN)
        held.loss(TRAIN).backward()
    assert all(bool((g != 0).all()) for g in held.found())
    assert distance(held.found(), expected) < 1e-6


def test_single_level_gradients_are_those_of_two_separate_calls() -> None:
    held, twin = bound(Snas(weight_decay=0.0), seed=4), bound(Snas(weight_decay=0.0), seed=4)
    rule = twin.strategy.mixing_rule
    assert isinstance(rule, GumbelSoftmax)
    rule.draws.begin("weights", 0)
    expected = [
        torch.autograd.grad(twin.loss(TRAIN), inputs, allow_unused=True) for inputs in (twin.alphas, twin.weights)
    ]
    with held.strategy.weight_pass(held.alphas, learning=True):
        held.loss(TRAIN).backward()
    torch.testing.assert_close(held.found(), list(expected[0]), rtol=1e-12, atol=0)
    torch.testing.assert_close([p.grad for p in held.weights], list(expected[1]), rtol=1e-12, atol=1e-16)


def test_single_level_step_ignores_validation_data() -> None:
    held = bound(Snas())
    before = copy.deepcopy(held.model.state_dict())
    held.strategy.step(TRAIN, (VAL[0] * math.nan, VAL[1]))
    assert all(torch.equal(before[key], value) for key, value in held.model.state_dict().items())


def test_bilevel_learns_from_the_validation_batch_alone() -> None:
    held = bound(Snas(bilevel=True, weight_decay=0.0, lr=0.1), seed=4)
    rule = held.strategy.mixing_rule
    assert isinstance(rule, GumbelSoftmax)
    rule.draws.begin("architecture", 0)
    expected = list(torch.autograd.grad(held.loss(VAL), held.alphas))
    held.strategy.step((TRAIN[0] * math.nan, TRAIN[1]), VAL)
    torch.testing.assert_close(held.found(), expected, rtol=1e-12, atol=0)
    after = [alpha.detach().clone() for alpha in held.alphas]
    with held.strategy.weight_pass(held.alphas, learning=True):
        held.loss(TRAIN).backward()
    assert all(torch.equal(a, b) for a, b in zip(after, held.alphas, strict=True))


@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_mean_pathwise_gradient_is_the_slope_of_the_expectation(temperature: float) -> None:
    # With two candidates W = sigmoid((a - b + s) / temperature), s logistic: the expectation is an integral of one
    # variable, of which the slope is a difference of two.
    def costs(first: Tensor) -> Tensor:
        return 2.0 * first.square() + (1 - first) ** 3

    u = (torch.arange(200_000, dtype=F64) + 0.5) / 200_000
    s, gap, h = torch.logit(u), 0.3, 1e-3
    plus, minus = (costs(torch.sigmoid((gap + d + s) / temperature)).mean() for d in (h, -h))
    expected = float(plus - minus) / (2 * h)
    alphas = torch.tensor([[gap, 0.0]], dtype=F64).expand(400_000, 2).clone().requires_grad_()
    costs(GumbelSoftmax(temperature).weights(alphas)[:, 0]).sum().backward()
    assert alphas.grad is not None
    sample = alphas.grad[:, 0]
    error = float(sample.std()) / math.sqrt(len(sample))
    assert error < 0.02 * abs(expected)
    assert abs(float(sample.mean()) - expected) < 4 * error


# -------------------------------------------------------------------------------------------------- schedule, settings


@pytest.mark.parametrize(("annealing", "middle"), [("linear", 1.25), ("exponential", 1.0)])
def test_temperature_of_the_epoch_is_used_and_told(annealing: str, middle: float) -> None:
    schedule = SearchSchedule(epochs=3, steps_per_epoch=1, val_samples=0)
    held = bound(Snas(temperature=(2.0, 0.5), annealing=annealing), schedule=schedule)
    alphas, noise = random(2, 4), gumbel_like(random(2, 4), Draws())
    for epoch, expected in enumerate((2.0, middle, 0.5)):
        held.strategy.new_epoch(epoch)
        assert held.strategy.describe()["temperature"] == pytest.approx(expected)
        held.strategy.mixing_rule.begin_pass()
        found = held.strategy.mixing_rule.weights(alphas)
        torch.testing.assert_close(found, ((alphas + noise) / expected).softmax(1))


def test_defaults_are_those_of_the_docstring() -> None:
    strategy = Snas()
    assert (strategy.temperature, strategy.annealing, strategy.bilevel) == ((1.0, 0.03), "linear", False)
    assert (strategy.lr, strategy.betas, strategy.weight_decay) == (3e-4, (0.5, 0.999), 1e-3)
    assert strategy.describe() == {"temperature": 1.0}  # before the first epoch
    assert Snas(temperature=(5.0, 2.0)).describe() == {"temperature": 5.0}
    assert strategy.warmup_epochs(150) == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lr": -1.0}, "lr must be"),
        ({"weight_decay": math.nan}, "weight_decay must be"),
        ({"betas": (0.5, 1.0)}, "betas must be"),
        ({"temperature": (1.0, 0.0)}, "temperature must be two positive"),
        ({"temperature": (1.0,)}, "temperature must be two positive"),
        ({"temperature": (math.inf, 1.0)}, "temperature must be two positive"),
        ({"annealing": "cosine"}, "annealing must be 'linear' or 'exponential'"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Snas(**setting)
