"""Tests of ``src/gradnas/strategies/unrolled.py`` and of ``hypergradient``, the same equations as a pure function.

Two references that share no code with the source: double backward through the SGD step written out, and a central
difference of the validation loss after a step of the real ``torch.optim.SGD``. Errors are measured against the norm of
the second-order part alone, so that a first-order part that happens to be large cannot hide a wrong one. The same
comparison is shown to fail for every known way of getting the formula wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import Parameter
from torch.nn import functional as F
from torch.optim import SGD, Adam

from gradnas.ops import DropPath_
from gradnas.spaces import DartsSpace
from gradnas.strategies.darts import hypergradient
from gradnas.strategies.unrolled import Gradient, SgdStep, unrolled_gradient
from gradnas.supergraph import ArchModule, Model, untouched_statistics

F64 = torch.float64

# --------------------------------------------------------------------------------------------------------- the problems


class Edge(ArchModule):
    """Three smooth candidates under a softmax."""

    def __init__(self, width: int, names: Sequence[str] = ("alphas",)) -> None:
        super().__init__()
        self.create_arch_params([(name, Parameter(torch.randn(3))) for name in names])
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        alphas = self.arch_params()["alphas"]
        assert isinstance(alphas, Parameter)
        p = alphas.softmax(0)
        return p[0] * torch.tanh(self.first(x)) + p[1] * self.second(x) + p[2] * x


class Smooth(ArchModule):
    """Two mixed edges and a classifier: no kink anywhere, so that a finite difference converges as theory says."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.edges = nn.Sequential(Edge(5), between or nn.Identity(), Edge(5))
        self.head = nn.Linear(5, 3)

    def weights(self) -> Iterator[Parameter]:
        return self.nonarch_params(recurse=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.edges(x))
        return out


Batch = tuple[Tensor, Tensor]


@dataclass
class Problem:
    """A model and its two batches."""

    model: Any
    train: Batch
    val: Batch

    @property
    def weights(self) -> list[Parameter]:
        return list(self.model.weights())

    @property
    def alphas(self) -> list[Parameter]:
        return list(self.model.all_owned().values())

    def gradient(self, batch: Batch) -> Gradient:
        def of(inputs: Sequence[Parameter]) -> list[Tensor]:
            return list(torch.autograd.grad(loss_of(self.model, batch), inputs, materialize_grads=True))

        return of


def loss_of(model: nn.Module, batch: Batch, parameters: dict[str, Tensor] | None = None) -> Tensor:
    out = model(batch[0]) if parameters is None else functional_call(model, parameters, (batch[0],))
    return F.cross_entropy(out[0] if isinstance(out, tuple) else out, batch[1])


def smooth_problem(between: nn.Module | None = None) -> Problem:
    torch.manual_seed(0)
    return Problem(Smooth(between).double(), *(class_batch((5,), 3, n, seed) for n, seed in ((7, 1), (6, 2))))


def class_batch(shape: tuple[int, ...], classes: int, n: int, seed: int) -> Batch:
    numbers = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=numbers, dtype=F64)
    return x, torch.randint(classes, (n,), generator=numbers)


def supergraph_problem() -> Problem:
    torch.manual_seed(2)
    ops = ("avg_pool_3x3", "skip_connect", "sep_conv_3x3", "none")
    space = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=1, reductions=1, primitives=ops)
    model = Model(space.build(), affine=False).double()
    return Problem(model, class_batch((1, 8, 8), 4, 6, 1), class_batch((1, 8, 8), 4, 6, 2))


# Rectifiers make the gradient jump where a unit switches on, which double backward does not see. A perturbation of norm
# 1e-2 switches units of this network, and the jumps, divided by 2e, are several times as large as the rest (error 4 to
# 9, five seeds). One of norm 1e-4 switches none with this seed.
SUPERGRAPH_EPSILON = 5e-5

# ------------------------------------------------------------------------------------------------------- the references

