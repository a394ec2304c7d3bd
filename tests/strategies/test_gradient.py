"""Tests of ``src/gradnas/strategies/gradient.py``: what all strategies that follow a gradient have in common."""

import ast
import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from gradnas import strategies
from gradnas.finalizers import Finalizers
from gradnas.spaces import DartsSpace
from gradnas.strategies import (
    Batch,
    Darts,
    DiDarts,
    DrNas,
    FairDarts,
    Gdas,
    GradientStrategy,
    PcDarts,
    SearchSchedule,
    Snas,
)
from gradnas.strategies.gradient import AdamStrategy, AnnealedStrategy, batch_gradient
from gradnas.strategies.sampling import Draws, SampledRule, Temperature, TemperedRule
from gradnas.supergraph import Model, Softmax

F64 = torch.float64
OPS = ("skip_connect", "sep_conv_3x3", "avg_pool_3x3", "none")
SPACE = DartsSpace(1, 8, 4, channels=4, cells=3, nodes=1, reductions=1, primitives=OPS)
SCHEDULE = SearchSchedule(epochs=4, steps_per_epoch=2, val_samples=64)


class Plain(GradientStrategy):
    """SGD with rate 1 and nothing else, so that a step is the gradient."""

    bilevel = True

    def __init__(self) -> None:
        super().__init__(Softmax())

    def create_optimizer(self, alphas: list[nn.Parameter]) -> Optimizer:
        return SGD(alphas, lr=1.0)


class Penalized(Plain):
    def penalty(self) -> Tensor:
        return torch.stack([table.pow(3).sum() for table in self.tables()]).sum()


class Single(Plain):
    bilevel = False


class SinglePenalized(Penalized):
    bilevel = False


def batch(seed: int, n: int = 8) -> Batch:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 8, 8, generator=g, dtype=F64), torch.randint(4, (n,), generator=g)


TRAIN, VAL = batch(1), batch(2)


class Bound:
    """A strategy bound to a fresh model, with the loss it sees."""

    def __init__(self, strategy: GradientStrategy, *, evaluate: bool = False, **settings: Any) -> None:
        self.strategy, self.sizes, self.asked = strategy, list[int](), list[bool]()
        torch.manual_seed(0)
        self.model = Model(strategy.supergraph(SPACE.build()), affine=False).double()
        self.model.set_mixing_rule(strategy.mixing_rule)
        self.alphas = list(self.model.all_owned().param_by_kind())
        g = torch.Generator().manual_seed(5)
        for alpha in self.alphas:
            alpha.data = torch.randn(alpha.shape, generator=g, dtype=F64)
        if evaluate:
            self.model.eval()  # no norm couples examples
        self.optimizer = SGD(self.model.weights(), lr=0.1, momentum=0.9, weight_decay=0.01)
        strategy.prepare(self.model, self.loss, self.optimizer, **{"schedule": SCHEDULE, **settings})

    def loss(self, batch: Batch, *, full_precision: bool = False, mixing: Any = None) -> Tensor:
        self.sizes.append(len(batch[1]))
        self.asked.append(full_precision)
        return F.cross_entropy(self.model(batch[0])[0], batch[1])

    def gradient(self, batch: Batch) -> list[Tensor]:
        return list(torch.autograd.grad(self.loss(batch), self.alphas))

    def weight_step(self, batch: Batch = TRAIN, *, learning: bool = True, chunks: int = 1) -> None:
        self.optimizer.zero_grad()
        with self.strategy.weight_pass(self.alphas, learning=learning):
            for x, y in zip(batch[0].chunk(chunks), batch[1].chunk(chunks), strict=True):
                (self.loss((x, y)) * (len(y) / len(batch[1]))).backward()
        self.optimizer.step()

    def values(self) -> list[Tensor]:
        return [alpha.detach().clone() for alpha in self.alphas]


def close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-12) -> None:
    scale = max(float(e.abs().max()) for e in expected)
    assert scale > 1e-6
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) < tolerance * scale


def moved(bound: Bound, before: Sequence[Tensor]) -> list[Tensor]:
    return [old - new for old, new in zip(before, bound.values(), strict=True)]


