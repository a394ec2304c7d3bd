"""Tests of ``src/gradnas/strategies/drnas.py``; the random numbers themselves are tested in ``test_sampling.py``."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Dirichlet
from torch.nn import functional as F
from torch.optim import SGD

from gradnas.spaces import DartsSpace
from gradnas.strategies import Batch, DrNas
from gradnas.strategies import drnas as module
from gradnas.strategies.drnas import DirichletSample, concentration, divergence
from gradnas.supergraph import Model

F64 = torch.float64
OPS = ("skip_connect", "sep_conv_3x3", "avg_pool_3x3")
SPACE = DartsSpace(1, 8, 4, channels=4, cells=3, nodes=2, reductions=1, primitives=OPS)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def batch(seed: int) -> Batch:
    return random(8, 1, 8, 8, seed=seed), torch.randint(4, (8,), generator=torch.Generator().manual_seed(seed))


def alphas_of(*betas: float) -> Tensor:
    """What ``elu(alpha) + 1`` makes these of."""
    return torch.tensor([b - 1 if b >= 1 else math.log(b) for b in betas], dtype=F64)


TRAIN, VAL = batch(1), batch(2)

# ------------------------------------------------------------------------------------------------------- concentration


def test_concentration_is_elu_plus_one() -> None:
    alphas = torch.tensor([[-6.0, -1.0, 0.0, 0.5, 7.0]], dtype=F64)
    expected = [[math.exp(-6), math.exp(-1), 1.0, 1.5, 8.0]]
    torch.testing.assert_close(concentration(alphas), torch.tensor(expected, dtype=F64), rtol=1e-12, atol=0)
    assert float(concentration(torch.tensor([[-20.0]]))) == pytest.approx(1e-3)
    assert concentration(torch.zeros(1, 2, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
def test_extreme_parameters_give_finite_positive_weights_and_finite_gradients(dtype: torch.dtype) -> None:
    rows = [[-20.0] * 3, [-50.0] * 3, [50.0] * 3, [50.0, -50.0, 0.0], [-20.0, 0.0, 0.0], [-1e4, 1e4, 0.0]]
    alphas = torch.tensor(rows, dtype=dtype).repeat(200, 1).requires_grad_()
    rule = DirichletSample()
    found = rule.weights(alphas)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert bool((found.isfinite() & (found > 0)).all())
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))
    ((found * torch.arange(3)).sum() + divergence(alphas).sum()).backward()
    assert alphas.grad is not None
    assert bool(alphas.grad.isfinite().all())
    assert bool(rule.evaluation_weights(alphas).isfinite().all())


# -------------------------------------------------------------------------------------------------------------- sample


@pytest.mark.parametrize("betas", [(2.0, 1.0, 1.0), (0.5, 2.0, 3.0), (1.0, 1.0, 1.0, 1.0)], ids=str)
def test_mean_and_variance_are_those_of_the_distribution(betas: Sequence[float]) -> None:
    n = 100_000
    found = DirichletSample().weights(alphas_of(*betas).expand(n, len(betas)))
    beta = torch.tensor(betas, dtype=F64)
    mean = beta / beta.sum()
    torch.testing.assert_close(found.mean(0), mean, rtol=0.01, atol=0)
    torch.testing.assert_close(found.var(0), mean * (1 - mean) / (beta.sum() + 1), rtol=0.03, atol=0)


def test_every_edge_has_a_distribution_of_its_own_and_draws_independently() -> None:
    n = 20_000
    alphas = torch.stack([alphas_of(0.5, 2.0, 3.0), alphas_of(8.0, 1.0, 1.0)])
    rule, first, second = DirichletSample(), [], []
    for step in range(20):
        rule.draws.begin("weights", step)
        table = rule.weights(alphas.repeat(n // 20, 1))
        first.append(table[::2])
        second.append(table[1::2])
    a, b = torch.cat(first), torch.cat(second)
    torch.testing.assert_close(a.mean(0), torch.tensor([1 / 11, 4 / 11, 6 / 11], dtype=F64), rtol=0.03, atol=0)
    torch.testing.assert_close(b.mean(0), torch.tensor([0.8, 0.1, 0.1], dtype=F64), rtol=0.03, atol=0)
    correlation = torch.corrcoef(torch.stack([a[:, 0], b[:, 0]]))[0, 1]
    assert abs(float(correlation)) < 4 / math.sqrt(n)


@pytest.mark.parametrize("betas", [(2.0, 1.0, 1.5), (0.5, 2.0, 3.0)], ids=str)
def test_mean_pathwise_gradient_is_the_slope_of_the_expectation_of_a_linear_function(betas: Sequence[float]) -> None:
    n, cost, alpha, h = 200_000, torch.tensor([1.0, -2.0, 0.5], dtype=F64), alphas_of(*betas), 1e-5

    def expectation(alpha: Tensor) -> float:
        beta = [float(a) + 1 if a > 0 else math.exp(a) for a in alpha]
        return sum(float(c) * b for c, b in zip(cost, beta, strict=True)) / sum(beta)

    table = alpha.expand(n, 3).clone().requires_grad_()
    (DirichletSample().weights(table) @ cost).sum().backward()
    assert table.grad is not None
    for i in range(3):
        step = h * F.one_hot(torch.tensor(i), 3)
        expected = (expectation(alpha + step) - expectation(alpha - step)) / (2 * h)
        error = float(table.grad[:, i].std()) / math.sqrt(n)
        assert error < 0.02 * abs(expected)
        assert abs(float(table.grad[:, i].mean()) - expected) < 4 * error


def test_evaluation_uses_the_mean_and_ranking_what_it_is_told() -> None:
    alphas = torch.stack([alphas_of(2.0, 1.0, 1.0), alphas_of(0.5, 2.0, 3.0)])
    mean = torch.tensor([[0.5, 0.25, 0.25], [1 / 11, 4 / 11, 6 / 11]], dtype=F64)
    for ranking in ("mean", "softmax"):
        rule = DirichletSample(ranking)
        torch.testing.assert_close(rule.evaluation_weights(alphas), mean, rtol=1e-12, atol=0)
        expected = mean if ranking == "mean" else alphas.exp() / alphas.exp().sum(1, keepdim=True)
        torch.testing.assert_close(rule.probabilities(alphas), expected, rtol=1e-12, atol=0)
        assert DrNas(ranking=ranking).mixing_rule.ranking == ranking  # type: ignore[attr-defined]  # its own rule


def test_all_edges_of_a_cell_type_are_drawn_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, ...]] = []

    class Counting(Dirichlet):
        def rsample(self, *args: Any, **kwargs: Any) -> Tensor:
            drawn.append(tuple(self.concentration.shape))
            return super().rsample(*args, **kwargs)

    monkeypatch.setattr(module, "Dirichlet", Counting)
    model = supergraph(DrNas())
    model(TRAIN[0])
    assert drawn == [(5, 3), (5, 3)]  # a regular and a reduction cell, of 2 + 3 edges
    model.eval()(TRAIN[0])
    assert len(drawn) == 2


# ---------------------------------------------------------------------------------------------------------- divergence


@pytest.mark.parametrize(
    ("betas", "expected"), [((1.0, 1.0, 1.0), 0.0), ((2.0, 1.0, 1.0), 0.26528), ((0.5, 2.0, 3.0), 1.22153)], ids=str
)
def test_divergence_from_the_uniform_distribution_is_the_known_one(betas: Sequence[float], expected: float) -> None:
    assert float(divergence(alphas_of(*betas).unsqueeze(0))) == pytest.approx(expected, abs=5e-6)


def test_divergence_is_that_of_each_edge_and_not_of_all_together() -> None:
    table = torch.stack([alphas_of(2.0, 1.0, 1.0), alphas_of(0.5, 2.0, 3.0), alphas_of(1.0, 1.0, 1.0)])
    expected = torch.tensor([0.26528, 1.22153, 0.0], dtype=F64)
    torch.testing.assert_close(divergence(table), expected, rtol=0, atol=5e-6)


def test_divergence_is_the_integral_over_the_simplex() -> None:
    # Of Beta(2, 3) from the uniform distribution, whose density is 1: the integral of p ln p.
    x = (torch.arange(100_000, dtype=F64) + 0.5) / 100_000
    p = 12 * x * (1 - x) ** 2
    assert float(divergence(alphas_of(2.0, 3.0).unsqueeze(0))) == pytest.approx(float((p * p.log()).mean()), abs=1e-6)


def test_the_uniform_distribution_is_where_the_divergence_is_flat() -> None:
    alphas = torch.zeros(2, 5, dtype=F64, requires_grad=True)
    divergence(alphas).sum().backward()
    assert alphas.grad is not None
    assert float(alphas.grad.abs().max()) < 1e-12


# -------------------------------------------------------------------------------------------------------------- search


def supergraph(strategy: DrNas) -> Model:
    torch.manual_seed(0)
    model = Model(SPACE.build(), affine=False).double()
    model.set_mixing_rule(strategy.mixing_rule)
    for i, alpha in enumerate(model.all_owned().param_by_kind()):
        alpha.data = random(3, seed=10 + i)
    return model


def test_strengths_of_a_model_are_the_means_in_its_precision() -> None:
    model = supergraph(DrNas())
    found = model.probabilities()
    assert len(found) == 3
    for cell, table in zip(model.typed_cells(), found, strict=True):
        beta = torch.stack([torch.where(op.alphas > 0, op.alphas + 1, op.alphas.exp()) for op in cell.mixed_ops()])
        assert table is not None
        torch.testing.assert_close(table, beta / beta.sum(1, keepdim=True), rtol=1e-12, atol=0)
        assert table.requires_grad
    assert torch.equal(model(TRAIN[0], found)[0], model(TRAIN[0], found)[0])  # training, and nothing is drawn
    narrow = model.bfloat16().probabilities()
    assert [table.dtype for table in narrow if table is not None] == [torch.bfloat16] * 3


def pushed(alpha: Tensor) -> Tensor:
    """Gradient of the divergence by hand: (beta_i - 1) psi'(beta_i) - (beta_0 - N) psi'(beta_0), times elu'."""
    beta = torch.where(alpha > 0, alpha + 1, alpha.exp())
    total = beta.sum()
    slope = (beta - 1) * torch.special.polygamma(1, beta) - (total - len(beta)) * torch.special.polygamma(1, total)
    return slope * torch.where(alpha > 0, torch.ones_like(alpha), alpha.exp())