GROUPS: dict[str, list[dict[str, Any]]] = {
    "plain": [{"lr": 0.3}],
    "decay": [{"lr": 0.3, "weight_decay": 0.1}],
    "momentum": [{"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1}],
    "nesterov": [{"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}],
    "dampening": [{"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1, "dampening": 0.4}],
    "two groups": [
        {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
        {"lr": 0.05, "momentum": 0.5, "dampening": 0.3},
    ],
}


def optimizer_of(problem: Problem, case: str, *, buffers: bool = True) -> SGD:
    """A real SGD over the weights, dealt out to its groups in turn, with momentum buffers or before its first step."""
    weights, settings = problem.weights, GROUPS[case]
    groups = [{"params": weights[i :: len(settings)], **group} for i, group in enumerate(settings)]
    optimizer = SGD(groups)
    if buffers:
        numbers = torch.Generator().manual_seed(3)
        for group in optimizer.param_groups:
            for w in group["params"] if group["momentum"] else ():
                buffer = torch.randn(w.shape, generator=numbers, dtype=w.dtype)
                optimizer.state[w]["momentum_buffer"] = 0.3 * buffer
    return optimizer


def exact(problem: Problem, optimizer: SGD) -> tuple[Tensor, Tensor]:
    """The gradient and its second-order part by double backward through the step of algorithms.md, section 2.1."""
    model, weights, alphas = problem.model, problem.weights, problem.alphas
    names = [name for name, p in model.named_parameters() if not any(p is a for a in alphas)]
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    with untouched_statistics(model):
        gradients = torch.autograd.grad(
            loss_of(model, problem.train), weights, create_graph=True, materialize_grads=True
        )
        stepped = {}
        for name, w, g in zip(names, weights, gradients, strict=True):
            group, m = group_of[id(w)], optimizer.state.get(w, {}).get("momentum_buffer")
            s = d = g + group["weight_decay"] * w.detach()
            if group["momentum"]:
                b = d if m is None else group["momentum"] * m + (1 - group["dampening"]) * d
                s = d + group["momentum"] * b if group["nesterov"] else b
            stepped[name] = w.detach() - group["lr"] * s
        total = flat(torch.autograd.grad(loss_of(model, problem.val, stepped), alphas))
        constant = {name: w.detach() for name, w in stepped.items()}
        first = flat(torch.autograd.grad(loss_of(model, problem.val, constant), alphas))
    return total, total - first


def outer_loss(problem: Problem, optimizer: SGD, alphas: Tensor) -> float:
    """The validation loss after one step of the real optimizer, from these architecture parameters; on copies."""
    model, stepper = deepcopy((problem.model, optimizer))
    with torch.no_grad():
        for p, value in zip(model.all_owned().values(), alphas.split([a.numel() for a in problem.alphas]), strict=True):
            p.copy_(value.view_as(p))
    loss_of(model, problem.train).backward()
    stepper.step()
    with torch.no_grad():
        return float(loss_of(model, problem.val))


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def error(found: Sequence[Tensor], reference: tuple[Tensor, Tensor]) -> float:
    """Distance from the exact gradient in units of its second-order part."""
    total, second_order = reference
    return float((flat(found) - total).norm() / second_order.norm())


def unrolled(problem: Problem, optimizer: SGD, epsilon_scale: float = 0.01) -> list[Tensor]:
    step = SgdStep.of(optimizer, problem.weights)
    with untouched_statistics(problem.model):
        return unrolled_gradient(
            problem.gradient(problem.train),
            problem.gradient(problem.val),
            problem.weights,
            problem.alphas,
            step,
            epsilon_scale=epsilon_scale,
        )[0]


# ----------------------------------------------------------------------------------------------- known answers, scalars


class Scalars(ArchModule):
    """Gives w - alpha for the image 1 and w - 1 for the image 0: half its square is the loss of section 2.3."""

    def __init__(self) -> None:
        super().__init__()
        self.create_arch_params([("alphas", Parameter(torch.tensor(0.5, dtype=F64)))])
        self.w = Parameter(torch.tensor(2.0, dtype=F64))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.arch_params()["alphas"]
        assert isinstance(alpha, Parameter)
        return self.w - (x * alpha + (1 - x))


def half_square(out: Tensor, _: Tensor) -> Tensor:
    return 0.5 * out.square().mean()


ONE, ZERO = (torch.ones(1, dtype=F64),) * 2, (torch.zeros(1, dtype=F64),) * 2


def scalar_gradient(epsilon_scale: float = 0.01, **group: Any) -> float:
    w, alpha = Parameter(torch.tensor(2.0, dtype=F64)), Parameter(torch.tensor(0.5, dtype=F64))
    buffer = group.pop("buffer", None)
    optimizer = SGD([w], lr=0.1, **group)
    if buffer is not None:
        optimizer.state[w]["momentum_buffer"] = torch.tensor(buffer, dtype=F64)

    def gradient(loss: Callable[[], Tensor]) -> Gradient:
        return lambda inputs: list(torch.autograd.grad(loss(), list(inputs), materialize_grads=True, allow_unused=True))

    gradients, _ = unrolled_gradient(
        gradient(lambda: 0.5 * (w - alpha) ** 2),
        gradient(lambda: 0.5 * (w - 1) ** 2),
        [w],
        [alpha],
        SgdStep.of(optimizer, [w]),
        epsilon_scale=epsilon_scale,
    )
    return float(gradients[0])


def test_plain_step_has_the_gradient_computed_by_hand() -> None:
    assert scalar_gradient() == pytest.approx(0.085, rel=1e-12)


def test_step_with_momentum_and_decay_has_the_gradient_computed_by_hand() -> None:
    assert scalar_gradient(momentum=0.9, weight_decay=0.01, buffer=0.4) == pytest.approx(0.0812, rel=1e-12)


def test_nesterov_step_has_the_gradient_computed_by_hand() -> None:
    found = scalar_gradient(momentum=0.9, weight_decay=0.01, nesterov=True, buffer=0.4)
    assert found == pytest.approx(0.128972, rel=1e-12)


def test_epsilon_does_not_matter_where_the_loss_is_quadratic() -> None:
    assert scalar_gradient(epsilon_scale=1.0) == pytest.approx(scalar_gradient(epsilon_scale=1e-3), rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"momentum": 0.0, "weight_decay": 0.0}, 0.085),
        (
            {"momentum": 0.9, "weight_decay": 0.01, "momentum_buffers": [torch.tensor(0.4, dtype=F64)]},
            0.0812,
        ),
    ],
)
def test_hypergradient_is_the_one_computed_by_hand(settings: dict[str, Any], expected: float) -> None:
    (found,) = hypergradient(Scalars(), half_square, ONE, ZERO, lr=0.1, **settings)
    assert float(found) == pytest.approx(expected, rel=1e-12)


# --------------------------------------------------------------------------------------------------------- the SGD step


@pytest.mark.parametrize("buffers", [True, False])
@pytest.mark.parametrize("case", GROUPS)
def test_change_of_the_weights_is_that_of_the_real_optimizer(case: str, buffers: bool) -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, case, buffers=buffers)
    before = [w.detach().clone() for w in problem.weights]
    gradients = problem.gradient(problem.train)(problem.weights)
    changes = SgdStep.of(optimizer, problem.weights).change(before, gradients)
    for w, g in zip(problem.weights, gradients, strict=True):
        w.grad = g
    optimizer.step()
    expected = [w.detach() - old for w, old in zip(problem.weights, before, strict=True)]
    torch.testing.assert_close(changes, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("buffers", [True, False])
@pytest.mark.parametrize("case", GROUPS)
def test_gain_is_the_answer_of_the_step_to_the_gradient(case: str, buffers: bool) -> None:
    problem = smooth_problem()
    step = SgdStep.of(optimizer_of(problem, case, buffers=buffers), problem.weights)
    zeros = [torch.zeros_like(w) for w in problem.weights]
    ones = [torch.ones_like(w) for w in problem.weights]
    answers = [low - high for low, high in zip(step.change(zeros, zeros), step.change(zeros, ones), strict=True)]
    for answer, gain in zip(answers, step.gains(), strict=True):
        torch.testing.assert_close(answer, torch.full_like(answer, gain))


def test_computing_the_change_leaves_its_arguments_alone() -> None:
    problem = smooth_problem()
    step = SgdStep.of(optimizer_of(problem, "nesterov"), problem.weights)
    weights = [w.detach().clone() for w in problem.weights]
    gradients = [torch.ones_like(w) for w in weights]
    buffers = [b.clone() for b in step.buffers if b is not None]
    step.change(weights, gradients)
    assert all(torch.equal(a, b) for a, b in zip(weights, problem.weights, strict=True))
    assert all(torch.equal(g, torch.ones_like(g)) for g in gradients)
    assert all(torch.equal(a, b) for a, b in zip(buffers, step.buffers, strict=True) if b is not None)


def test_learning_rate_is_the_present_one_of_the_optimizer() -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, "plain")
    optimizer.param_groups[0]["lr"] = 0.7
    assert set(SgdStep.of(optimizer, problem.weights).lr) == {0.7}


def test_learning_rate_may_be_a_tensor() -> None:
    w = Parameter(torch.ones(2))
    assert SgdStep.of(SGD([w], lr=torch.tensor(0.5)), [w]).lr == [0.5]


def test_settings_follow_the_weights_not_the_groups() -> None:
    a, b = Parameter(torch.ones(1)), Parameter(torch.ones(1))
    optimizer = SGD([{"params": [b], "lr": 0.1}, {"params": [a], "lr": 0.2}])
    assert SgdStep.of(optimizer, [a, b]).lr == [0.2, 0.1]


def test_another_optimizer_is_refused_by_name() -> None:
    w = Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=r"unrolls an SGD step; the weight optimizer is Adam.*order=1"):
        SgdStep.of(Adam([w]), [w])


def test_weight_that_the_optimizer_does_not_hold_is_refused() -> None:
    a, b = Parameter(torch.ones(1)), Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="1 weights of the model are not in the weight optimizer"):
        SgdStep.of(SGD([a], lr=0.1), [a, b])


def test_optimizer_that_climbs_is_refused() -> None:
    w = Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="maximize"):
        SgdStep.of(SGD([w], lr=0.1, maximize=True), [w])


