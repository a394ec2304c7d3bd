"""Tests of ``src/gradnas/strategies/fair_darts.py``."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F
from torch.optim import SGD

from gradnas.finalizers import Finalizers
from gradnas.ops import ArchParams
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.diagnostics import describe_alphas, entropies, mean_entropy
from gradnas.spaces import DartsSpace
from gradnas.strategies import Batch, FairDarts
from gradnas.strategies.fair_darts import Sigmoid
from gradnas.supergraph import Model
from gradnas.training import TrainConf

F64 = torch.float64
OPS = ("skip_connect", "sep_conv_3x3", "avg_pool_3x3")
SPACE = DartsSpace(1, 8, 4, channels=4, cells=3, nodes=2, reductions=1, primitives=OPS)
RULE = Sigmoid()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def batch(seed: int) -> Batch:
    return random(8, 1, 8, 8, seed=seed), torch.randint(4, (8,), generator=torch.Generator().manual_seed(seed))


class Bound:
    """A strategy bound to a fresh model."""

    def __init__(self, strategy: FairDarts) -> None:
        torch.manual_seed(0)
        self.strategy, self.model = strategy, Model(SPACE.build(), affine=False).double()
        self.model.set_mixing_rule(strategy.mixing_rule)
        self.alphas = list(self.model.all_owned().param_by_kind())
        for i, alpha in enumerate(self.alphas):
            alpha.data = random(3, seed=10 + i)
        strategy.prepare(self.model, self.loss, SGD(self.model.weights(), lr=0.1))

    def loss(self, batch: Batch, **_: Any) -> Tensor:
        return F.cross_entropy(self.model(batch[0])[0], batch[1])


# ---------------------------------------------------------------------------------------------------------------- gates


def test_gates_are_sigmoids_and_rows_have_any_sum() -> None:
    alphas = torch.tensor([[0.0, 5.0, 5.0], [-5.0, -5.0, -4.0]], dtype=F64)
    expected = [[1 / (1 + math.exp(-a)) for a in row] for row in alphas.tolist()]
    for found in (RULE.weights(alphas), RULE.evaluation_weights(alphas), RULE.probabilities(alphas)):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=F64), rtol=1e-12, atol=0)
    assert float(RULE.weights(alphas)[0].sum()) > 2
    assert float(RULE.weights(alphas)[1].sum()) < 0.1


def test_all_gates_are_half_open_at_the_start() -> None:
    ((name, value),) = RULE.initial(5)
    assert isinstance(value, Parameter)
    assert (name, value.tolist()) == ("alphas", [0.0] * 5)
    assert value.requires_grad
    model = Model(SPACE.build(), affine=False)
    assert any(bool((alpha != 0).any()) for alpha in model.all_owned().param_by_kind())  # a softmax starts elsewhere
    state = torch.get_rng_state()
    model.set_mixing_rule(FairDarts().mixing_rule)
    assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn
    learnt = list(model.all_owned().param_by_kind())
    assert [alpha.tolist() for alpha in learnt] == [[0.0] * 3] * 10
    for table in model.mixing_weights():
        assert table is not None
        assert torch.equal(table.detach(), torch.full((5, 3), 0.5))
    learnt[0].data.fill_(2.0)
    model.set_mixing_rule(FairDarts().mixing_rule)
    assert next(iter(model.all_owned().param_by_kind())) is learnt[0]  # what was learnt by such a rule is kept


def test_a_search_begins_there() -> None:
    model = Model(SPACE.build(), affine=False)
    trainer = ArchTrainer(TrainConf(epochs=1), model, strategy=FairDarts(), seed=3)
    assert [alpha.tolist() for alpha in trainer.alphas] == [[0.0] * 3] * 10


def test_gates_are_independent_of_each_other() -> None:
    table = random(2, 3).requires_grad_()
    gates = RULE.weights(table)
    for e in range(2):
        for k in range(3):
            (slope,) = torch.autograd.grad(gates[e, k], table, retain_graph=True)
            expected = torch.zeros(2, 3, dtype=F64)
            expected[e, k] = gates[e, k].detach() * (1 - gates[e, k].detach())
            torch.testing.assert_close(slope, expected, rtol=1e-12, atol=0)


def test_extreme_gates_are_finite() -> None:
    table = torch.tensor([[50.0, -50.0], [-200.0, 200.0]], requires_grad=True)
    found = RULE.weights(table)
    found.sum().backward()
    assert bool(found.isfinite().all())
    assert table.grad is not None
    assert bool(table.grad.isfinite().all())


def test_an_edge_keeps_its_most_open_gate_and_ranks_by_it() -> None:
    def edge(*alphas: float) -> ArchParams:
        return ArchParams.view([("alphas", Parameter(torch.tensor(alphas, dtype=F64)))])

    # Open gates do not take from each other: the first edge ranks higher, although it is less sure of its choice.
    assert RULE.choose(edge(2.0, 2.1, 2.0), [0, 1, 2]) == (1, pytest.approx(1 / (1 + math.exp(-2.1))))
    assert RULE.choose(edge(1.0, -9.0, -9.0), [0, 1, 2]) == (0, pytest.approx(1 / (1 + math.exp(-1))))
    assert RULE.choose(edge(0.0, 1.0, 9.0), [0, 1])[0] == 1


def test_a_closed_cell_is_the_sum_of_nothing_and_an_open_one_of_everything() -> None:
    model = Bound(FairDarts()).model.eval()
    x, _ = batch(1)
    for value, gate in ((-800.0, 0.0), (800.0, 1.0)):
        with torch.no_grad():
            for alpha in model.all_owned().param_by_kind():
                alpha.fill_(value)
        ones = [torch.full((5, 3), gate, dtype=F64) for _ in range(3)]
        torch.testing.assert_close(model(x)[0], model(x, ones)[0], rtol=1e-12, atol=1e-14)


# -------------------------------------------------------------------------------------------------------- zero-one loss


def test_zero_one_loss_and_its_gradient_are_the_closed_form() -> None:
    held = Bound(FairDarts(zero_one=3.0))
    values = [float(a) for alpha in held.alphas for a in alpha.detach()]
    gates = [1 / (1 + math.exp(-a)) for a in values]
    assert len(gates) == 2 * 5 * 3
    penalty = held.strategy.penalty()
    assert penalty is not None
    assert float(penalty.detach()) == pytest.approx(-3.0 * sum((g - 0.5) ** 2 for g in gates) / len(gates), rel=1e-12)
    found = torch.cat(torch.autograd.grad(penalty, held.alphas)).tolist()
    expected = [-3.0 * 2 * (g - 0.5) * g * (1 - g) / len(gates) for g in gates]
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, 0.0), (800.0, -2.5), (-800.0, -2.5), (math.log(3.0), -0.625)])
def test_zero_one_loss_of_equal_gates_is_known(alpha: float, expected: float) -> None:
    held = Bound(FairDarts())
    with torch.no_grad():
        for own in held.alphas:
            own.fill_(alpha)
    penalty = held.strategy.penalty()
    assert penalty is not None
    assert float(penalty.detach()) == pytest.approx(expected, abs=1e-12)  # -10 · (gate - 0.5)²


def test_zero_one_loss_pushes_gates_apart() -> None:
    held = Bound(FairDarts(zero_one=1e6, lr=0.01, weight_decay=0.0))
    before = [alpha.detach().clone() for alpha in held.alphas]
    held.strategy.step(batch(1), batch(2))
    for old, new in zip(before, held.alphas, strict=True):
        assert torch.equal((new.detach() - old).sign(), old.sign())


@pytest.mark.parametrize("zero_one", [0.0, 2.0])
def test_the_step_follows_the_validation_loss_and_the_penalty(zero_one: float) -> None:
    held = Bound(FairDarts(zero_one=zero_one, lr=0.0, weight_decay=0.0))
    n = sum(len(alpha) for alpha in held.alphas)
    expected = []
    for alpha, g in zip(held.alphas, torch.autograd.grad(held.loss(batch(2)), held.alphas), strict=True):
        gate = alpha.detach().sigmoid()
        expected.append(g - zero_one * 2 * (gate - 0.5) * gate * (1 - gate) / n)
    held.strategy.step((batch(1)[0] * math.nan, batch(1)[1]), batch(2))
    state = held.strategy.state_dict()["optimizer"]["state"]["state"]
    found = [state[i]["exp_avg"] / (1 - 0.9) for i in range(len(held.alphas))]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    assert (held.strategy.penalty() is None) == (zero_one == 0)


# ---------------------------------------------------------------------------------------------------------- diagnostics


def test_entropy_is_that_of_the_shares_whatever_their_sum() -> None:
    model = Bound(FairDarts()).model
    rows = [[0.0] * 3, [800.0] * 3, [-30.0] * 3, [math.log(3.0), 0.0, 800.0], [9.0, -60.0, -60.0]]
    for i, alpha in enumerate(model.all_owned().param_by_kind()):
        alpha.data = torch.tensor(rows[i % 5], dtype=F64)
    shares = [0.75 / 2.25, 0.5 / 2.25, 1.0 / 2.25]
    mixed = -sum(s * math.log(s) for s in shares)
    for row in entropies(model):
        assert row.tolist() == pytest.approx([math.log(3)] * 3 + [mixed, 0.0], abs=1e-12)
    assert mean_entropy(model) == pytest.approx((3 * math.log(3) + mixed) / 5)
    described = describe_alphas(model, Finalizers().finalize_model(model))
    for cell in described["cells"].values():
        assert all(math.isfinite(value) for value in cell["entropy"] + cell["gap"])


# ------------------------------------------------------------------------------------------------------------- settings


def test_defaults_are_those_of_the_docstring() -> None:
    strategy = FairDarts()
    assert strategy.bilevel
    assert (strategy.zero_one, strategy.lr, strategy.betas, strategy.weight_decay) == (10.0, 3e-3, (0.9, 0.999), 1e-3)
    assert strategy.warmup_epochs(50) == 0
    assert strategy.describe() == {}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"zero_one": -1.0}, r"zero_one must be at least 0 and finite, got -1\.0"),
        ({"zero_one": math.nan}, "zero_one must be"),
        ({"zero_one": math.inf}, "zero_one must be"),
        ({"lr": -1.0}, "lr must be"),
        ({"weight_decay": math.nan}, "weight_decay must be"),
        ({"betas": (1.0, 0.5)}, "betas must be"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FairDarts(**setting)


def test_gates_closed_to_the_last_bit_leave_the_diagnosis_finite() -> None:
    model = Model(DartsSpace(1, 8, 4, channels=2, cells=3, nodes=1, reductions=1).build(), affine=False)
    model.set_mixing_rule(Sigmoid())
    for alpha in model.all_owned().param_by_kind():
        alpha.data.fill_(-120.0)  # the sigmoid is 0 in float32
    assert mean_entropy(model) == 0.0
    record = describe_alphas(model, Finalizers().finalize_model(model).clear_trainables())
    assert record["gap"] == 0.0