@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_divergence_enters_the_architecture_gradient_alone(kl: float) -> None:
    strategy = DrNas(kl=kl, lr=0.0)
    model = supergraph(strategy)
    alphas, weights = list(model.all_owned().param_by_kind()), list(model.weights())
    losses: list[float] = []

    def loss(batch: Batch, **_: Any) -> Tensor:
        value = F.cross_entropy(model(batch[0])[0], batch[1])
        losses.append(float(value.detach()))
        return value

    strategy.prepare(model, loss, SGD(weights, lr=0.1), seed=3)
    rule = strategy.mixing_rule
    assert isinstance(rule, DirichletSample)
    rule.draws.begin("architecture", 0)
    expected = [
        g + kl * pushed(a.detach()) for g, a in zip(torch.autograd.grad(loss(VAL), alphas), alphas, strict=True)
    ]
    rule.draws.begin("weights", 0)
    of_weights = torch.autograd.grad(loss(TRAIN), weights, allow_unused=True)
    strategy.step(TRAIN, VAL)
    moments = strategy.state_dict()["optimizer"]["state"]["state"]
    found = [moments[i]["exp_avg"] / 0.5 for i in range(len(alphas))]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    with strategy.weight_pass(alphas, learning=True):
        loss(TRAIN).backward()
    torch.testing.assert_close([p.grad for p in weights], list(of_weights), rtol=1e-12, atol=1e-16)
    assert losses[:2] == losses[2:]
    assert (strategy.penalty() is None) == (kl == 0)
    assert all(alpha.grad is None for alpha in alphas)