# ---------------------------------------------------------------------------------------- agreement with the references


@pytest.mark.parametrize("buffers", [True, False])
@pytest.mark.parametrize("case", GROUPS)
def test_default_epsilon_agrees_with_double_backward(case: str, buffers: bool) -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, case, buffers=buffers)
    assert error(unrolled(problem, optimizer), exact(problem, optimizer)) < 1e-4


@pytest.mark.parametrize("case", GROUPS)
def test_both_references_agree_on_the_smooth_network(case: str) -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, case)
    assert error(central_differences(problem, optimizer), exact(problem, optimizer)) < 1e-6


@pytest.mark.parametrize("case", GROUPS)
def test_agrees_with_differences_through_the_real_optimizer(case: str) -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, case)
    _, second_order = exact(problem, optimizer)
    found = unrolled(problem, optimizer, 1e-3)
    assert error(found, (flat(central_differences(problem, optimizer)), second_order)) < 1e-5


def central_differences(problem: Problem, optimizer: SGD, h: float = 1e-4) -> list[Tensor]:
    at = flat(problem.alphas)
    slopes = []
    for i in range(len(at)):
        shift = torch.zeros_like(at)
        shift[i] = h
        above, below = (outer_loss(problem, optimizer, at + sign * shift) for sign in (1, -1))
        slopes.append(torch.tensor((above - below) / (2 * h), dtype=F64))
    return slopes