# --------------------------------------------------------------------------------------------------------- bilevel step


@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(chunks: int) -> None:
    bound = Bound(Plain(), evaluate=True, chunks=chunks)
    expected, before = bound.gradient(VAL), bound.values()
    bound.sizes.clear()
    bound.strategy.step(TRAIN, VAL)
    assert bound.sizes == [8 // chunks] * chunks
    close(moved(bound, before), expected)


def test_parts_of_different_sizes_count_by_their_examples() -> None:
    bound = Bound(Plain(), evaluate=True)
    uneven = batch(3, n=5)
    found = batch_gradient(bound.loss, uneven, bound.alphas, 2, full_precision=True)
    assert bound.sizes == [3, 2]
    assert bound.asked == [True, True]
    close(found, bound.gradient(uneven))


def test_a_parameter_that_takes_no_part_has_gradient_zero() -> None:
    bound = Bound(Plain())
    aside = nn.Parameter(torch.ones(2, dtype=F64))
    assert batch_gradient(bound.loss, VAL, [*bound.alphas, aside])[-1].tolist() == [0.0, 0.0]
    constant = batch_gradient(lambda *_, **__: torch.ones(()), VAL, [aside], 2)  # type: ignore[arg-type]  # no keywords
    assert [g.tolist() for g in constant] == [[0.0, 0.0]]


@pytest.mark.parametrize("chunks", [1, 4])
def test_penalty_is_added_once_whatever_the_number_of_parts(chunks: int) -> None:
    bound = Bound(Penalized(), evaluate=True, chunks=chunks)
    expected = [g + 3 * a.detach() ** 2 for g, a in zip(bound.gradient(VAL), bound.alphas, strict=True)]
    before = bound.values()
    bound.strategy.step(TRAIN, VAL)
    close(moved(bound, before), expected)


def test_step_leaves_everything_but_the_architecture_alone() -> None:
    bound = Bound(Plain())
    bound.weight_step()  # fills momentum, leaves gradients
    names = {id(p): name for name, p in bound.model.named_parameters()}
    arch = {names[id(alpha)] for alpha in bound.alphas}
    state = {k: v.clone() for k, v in bound.model.state_dict().items()}
    grads = [None if p.grad is None else p.grad.clone() for p in bound.model.weights()]
    buffers = copy.deepcopy(bound.optimizer.state_dict()["state"])
    bound.strategy.step(TRAIN, VAL)
    changed = {k for k, v in bound.model.state_dict().items() if not torch.equal(v, state[k])}
    assert changed == arch
    for p, g in zip(bound.model.weights(), grads, strict=True):
        assert p.requires_grad
        assert p.grad is g is None or (g is not None and p.grad is not None and torch.equal(p.grad, g))
    for i, own in bound.optimizer.state_dict()["state"].items():
        assert torch.equal(own["momentum_buffer"], buffers[i]["momentum_buffer"])


def test_gradients_of_weights_are_not_computed_in_the_architecture_pass() -> None:
    bound, seen = Bound(Plain()), list[bool]()

    def loss(batch: Batch, **_: Any) -> Tensor:
        seen.extend(p.requires_grad for p in bound.model.weights())
        return bound.loss(batch)

    bound.strategy.prepare(bound.model, loss, bound.optimizer)
    bound.strategy.step(TRAIN, VAL)
    assert seen
    assert not any(seen)


def test_a_bilevel_step_without_validation_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Plain is bilevel: each step needs a validation batch\. Give the search"):
        Bound(Plain()).strategy.step(TRAIN, None)


def test_bilevel_weight_pass_fixes_the_architecture() -> None:
    bound = Bound(Penalized())
    before = bound.values()
    with bound.strategy.weight_pass(bound.alphas, learning=True):
        assert not any(alpha.requires_grad for alpha in bound.alphas)
        bound.loss(TRAIN).backward()
    assert all(alpha.requires_grad and alpha.grad is None for alpha in bound.alphas)
    assert all(torch.equal(a, b) for a, b in zip(before, bound.values(), strict=True))


# --------------------------------------------------------------------------------------------------------- single level


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize("strategy", [Single, SinglePenalized])
def test_single_level_learns_from_the_weight_pass(strategy: type[Plain], chunks: int) -> None:
    bound = Bound(strategy(), evaluate=True)
    expected = bound.gradient(TRAIN)
    if strategy is SinglePenalized:
        expected = [g + 3 * a.detach() ** 2 for g, a in zip(expected, bound.alphas, strict=True)]
    before = bound.values()
    for alpha in bound.alphas:
        alpha.grad = torch.full_like(alpha, 99.0)  # left by somebody else
    bound.weight_step(chunks=chunks)
    close(moved(bound, before), expected)
    assert all(alpha.grad is None for alpha in bound.alphas)


def test_single_level_step_does_nothing_and_needs_no_validation() -> None:
    bound = Bound(SinglePenalized())
    before = bound.values()
    bound.strategy.step(TRAIN, None)
    bound.strategy.step(TRAIN, (VAL[0] * torch.nan, VAL[1]))
    assert bound.sizes == []
    assert all(torch.equal(a, b) for a, b in zip(before, bound.values(), strict=True))


def test_single_level_pass_without_learning_fixes_the_architecture() -> None:
    bound = Bound(SinglePenalized())
    before = bound.values()
    with bound.strategy.weight_pass(bound.alphas, learning=False):
        assert not any(alpha.requires_grad for alpha in bound.alphas)
        bound.loss(TRAIN).backward()
    assert all(alpha.requires_grad for alpha in bound.alphas)
    assert all(torch.equal(a, b) for a, b in zip(before, bound.values(), strict=True))
    assert bound.strategy.state_dict()["steps"] == 0


def test_single_level_learns_nothing_from_a_pass_that_failed() -> None:
    bound = Bound(SinglePenalized())
    before = bound.values()
    with pytest.raises(ZeroDivisionError), bound.strategy.weight_pass(bound.alphas, learning=True):
        raise ZeroDivisionError
    assert all(torch.equal(a, b) for a, b in zip(before, bound.values(), strict=True))


def test_single_level_takes_a_parameter_without_gradient_as_zero() -> None:
    bound = Bound(Single())
    before = bound.values()
    with bound.strategy.weight_pass(bound.alphas, learning=True):
        pass
    assert all(torch.equal(a, b) for a, b in zip(before, bound.values(), strict=True))


# ------------------------------------------------------------------------------------------------------- all strategies

ALL: dict[str, Callable[[], GradientStrategy]] = {
    "darts": lambda: Darts(lr=1e-2),
    "darts2": lambda: Darts(2, lr=1e-2),
    "didarts": DiDarts,
    "snas": lambda: Snas(lr=1e-2, temperature=(2.0, 0.5), annealing="exponential"),
    "snas bilevel": lambda: Snas(bilevel=True),
    "gdas": lambda: Gdas(lr=1e-2, temperature=[3, 1]),
    "drnas": lambda: DrNas(ranking="softmax", kl=0.5),
    "pc_darts": lambda: PcDarts(partial=2, betas=(0.4, 0.9)),
    "fair_darts": lambda: FairDarts(zero_one=3.0),
}


@pytest.mark.parametrize("name", ALL)
def test_after_a_loaded_state_the_next_steps_are_bit_equal(name: str) -> None:
    def steps(bound: Bound, seeds: Sequence[int]) -> None:
        for seed in seeds:
            bound.strategy.new_epoch(seed // 2)
            bound.strategy.step(batch(seed), batch(seed + 10))
            bound.weight_step(batch(seed))

    whole = Bound(ALL[name](), seed=3)
    steps(whole, (0, 1))
    saved = copy.deepcopy((whole.model.state_dict(), whole.strategy.state_dict(), whole.optimizer.state_dict()))
    steps(whole, (2, 3))
    resumed = Bound(ALL[name](), seed=3)
    resumed.model.load_state_dict(saved[0])
    resumed.strategy.load_state_dict(saved[1])
    resumed.optimizer.load_state_dict(saved[2])
    halfway = resumed.values()
    steps(resumed, (2, 3))
    assert any(not torch.equal(a, b) for a, b in zip(halfway, resumed.values(), strict=True))
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    assert whole.strategy.state_dict()["weight_steps"] == 4


@pytest.mark.parametrize("name", ALL)
def test_every_architecture_parameter_moves_in_a_step(name: str) -> None:
    bound = Bound(ALL[name]())
    before = bound.values()
    bound.strategy.new_epoch(0)
    bound.strategy.step(TRAIN, VAL)
    bound.weight_step()
    bound.strategy.check()
    for old, new in zip(before, bound.values(), strict=True):
        assert bool(new.isfinite().all())
        assert bool((old != new).all())


@pytest.mark.parametrize("name", ALL)
def test_printed_form_makes_an_equal_strategy(name: str) -> None:
    strategy = ALL[name]()
    call = ast.parse(repr(strategy), mode="eval").body
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Name)
    assert not call.args
    settings = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    again = getattr(strategies, call.func.id)(**settings)
    assert type(again) is type(strategy)
    assert repr(again) == repr(strategy)
    assert {k: getattr(again, str(k)) for k in settings} == {k: getattr(strategy, str(k)) for k in settings}


@pytest.mark.parametrize("name", ALL)
def test_a_model_with_nothing_to_choose_is_refused(name: str) -> None:
    found = Finalizers().finalize_model(Model(SPACE.build(), affine=False))
    model = Model(found, affine=False)
    with pytest.raises(ValueError, match=r"no architecture parameter that a gradient could move"):
        ALL[name]().prepare(model, lambda *_, **__: torch.zeros(()), SGD(model.weights(), lr=0.1))


@pytest.mark.parametrize("name", ["didarts", "snas", "gdas"])
def test_a_strategy_that_anneals_needs_the_number_of_epochs(name: str) -> None:
    bound = Bound(ALL[name](), schedule=None)
    with pytest.raises(ValueError, match=r"changes with the epochs of the search, but their number is not known: pass"):
        bound.strategy.new_epoch(0)


def test_the_number_of_epochs_is_that_of_the_schedule() -> None:
    assert Bound(Plain()).strategy.epochs() == 4


@pytest.mark.parametrize(
    ("name", "cost", "capturable"),
    [
        ("darts", 5.0, True),
        ("didarts", 3.0, True),
        ("snas", 3.0, False),
        ("snas bilevel", 5.0, False),
        ("gdas", 5 / 4, False),
        ("drnas", 5.0, False),
        ("pc_darts", 5.0, True),
        ("fair_darts", 5.0, True),
    ],
)
def test_cost_is_that_of_the_passes_and_what_draws_cannot_be_recorded(name: str, cost: float, capturable: bool) -> None:
    strategy = ALL[name]()
    assert strategy.forward_equivalents(4) == cost  # F = 1, backward for weights 2 F, for mixing weights alone F
    assert strategy.capturable is capturable


# ----------------------------------------------------------------------------------------------- by Adam, and annealed

BY_ADAM: dict[str, Callable[..., AdamStrategy]] = {
    "darts": Darts,
    "snas": Snas,
    "gdas": Gdas,
    "pc_darts": PcDarts,
    "fair_darts": FairDarts,
    "by itself": lambda lr=0.1, betas=(0.5, 0.9), weight_decay=0.0: ByAdam(lr, betas, weight_decay),
}


class ByAdam(AdamStrategy):
    """Adam and nothing else."""

    bilevel = True

    def __init__(self, lr: float, betas: Sequence[float], weight_decay: float) -> None:
        super().__init__(Softmax(), lr, betas, weight_decay)


@pytest.mark.parametrize("name", BY_ADAM)
@pytest.mark.parametrize("value", [-1e-3, math.nan, math.inf])
def test_rates_must_be_at_least_zero_and_finite(value: float, name: str) -> None:
    with pytest.raises(ValueError, match=rf"lr must be at least 0 and finite, got {value}"):
        BY_ADAM[name](lr=value)
    with pytest.raises(ValueError, match=rf"weight_decay must be at least 0 and finite, got {value}"):
        BY_ADAM[name](weight_decay=value)
    still = BY_ADAM[name](lr=0.0, weight_decay=0.0)
    assert (still.lr, still.weight_decay) == (0.0, 0.0)


@pytest.mark.parametrize("name", BY_ADAM)
@pytest.mark.parametrize("betas", [(-0.1, 0.9), (0.5, 1.0), (math.nan, 0.9), (0.5, math.inf), (0.5,), (0.1, 0.2, 0.3)])
def test_decay_rates_of_adam_are_two_numbers_below_one(betas: Sequence[float], name: str) -> None:
    with pytest.raises(ValueError, match=r"betas must be two numbers of at least 0 and below 1, got"):
        BY_ADAM[name](betas=betas)


@pytest.mark.parametrize("name", BY_ADAM)
def test_decay_rates_of_adam_become_a_pair_of_floats(name: str) -> None:
    found = BY_ADAM[name](betas=[0, 0.999]).betas
    assert found == (0.0, 0.999)
    assert [type(value) for value in found] == [float, float]


def test_adam_adds_the_decay_to_the_gradient_at_a_constant_rate() -> None:
    lr, (beta1, beta2), decay = 0.05, (0.5, 0.999), 0.3
    bound = Bound(ByAdam(lr, [beta1, beta2], decay))
    m = v = torch.zeros(sum(alpha.numel() for alpha in bound.alphas), dtype=F64)
    for t in range(1, 5):
        alpha = torch.cat([value.flatten() for value in bound.values()])
        g = torch.cat([value.flatten() for value in bound.gradient(batch(t))]) + decay * alpha
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        expected = alpha - lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + 1e-8)
        bound.strategy.new_epoch(t)
        bound.strategy.step(TRAIN, batch(t))
        torch.testing.assert_close(
            torch.cat([value.flatten() for value in bound.values()]), expected, rtol=1e-12, atol=0
        )