def test_penalty_sums_over_the_edges_of_both_types() -> None:
    strategy = DrNas(kl=0.2)
    model = supergraph(strategy)
    strategy.prepare(model, lambda *_, **__: torch.zeros(()), SGD(model.weights(), lr=0.1))
    single = [float(divergence(alpha.detach().unsqueeze(0))) for alpha in model.all_owned().param_by_kind()]
    assert len(single) == 10
    penalty = strategy.penalty()
    assert penalty is not None
    assert float(penalty.detach()) == pytest.approx(0.2 * sum(single), rel=1e-12)
    assert strategy.describe() == {"divergence": pytest.approx(sum(single) / 10, rel=1e-12)}


# ------------------------------------------------------------------------------------------------------------ settings


def test_defaults_are_those_of_the_docstring() -> None:
    strategy = DrNas()
    assert strategy.bilevel
    assert (strategy.lr, strategy.betas, strategy.weight_decay) == (6e-4, (0.5, 0.999), 0.0)
    assert (strategy.kl, strategy.ranking) == (1e-3, "mean")
    assert [strategy.warmup_epochs(epochs) for epochs in (25, 50, 5, 2, 1)] == [10, 20, 2, 0, 0]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lr": math.nan}, "lr must be"),
        ({"weight_decay": math.inf}, "weight_decay must be"),
        ({"betas": (0.5, -1.0)}, "betas must be"),
        ({"kl": -1e-3}, r"kl must be at least 0 and finite, got -0\.001"),
        ({"kl": math.nan}, "kl must be"),
        ({"kl": math.inf}, "kl must be"),
        ({"ranking": "median"}, "ranking must be 'mean' or 'softmax', got 'median'"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DrNas(**setting)