def test_halving_epsilon_divides_the_error_by_four() -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, "nesterov")
    reference = exact(problem, optimizer)
    errors = [error(unrolled(problem, optimizer, 0.16 / 2**k), reference) for k in range(6)]
    ratios = [coarse / fine for coarse, fine in pairwise(errors)]
    assert all(3.9 < ratio < 4.1 for ratio in ratios), (errors, ratios)


def test_smaller_epsilon_is_better_until_rounding() -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, "momentum")
    reference = exact(problem, optimizer)
    errors = {scale: error(unrolled(problem, optimizer, scale), reference) for scale in (1e-2, 1e-4, 1e-9)}
    assert errors[1e-4] < 1e-8
    assert errors[1e-4] < errors[1e-9] < 1e-4


@pytest.mark.parametrize("case", ["momentum", "two groups"])
def test_supergraph_agrees_with_double_backward(case: str) -> None:
    problem = supergraph_problem()
    optimizer = optimizer_of(problem, case)
    assert error(unrolled(problem, optimizer, SUPERGRAPH_EPSILON), exact(problem, optimizer)) < 1e-3


def test_error_on_the_supergraph_falls_with_epsilon() -> None:
    problem = supergraph_problem()
    optimizer = optimizer_of(problem, "momentum")
    reference = exact(problem, optimizer)
    scales = [2 * SUPERGRAPH_EPSILON / 2**k for k in range(3)]
    errors = [error(unrolled(problem, optimizer, scale), reference) for scale in scales]
    assert errors[0] > 3 * errors[1] > 9 * errors[2], errors