class Tempered(TemperedRule):
    """A softmax that notes the temperature of each pass."""

    def __init__(self) -> None:
        super().__init__(7.0)
        self.seen = list[float]()

    def weights(self, alphas_EN: Tensor) -> Tensor:
        self.seen.append(self.temperature)
        return (alphas_EN / self.temperature).softmax(1)

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(1)


class Annealed(AnnealedStrategy):
    bilevel = True

    def __init__(self, rule: Tempered, ends: Sequence[float]) -> None:
        super().__init__(rule, Temperature(ends), 0.1, (0.5, 0.9), 0.0)


def test_temperature_of_the_epoch_is_that_of_the_passes() -> None:
    rule = Tempered()
    strategy = Annealed(rule, (4.0, 1.0))
    assert (rule.temperature, strategy.describe()) == (4.0, {"temperature": 4.0})  # not the rule's own 7
    bound = Bound(strategy)  # of four epochs
    for epoch in range(4):
        strategy.new_epoch(epoch)
        assert strategy.describe() == {"temperature": 4.0 - epoch}
        strategy.step(TRAIN, VAL)
        bound.weight_step()
    assert rule.seen == [t for t in (4.0, 3.0, 2.0, 1.0) for _ in range(4)]  # two passes and two types of cells
    strategy.new_epoch(1)  # a search that goes on
    assert rule.temperature == 3.0


def test_annealed_strategies_check_what_those_by_adam_check_and_draw() -> None:
    assert not Annealed(Tempered(), (1.0, 1.0)).capturable
    assert isinstance(Tempered().draws, Draws)
    assert issubclass(TemperedRule, SampledRule)
    for strategy in (Snas, Gdas):
        assert issubclass(strategy, AnnealedStrategy)
    for changes in ({"lr": -1.0}, {"betas": (1.0, 0.5)}, {"weight_decay": -1.0}, {"temperature": (0.0, 1.0)}):
        with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
            Gdas(**changes)


def test_a_gradient_that_is_not_finite_is_reported() -> None:
    bound = Bound(Single())
    bound.weight_step()
    bound.strategy.check()
    bound.weight_step((TRAIN[0] * torch.nan, TRAIN[1]))
    with pytest.raises(FloatingPointError, match="at architecture step 1 "):
        bound.strategy.check()