def test_supergraph_agrees_with_a_difference_through_the_real_optimizer() -> None:
    problem = supergraph_problem()
    optimizer = optimizer_of(problem, "momentum")
    _, second_order = exact(problem, optimizer)
    direction = second_order / second_order.norm()
    found = float(flat(unrolled(problem, optimizer, SUPERGRAPH_EPSILON)) @ direction)
    at, h = flat(problem.alphas), 1e-5
    above, below = (outer_loss(problem, optimizer, at + sign * h * direction) for sign in (1, -1))
    assert found == pytest.approx((above - below) / (2 * h), abs=1e-3 * float(second_order.norm()))


# ------------------------------------------------------------------------- the comparison can tell wrong formulas apart

MISTAKES = {
    "sign of the second-order term": "momentum",
    "multiplied by epsilon instead of divided": "momentum",
    "perturbed around the stepped weights": "momentum",
    "architecture parameters in v": "momentum",
    "momentum ignored": "momentum",
    "decay ignored": "momentum",
    "learning rate forgotten": "momentum",
    "difference to one side only": "momentum",
    "validation and training batch exchanged": "momentum",
    "v at the unstepped weights": "momentum",
    "first-order term at the unstepped weights": "momentum",
    "kappa forgotten": "nesterov",
    "settings of the first group for all": "two groups",
}


def written_out(problem: Problem, optimizer: SGD, epsilon_scale: float, mistake: str = "") -> list[Tensor]:
    """The formula once more, with one mistake in it."""
    w, alphas = problem.weights, problem.alphas
    train, val = problem.gradient(problem.train), problem.gradient(problem.val)
    if mistake == "validation and training batch exchanged":
        train, val = val, train
    step = SgdStep.of(optimizer, w)
    if mistake == "momentum ignored":
        step = replace(step, momentum=[0.0] * len(w))
    if mistake == "decay ignored":
        step = replace(step, weight_decay=[0.0] * len(w))
    if mistake == "settings of the first group for all":
        step = replace(step, lr=step.lr[:1] * len(w), momentum=step.momentum[:1] * len(w))
        step = replace(step, dampening=step.dampening[:1] * len(w), nesterov=step.nesterov[:1] * len(w))
    with untouched_statistics(problem.model), kept(w), kept(alphas):
        start = [p.detach().clone() for p in w]
        unstepped = val([*alphas, *w])
        changes = step.change(start, train(w))
        shift(w, changes)
        at_step = val([*alphas, *w])
        first = unstepped[: len(alphas)] if mistake.startswith("first-order") else at_step[: len(alphas)]
        v = list((unstepped if mistake.startswith("v at") else at_step)[len(alphas) :])
        gains = step.gains()
        if mistake == "kappa forgotten":
            gains = step.lr
        if mistake == "learning rate forgotten":
            gains = [gain / lr for gain, lr in zip(gains, step.lr, strict=True)]
        v = [gain * part for gain, part in zip(gains, v, strict=True)]
        moved = list(w)
        if mistake == "architecture parameters in v":
            moved, v = [*w, *alphas], [*v, *(step.lr[0] * d for d in first)]
        if mistake != "perturbed around the stepped weights":
            shift(w, [-change for change in changes])
        epsilon = epsilon_scale / float(flat(v).norm())
        shift(moved, [epsilon * part for part in v])
        above = train(alphas)
        one_side = mistake == "difference to one side only"
        shift(moved, [-(1 if one_side else 2) * epsilon * part for part in v])
        below = train(alphas)
        width = epsilon if one_side else 2 * epsilon
        if mistake == "multiplied by epsilon instead of divided":
            width = 2 / epsilon
        sign = 1 if mistake == "sign of the second-order term" else -1
        return [d + sign * (a - b) / width for d, a, b in zip(first, above, below, strict=True)]


@contextmanager
def kept(parameters: Sequence[Parameter]) -> Iterator[None]:
    saved = [p.detach().clone() for p in parameters]
    yield
    with torch.no_grad():
        torch._foreach_copy_(list(parameters), saved)


@torch.no_grad()
def shift(parameters: Sequence[Parameter], by: Sequence[Tensor]) -> None:
    for p, change in zip(parameters, by, strict=True):
        p += change


@pytest.mark.parametrize("case", ["momentum", "nesterov", "two groups"])
def test_formula_without_a_mistake_passes_the_comparison(case: str) -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, case)
    assert error(written_out(problem, optimizer, 0.01), exact(problem, optimizer)) < 1e-4


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_fails_the_comparison_on_the_smooth_network(mistake: str) -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, MISTAKES[mistake])
    assert error(written_out(problem, optimizer, 0.01, mistake), exact(problem, optimizer)) > 5e-4


def test_every_mistake_of_substance_fails_the_comparison_on_the_supergraph() -> None:
    problem = supergraph_problem()
    optimizer = optimizer_of(problem, "momentum")
    reference = exact(problem, optimizer)
    # A one-sided difference is only less accurate, and at this epsilon accurate enough.
    mistakes = [m for m, case in MISTAKES.items() if case == "momentum" and m != "difference to one side only"]
    errors = {m: error(written_out(problem, optimizer, SUPERGRAPH_EPSILON, m), reference) for m in ("", *mistakes)}
    assert errors.pop("") < 1e-3
    assert min(errors.values()) > 5e-3, errors


# -------------------------------------------------------------------------------------------------------- special cases


def test_validation_loss_that_ignores_the_weights_leaves_exactly_the_first_order_part() -> None:
    problem = smooth_problem()
    step = SgdStep.of(optimizer_of(problem, "momentum"), problem.weights)

    def val(inputs: Sequence[Parameter]) -> list[Tensor]:
        loss = torch.stack([a.pow(3).sum() for a in problem.alphas]).sum()
        return list(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))

    found, norm = unrolled_gradient(problem.gradient(problem.train), val, problem.weights, problem.alphas, step)
    assert float(norm) == 0.0
    assert all(torch.equal(g, 3 * a.detach() ** 2) for g, a in zip(found, problem.alphas, strict=True))


def test_learning_rate_zero_leaves_exactly_the_first_order_part() -> None:
    problem = smooth_problem()
    found = hypergradient(
        problem.model, F.cross_entropy, problem.train, problem.val, lr=0.0, momentum=0.9, weight_decay=0.1
    )
    expected = problem.gradient(problem.val)(problem.alphas)
    assert all(torch.equal(g, e) for g, e in zip(found, expected, strict=True))


def test_norm_is_the_global_one_of_the_scaled_validation_gradient() -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, "plain")
    step = SgdStep.of(optimizer, problem.weights)
    train, val = problem.gradient(problem.train), problem.gradient(problem.val)
    _, norm = unrolled_gradient(train, val, problem.weights, problem.alphas, step)
    with kept(problem.weights):
        shift(problem.weights, step.change([w.detach() for w in problem.weights], train(problem.weights)))
        expected = 0.3 * flat(val(problem.weights)).norm()
    torch.testing.assert_close(norm, expected)


def test_perturbation_has_the_global_norm_asked_for() -> None:
    problem = smooth_problem()
    start, seen = flat(problem.weights), []

    def train(inputs: Sequence[Parameter]) -> list[Tensor]:
        seen.append(flat(problem.weights) - start)
        return problem.gradient(problem.train)(inputs)

    step = SgdStep.of(optimizer_of(problem, "two groups"), problem.weights)
    unrolled_gradient(train, problem.gradient(problem.val), problem.weights, problem.alphas, step, epsilon_scale=0.02)
    assert [float(s.norm()) for s in seen] == pytest.approx([0.0, 0.02, 0.02], rel=1e-9)
    torch.testing.assert_close(seen[1], -seen[2], rtol=1e-9, atol=1e-12)


def test_only_the_gradients_that_are_needed_are_asked_for() -> None:
    problem = smooth_problem()
    asked: list[tuple[str, int]] = []

    def counted(name: str, batch: Batch) -> Gradient:
        def of(inputs: Sequence[Parameter]) -> list[Tensor]:
            asked.append((name, len(inputs)))
            return problem.gradient(batch)(inputs)

        return of

    step = SgdStep.of(optimizer_of(problem, "plain"), problem.weights)
    n_w, n_a = len(problem.weights), len(problem.alphas)
    unrolled_gradient(
        counted("train", problem.train), counted("val", problem.val), problem.weights, problem.alphas, step
    )
    assert asked == [("train", n_w), ("val", n_a + n_w), ("train", n_a), ("train", n_a)]


def test_gradient_that_is_not_finite_is_reported_not_returned() -> None:
    problem = smooth_problem()
    nan_batch = (torch.full_like(problem.val[0], float("nan")), problem.val[1])
    with pytest.raises(FloatingPointError, match="validation gradient of the weights has norm nan"):
        hypergradient(problem.model, F.cross_entropy, problem.train, nan_batch, lr=0.1, momentum=0.9, weight_decay=0.0)


def test_nan_in_the_training_batch_is_reported_not_returned() -> None:
    problem = smooth_problem()
    nan_batch = (torch.full_like(problem.train[0], float("nan")), problem.train[1])
    with pytest.raises(FloatingPointError):
        hypergradient(problem.model, F.cross_entropy, nan_batch, problem.val, lr=0.1, momentum=0.9, weight_decay=0.0)


def test_architecture_gradient_that_is_not_finite_is_reported_although_that_of_the_weights_is() -> None:
    problem = smooth_problem()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        away = problem.alphas[0] - problem.alphas[0].detach()
        return F.cross_entropy(out, y) + away.abs().sqrt().sum()  # slope at 0: infinite

    with pytest.raises(FloatingPointError):
        hypergradient(problem.model, loss, problem.train, problem.val, lr=0.1, momentum=0.0, weight_decay=0.0)


# -------------------------------------------------------------------------------------------------------- hypergradient


def hyper(problem: Problem, *, loss: Any = F.cross_entropy, **changes: Any) -> list[Tensor]:
    settings = {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1, "epsilon_scale": 1e-3, **changes}
    return hypergradient(problem.model, loss, problem.train, problem.val, **settings)


def test_hypergradient_agrees_with_double_backward() -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, "momentum")
    buffers = [optimizer.state[w]["momentum_buffer"] for w in problem.weights]
    assert error(hyper(problem, momentum_buffers=buffers), exact(problem, optimizer)) < 1e-5


def test_hypergradient_before_the_first_step_agrees_with_double_backward() -> None:
    problem = smooth_problem()
    optimizer = optimizer_of(problem, "momentum", buffers=False)
    assert error(hyper(problem), exact(problem, optimizer)) < 1e-5


def test_hypergradient_of_a_supergraph_agrees_with_double_backward() -> None:
    problem = supergraph_problem()
    optimizer = optimizer_of(problem, "momentum")
    buffers = [optimizer.state[w]["momentum_buffer"] for w in problem.weights]
    found = hyper(problem, momentum_buffers=buffers, epsilon_scale=SUPERGRAPH_EPSILON)
    assert error(found, exact(problem, optimizer)) < 1e-3


def test_gradients_come_in_the_order_of_the_owned_parameters() -> None:
    problem = smooth_problem()
    expected = problem.gradient(problem.val)(problem.alphas)
    found = hyper(problem, lr=0.0)
    assert [tuple(g.shape) for g in found] == [tuple(a.shape) for a in problem.model.all_owned().values()]
    assert not torch.equal(expected[0], expected[1])
    assert all(torch.equal(g, e) for g, e in zip(found, expected, strict=True))


def test_parameter_that_takes_no_part_has_gradient_zero() -> None:
    problem = smooth_problem()
    problem.model.unused = Edge(5).double()
    found = hyper(problem)
    assert torch.equal(found[-1], torch.zeros(3, dtype=F64))


def test_wrong_number_of_momentum_buffers_is_refused() -> None:
    problem = smooth_problem()
    with pytest.raises(ValueError, match="expected 10 momentum buffers, one per weight, got 1"):
        hyper(problem, momentum_buffers=[torch.zeros(1)])


class Draws(nn.Module):
    """Keeps what it draws from torch's global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.drawn.append(torch.rand(4))
        return x


def test_passes_draw_the_same_random_numbers() -> None:
    draws = Draws()
    hyper(smooth_problem(draws))
    assert len(draws.drawn) == 4
    assert all(torch.equal(d, draws.drawn[0]) for d in draws.drawn)


@pytest.mark.parametrize("kind", ["dropout", "drop path"])
def test_random_masks_do_not_disturb_the_difference(kind: str) -> None:
    numbers = torch.Generator().manual_seed(5)
    masked = nn.Dropout(0.4) if kind == "dropout" else DropPath_(0.4, numbers)
    problem = smooth_problem(masked)
    torch.manual_seed(7)
    state = numbers.get_state()
    found = hyper(problem)

    def rewound(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        torch.manual_seed(7)
        numbers.set_state(state)

    problem.model.register_forward_pre_hook(rewound)  # the reference sees the masks that the passes saw
    assert error(found, exact(problem, optimizer_of(problem, "momentum", buffers=False))) < 1e-5


# ------------------------------------------------------------------------------------------------------ leaves no trace


def traces(problem: Problem, *generators: torch.Generator) -> list[Any]:
    """Everything that must be bit-equal afterwards."""
    model = problem.model
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return [
        *state.values(),
        *(p.grad.clone() for p in model.parameters() if p.grad is not None),
        torch.tensor([p.requires_grad for p in model.parameters()]),
        torch.tensor([p.grad is None for p in model.parameters()]),
        torch.tensor([module.training for module in model.modules()]),
        torch.get_rng_state(),
        *(g.get_state() for g in generators),
    ]


def same(before: list[Any], after: list[Any]) -> bool:
    return len(before) == len(after) and all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def used_supergraph() -> Problem:
    """A supergraph with running statistics, and stale gradients of weights and architecture parameters."""
    problem = supergraph_problem()
    loss_of(problem.model, problem.train).backward()
    return problem


def test_supergraph_is_left_as_it_was_bit_for_bit() -> None:
    problem = used_supergraph()
    before = traces(problem)
    hyper(problem)
    assert same(before, traces(problem))


def test_momentum_buffers_and_batches_are_left_as_they_were() -> None:
    problem = smooth_problem()
    buffers = [torch.ones_like(w) for w in problem.weights]
    x = problem.train[0].clone()
    hyper(problem, momentum_buffers=buffers)
    assert all(torch.equal(b, torch.ones_like(b)) for b in buffers)
    assert torch.equal(problem.train[0], x)


def test_evaluation_mode_is_kept() -> None:
    problem = used_supergraph()
    problem.model.eval()
    before = traces(problem)
    hyper(problem)
    assert same(before, traces(problem))


def test_random_generators_are_left_as_they_were() -> None:
    numbers = torch.Generator().manual_seed(5)
    problem = smooth_problem(nn.Sequential(nn.Dropout(0.5), DropPath_(0.5, numbers)))
    before = traces(problem, numbers)
    hyper(problem)
    assert same(before, traces(problem, numbers))


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_error_in_any_pass_leaves_everything_as_it_was(call: int) -> None:
    numbers = torch.Generator().manual_seed(5)
    problem = smooth_problem(nn.Sequential(nn.BatchNorm1d(5).double(), nn.Dropout(0.5), DropPath_(0.5, numbers)))
    loss_of(problem.model, problem.train).backward()
    before, calls = traces(problem, numbers), []

    def loss(out: Tensor, y: Tensor) -> Tensor:
        calls.append(out)
        if len(calls) == call:
            raise ZeroDivisionError
        return F.cross_entropy(out, y)

    with pytest.raises(ZeroDivisionError):
        hyper(problem, loss=loss)
    assert same(before, traces(problem, numbers))


def test_result_that_is_not_finite_leaves_everything_as_it_was() -> None:
    problem = used_supergraph()
    before = traces(problem)
    problem.val[0].fill_(float("nan"))
    with pytest.raises(FloatingPointError):
        hyper(problem)
    assert same(before, traces(problem))
