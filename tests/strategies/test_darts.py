"""Tests of ``src/gradnas/strategies/darts.py``; the second-order equations are tested in ``test_unrolled.py``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from gradnas.arch import OpDesc
from gradnas.finalizers import Finalizers
from gradnas.ops import ArchParams, DropPath_, Op, OpRegistry
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.spaces import DartsSpace
from gradnas.strategies import Batch, Darts, Xnas
from gradnas.strategies.darts import hypergradient
from gradnas.strategies.gradient import batch_gradient
from gradnas.supergraph import Model
from gradnas.training import TrainConf

F64 = torch.float64
OPS = ("avg_pool_3x3", "skip_connect", "sep_conv_3x3", "none")
SPACE = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=1, reductions=1, primitives=OPS)
SMALL = DartsSpace(1, 4, 3, channels=2, cells=2, nodes=1, reductions=0, primitives=("skip_connect", "sep_conv_3x3"))


def supergraph(space: DartsSpace = SPACE, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return Model(space.build(), affine=False).double()


def batch(space: DartsSpace = SPACE, n: int = 6, seed: int = 1) -> Batch:
    numbers = torch.Generator().manual_seed(seed)
    data = space.settings.dataset
    x = torch.randn(n, *data.image_shape, generator=numbers, dtype=F64)
    return x, torch.randint(data.n_classes, (n,), generator=numbers)


TRAIN, VAL = batch(seed=1), batch(seed=2)
SMALL_TRAIN, SMALL_VAL = batch(SMALL, seed=3), batch(SMALL, seed=4)


class Loss:
    """Cross entropy of a model; remembers what was asked of it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.full_precision: list[bool] = []
        self.sizes: list[int] = []
        self.fail_at = 0

    def __call__(self, batch: Batch, *, full_precision: bool = False) -> Tensor:
        self.full_precision.append(full_precision)
        self.sizes.append(len(batch[1]))
        if len(self.sizes) == self.fail_at:
            raise ZeroDivisionError
        return F.cross_entropy(self.model(batch[0])[0], batch[1])


def alphas_of(model: Model) -> list[nn.Parameter]:
    return list(model.all_owned().param_by_kind())


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def sgd(model: Model, **settings: Any) -> SGD:
    return SGD(model.weights(), **{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, **settings})


def prepared(model: Model, darts: Darts, optimizer: Optimizer | None = None, **settings: Any) -> Loss:
    loss = Loss(model)
    darts.prepare(model, loss, sgd(model) if optimizer is None else optimizer, **settings)
    return loss


def gradient_of_step(model: Model, darts: Darts) -> list[Tensor]:
    """The gradient of the one step made so far, read from the first moment of Adam; weight decay must be 0."""
    assert darts.weight_decay == 0
    moments = darts.state_dict()["optimizer"]["state"]["state"]
    return [moments[i]["exp_avg"] / (1 - darts.betas[0]) for i in range(len(alphas_of(model)))]


def central_differences(model: Model, batch: Batch, h: float) -> Tensor:
    slopes = []
    loss = Loss(model)
    for alpha in alphas_of(model):
        entries = alpha.detach().view(-1)
        for i in range(len(entries)):
            start = float(entries[i])
            values = []
            for value in (start + h, start - h):
                entries[i] = value
                with torch.no_grad():
                    values.append(float(loss(batch)))
            entries[i] = start
            slopes.append((values[0] - values[1]) / (2 * h))
    return torch.tensor(slopes, dtype=F64)


# ------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("order", [0, 3, -1, "1", None])
def test_order_other_than_one_and_two_is_refused(order: Any) -> None:
    with pytest.raises(ValueError, match=r"order must be 1 or 2, got"):
        Darts(order)


@pytest.mark.parametrize("lr", [-0.1, float("nan"), float("inf")])
def test_learning_rate_out_of_range_is_refused(lr: float) -> None:
    with pytest.raises(ValueError, match=r"lr must be at least 0 and finite, got"):
        Darts(lr=lr)


@pytest.mark.parametrize("scale", [0.0, -0.1, float("nan"), float("inf")])
def test_perturbation_that_is_not_positive_and_finite_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon_scale must be positive"):
        Darts(order=2, epsilon_scale=scale)


@pytest.mark.parametrize("betas", [(-0.1, 0.9), (0.5, 1.0), (0.5, float("nan"))])
def test_decay_rates_out_of_range_are_refused_at_construction(betas: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"betas must be"):
        Darts(betas=betas)


@pytest.mark.parametrize("decay", [-1e-3, float("nan"), float("inf")])
def test_weight_decay_out_of_range_is_refused_at_construction(decay: float) -> None:
    with pytest.raises(ValueError, match=r"weight_decay must be at least 0 and finite"):
        Darts(weight_decay=decay)


def test_defaults_are_those_of_the_released_search() -> None:
    darts = Darts()
    assert (darts.order, darts.lr, darts.betas, darts.weight_decay) == (1, 3e-4, (0.5, 0.999), 1e-3)
    assert darts.epsilon_scale == 0.01


def test_printed_form_makes_an_equal_strategy() -> None:
    darts = Darts(2, lr=1e-3, betas=(0.4, 0.9), weight_decay=0.0, epsilon_scale=0.02)
    assert repr(darts) == "Darts(order=2, lr=0.001, betas=(0.4, 0.9), weight_decay=0.0, epsilon_scale=0.02)"


def test_darts_needs_validation_batches() -> None:
    assert Darts.bilevel


@pytest.mark.parametrize(("order", "cost"), [(1, 5.0), (2, 13.0)])
def test_cost_is_that_of_the_counted_passes(order: int, cost: float) -> None:
    # 2 F + B_w + B_alpha, and 5 F + 3 B_w + 2 B_alpha, with B_w = 2 F and B_alpha = F: algorithms.md, section 0.4.
    assert Darts(order).forward_equivalents(8) == cost


@pytest.mark.parametrize(("order", "passes"), [(1, 1), (2, 4)])
def test_step_makes_as_many_passes_as_counted(order: int, passes: int) -> None:
    model, darts = supergraph(SMALL), Darts(order)
    loss = prepared(model, darts)
    darts.step(SMALL_TRAIN, SMALL_VAL)
    assert len(loss.sizes) == passes


# ---------------------------------------------------------------------------------------------------------- first order


def test_first_order_gradient_equals_central_differences_with_cells_sharing_parameters() -> None:
    model, darts = supergraph(), Darts(weight_decay=0.0, lr=0.0)
    assert sum(cell.desc.trainables_from == 0 for cell in model.typed_cells()) == 2  # cells 0 and 2 share
    expected = central_differences(model, VAL, h=1e-5)
    prepared(model, darts)
    darts.step(TRAIN, VAL)
    found = flat(gradient_of_step(model, darts))
    assert float((found - expected).norm() / expected.norm()) < 1e-6


def test_first_order_step_reads_nothing_of_the_training_batch() -> None:
    results = []
    for train in (SMALL_TRAIN, batch(SMALL, seed=9)):
        model, darts = supergraph(SMALL), Darts()
        prepared(model, darts)
        darts.step(train, SMALL_VAL)
        results.append(flat(alphas_of(model)))
    assert torch.equal(*results)


def validation_gradient(model: Model) -> list[Tensor]:
    loss = F.cross_entropy(model(SMALL_VAL[0])[0], SMALL_VAL[1])
    return list(torch.autograd.grad(loss, alphas_of(model)))


def test_two_steps_are_those_of_adam_with_l2_decay_written_out() -> None:
    lr, (beta1, beta2), decay, eps = 0.05, (0.5, 0.999), 0.3, 1e-8
    model, darts = supergraph(SMALL), Darts(lr=lr, betas=(beta1, beta2), weight_decay=decay)
    prepared(model, darts)
    m = v = torch.zeros_like(flat(alphas_of(model)))
    for t in (1, 2):
        alpha = flat(alphas_of(model))
        g = flat(validation_gradient(model)) + decay * alpha
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        expected = alpha - lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)
        darts.step(SMALL_TRAIN, SMALL_VAL)
        torch.testing.assert_close(flat(alphas_of(model)), expected, rtol=1e-12, atol=1e-14)


def after_two_steps(order: int = 1, **settings: Any) -> Tensor:
    model, darts = supergraph(SMALL), Darts(order, **settings)
    prepared(model, darts)
    for seed in (5, 6):
        darts.step(SMALL_TRAIN, batch(SMALL, seed=seed))
    return flat(alphas_of(model))


@pytest.mark.parametrize(
    "change", [{"lr": 6e-4}, {"betas": (0.9, 0.999)}, {"betas": (0.5, 0.9)}, {"weight_decay": 1.0}], ids=str
)
@pytest.mark.parametrize("order", [1, 2])
def test_every_setting_is_used(order: int, change: dict[str, Any]) -> None:
    assert not torch.equal(after_two_steps(order), after_two_steps(order, **change))


def test_perturbation_is_used_by_the_second_order() -> None:
    assert not torch.equal(after_two_steps(2), after_two_steps(2, epsilon_scale=0.5))


def test_perturbation_is_not_used_by_the_first_order() -> None:
    assert torch.equal(after_two_steps(1), after_two_steps(1, epsilon_scale=0.5))


def test_orders_give_different_architecture_parameters() -> None:
    gradients = []
    for order in (1, 2):
        model, darts = supergraph(SMALL), Darts(order, weight_decay=0.0)
        prepared(model, darts)
        darts.step(SMALL_TRAIN, SMALL_VAL)
        gradients.append(flat(gradient_of_step(model, darts)))
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) > 1e-3
    assert not torch.equal(after_two_steps(1), after_two_steps(2))


def test_learning_rate_zero_moves_nothing() -> None:
    model, darts = supergraph(SMALL), Darts(2, lr=0.0)
    before = flat(alphas_of(model))
    prepared(model, darts)
    darts.step(SMALL_TRAIN, SMALL_VAL)
    assert torch.equal(flat(alphas_of(model)), before)


def test_every_architecture_parameter_moves_and_stays_finite() -> None:
    model, darts = supergraph(DartsSpace(1, 8, 4, channels=2, cells=3, nodes=2, reductions=1)), Darts()
    before = [a.detach().clone() for a in alphas_of(model)]
    prepared(model, darts)
    darts.step(TRAIN, VAL)
    assert all(a.isfinite().all() and (a != b).all() for a, b in zip(alphas_of(model), before, strict=True))


# --------------------------------------------------------------------------------------------------------- second order


def test_second_order_step_uses_the_hypergradient_of_the_live_optimizer() -> None:
    model = supergraph(SMALL)
    optimizer = sgd(model)
    F.cross_entropy(model(SMALL_TRAIN[0])[0], SMALL_TRAIN[1]).backward()
    optimizer.step()  # fills the momentum buffers
    darts = Darts(2, weight_decay=0.0, lr=0.0, epsilon_scale=1e-5)
    prepared(model, darts, optimizer)
    optimizer.param_groups[0]["lr"] = 0.4  # a schedule moves it after prepare
    expected = hypergradient(
        model,
        F.cross_entropy,
        SMALL_TRAIN,
        SMALL_VAL,
        lr=0.4,
        momentum=0.9,
        weight_decay=0.01,
        momentum_buffers=[optimizer.state[w]["momentum_buffer"] for w in model.weights()],
        epsilon_scale=1e-5,
    )
    darts.step(SMALL_TRAIN, SMALL_VAL)
    torch.testing.assert_close(gradient_of_step(model, darts), expected, rtol=1e-9, atol=1e-12)


def test_second_order_step_with_nesterov_is_another_one() -> None:
    gradients = []
    for nesterov in (False, True):
        model, darts = supergraph(SMALL), Darts(2, weight_decay=0.0)
        prepared(model, darts, sgd(model, nesterov=nesterov))
        darts.step(SMALL_TRAIN, SMALL_VAL)
        gradients.append(flat(gradient_of_step(model, darts)))
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) > 1e-3


def test_second_order_passes_ask_for_full_precision_and_the_first_order_pass_does_not() -> None:
    asked = []
    for order in (1, 2):
        model, darts = supergraph(SMALL), Darts(order)
        loss = prepared(model, darts)
        darts.step(SMALL_TRAIN, SMALL_VAL)
        asked.append(loss.full_precision)
    assert asked == [[False], [True] * 4]


def test_second_order_refuses_another_weight_optimizer_before_the_first_step() -> None:
    model = supergraph(SMALL)
    with pytest.raises(ValueError, match=r"weight optimizer is Adam\. Use SGD, or order=1\."):
        prepared(model, Darts(2), Adam(model.weights()))


def test_second_order_refuses_an_optimizer_without_some_of_the_weights() -> None:
    model = supergraph(SMALL)
    with pytest.raises(ValueError, match="2 weights of the model are not in the weight optimizer"):
        prepared(model, Darts(2), SGD(list(model.weights())[2:], lr=0.1))


def test_first_order_takes_any_weight_optimizer() -> None:
    model, darts = supergraph(SMALL), Darts()
    prepared(model, darts, Adam(model.weights()))
    darts.step(SMALL_TRAIN, SMALL_VAL)


class Smooth(nn.Module):
    """Logits without batch norm: linear, two candidates, linear."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.lines = nn.ModuleList(nn.Linear(16, 3) for _ in range(2)).double()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        p = torch.stack(alphas_of(self.model)).softmax(1).sum(0)
        return p[0] * torch.tanh(self.lines[0](x.flatten(1))) + p[1] * self.lines[1](x.flatten(1)), None


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("chunks", [2, 4])
def test_batch_in_chunks_has_the_gradient_of_the_whole(order: int, chunks: int) -> None:
    gradients = []
    train, val = batch(SMALL, 10, seed=3), batch(SMALL, 9, seed=4)  # 4 chunks of 3, 3, 3, 1 and 3, 3, 3
    for k in (1, chunks):
        model = supergraph(SMALL)
        smooth = Smooth(model)
        darts = Darts(order, weight_decay=0.0)
        model.weights = smooth.lines.parameters  # type: ignore[method-assign]  # those of the network without batch norm
        darts.prepare(model, Loss(smooth), SGD(smooth.lines.parameters(), lr=0.5), chunks=k)
        darts.step(train, val)
        gradients.append(flat(gradient_of_step(model, darts)))
    assert float(gradients[0].norm()) > 1e-3
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-12)


def test_chunks_are_parts_of_the_batch_and_together_all_of_it() -> None:
    model, darts = supergraph(SMALL), Darts(2)
    loss = prepared(model, darts, chunks=4)
    darts.step(batch(SMALL, 10), batch(SMALL, 8))
    assert loss.sizes == [3, 3, 3, 1] + [2] * 4 + [3, 3, 3, 1] * 2


def test_gradient_of_a_parameter_that_takes_no_part_is_zero() -> None:
    a, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))

    def loss(batch: Batch, *, full_precision: bool = False) -> Tensor:
        return (a * batch[0]).sum(1).mean()

    found = batch_gradient(loss, (torch.ones(4, 2), torch.zeros(4)), [a, unused], 2)
    assert torch.equal(found[0], torch.ones(2))
    assert torch.equal(found[1], torch.zeros(3))


# ------------------------------------------------------------------------------------------------------ leaves no trace


def traces(model: Model, optimizer: Optimizer) -> dict[str, Any]:
    """Everything a step must leave bit-equal."""
    owned = {id(a) for a in alphas_of(model)}
    kept = {name: p for name, p in model.named_parameters() if id(p) not in owned}
    state = {f"state {i}": s["momentum_buffer"] for i, s in enumerate(optimizer.state.values())}
    grads = {f"grad of {name}": p.grad for name, p in kept.items() if p.grad is not None}
    found = {**kept, **dict(model.named_buffers()), **state, **grads}
    flags = {
        "requires_grad": torch.tensor([p.requires_grad for p in model.parameters()]),
        "training": torch.tensor([m.training for m in model.modules()]),
        "tracking": torch.tensor([getattr(m, "track_running_stats", False) for m in model.modules()]),
    }
    return {name: value.detach().clone() for name, value in {**found, **flags}.items()}


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.fixture
def used() -> tuple[Model, SGD]:
    """A supergraph after a weight step, whose gradients are still there."""
    model = supergraph()
    optimizer = sgd(model)
    F.cross_entropy(model(TRAIN[0])[0], TRAIN[1]).backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("order", [1, 2])
def test_step_moves_the_architecture_parameters_and_nothing_else(order: int, used: tuple[Model, SGD]) -> None:
    model, optimizer = used
    darts = Darts(order)
    prepared(model, darts, optimizer)
    before, alphas = traces(model, optimizer), flat(alphas_of(model))
    darts.step(TRAIN, VAL)
    assert same(before, traces(model, optimizer))
    assert not torch.equal(flat(alphas_of(model)), alphas)


@pytest.mark.parametrize(("order", "call"), [(1, 1), (2, 1), (2, 2), (2, 3), (2, 4)])
def test_error_in_any_pass_leaves_everything_as_it_was(order: int, call: int, used: tuple[Model, SGD]) -> None:
    model, optimizer = used
    darts = Darts(order)
    loss = prepared(model, darts, optimizer)
    before, alphas = traces(model, optimizer), flat(alphas_of(model))
    loss.fail_at = call
    with pytest.raises(ZeroDivisionError):
        darts.step(TRAIN, VAL)
    assert same(before, traces(model, optimizer))
    assert torch.equal(flat(alphas_of(model)), alphas)


@pytest.mark.parametrize("order", [1, 2])
def test_step_leaves_no_gradient_on_the_architecture_parameters(order: int) -> None:
    model, darts = supergraph(SMALL), Darts(order)
    prepared(model, darts)
    darts.step(SMALL_TRAIN, SMALL_VAL)
    assert all(a.grad is None for a in alphas_of(model))


def test_stale_gradient_on_the_architecture_parameters_is_not_used() -> None:
    results = []
    for stale in (False, True):
        model, darts = supergraph(SMALL), Darts()
        prepared(model, darts)
        for a in alphas_of(model):
            a.grad = torch.full_like(a, 100.0) if stale else None
        darts.step(SMALL_TRAIN, SMALL_VAL)
        results.append(flat(alphas_of(model)))
    assert torch.equal(*results)


def test_first_order_pass_computes_no_gradient_of_the_weights() -> None:
    model, darts = supergraph(SMALL), Darts()
    seen: list[bool] = []
    prepared(model, darts)
    model.register_forward_pre_hook(lambda *_: seen.append(any(w.requires_grad for w in model.weights())))
    darts.step(SMALL_TRAIN, SMALL_VAL)
    assert seen == [False]


def test_second_order_passes_compute_only_the_gradients_they_need() -> None:
    model, darts = supergraph(SMALL), Darts(2)
    seen: list[tuple[bool, bool]] = []
    prepared(model, darts)
    model.register_forward_pre_hook(
        lambda *_: seen.append(tuple(any(p.requires_grad for p in ps) for ps in (model.weights(), alphas_of(model))))
    )
    darts.step(SMALL_TRAIN, SMALL_VAL)
    assert seen == [(True, False), (True, True), (False, True), (False, True)]  # (weights, architecture) in each pass


def test_random_draws_of_the_second_order_passes_leave_the_generators_as_they_were() -> None:
    model = supergraph(SMALL)
    model.dropped = DropPath_(0.5, torch.Generator().manual_seed(1))
    model.register_forward_hook(lambda m, _, out: (m.dropped(F.dropout(out[0], 0.5)), None))
    darts = Darts(2)
    prepared(model, darts)
    before = (torch.get_rng_state(), model.dropped.generator.get_state())
    darts.step(SMALL_TRAIN, SMALL_VAL)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(model.dropped.generator.get_state(), before[1])


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("order", [1, 2])
def test_step_without_a_validation_batch_is_refused(order: int) -> None:
    model, darts = supergraph(SMALL), Darts(order)
    prepared(model, darts)
    before = flat(alphas_of(model))
    with pytest.raises(ValueError, match="each step needs a validation batch"):
        darts.step(SMALL_TRAIN, None)
    assert torch.equal(flat(alphas_of(model)), before)


def test_model_without_a_choice_is_refused() -> None:
    discrete = Model(Finalizers().finalize_model(supergraph(SMALL)))
    with pytest.raises(ValueError, match="no architecture parameter that a gradient could move"):
        prepared(discrete, Darts())


@pytest.mark.parametrize("order", [1, 2])
def test_check_names_the_first_step_that_was_not_finite(order: int) -> None:
    model, darts = supergraph(SMALL), Darts(order)
    prepared(model, darts)
    for _ in range(2):
        darts.step(SMALL_TRAIN, SMALL_VAL)
    darts.check()
    for _ in range(2):
        darts.step(SMALL_TRAIN, (SMALL_VAL[0] * float("nan"), SMALL_VAL[1]))
    with pytest.raises(
        FloatingPointError, match=r"not finite at architecture step 2 of this search \(counted from 0\)"
    ):
        darts.check()


def test_one_gradient_that_is_not_finite_among_many_is_found() -> None:
    model, darts = supergraph(SMALL), Darts()
    darts.prepare(model, lambda batch, full_precision=False: alphas_of(model)[-1].sub(9).sqrt().sum(), sgd(model))
    darts.step(SMALL_TRAIN, SMALL_VAL)
    with pytest.raises(FloatingPointError, match="at architecture step 0 "):
        darts.check()


def test_preparing_again_starts_afresh() -> None:
    darts = Darts(lr=0.1)
    results = []
    for _ in range(2):
        model = supergraph(SMALL)
        prepared(model, darts)
        darts.step(SMALL_TRAIN, SMALL_VAL)
        darts.step(SMALL_TRAIN, SMALL_VAL)
        results.append(flat(alphas_of(model)))
    assert torch.equal(*results)
    assert darts.state_dict()["steps"] == 2


def test_preparing_again_forgets_a_step_that_was_not_finite() -> None:
    model, darts = supergraph(SMALL), Darts()
    prepared(model, darts)
    darts.step(SMALL_TRAIN, (SMALL_VAL[0] * float("nan"), SMALL_VAL[1]))
    prepared(supergraph(SMALL), darts)
    darts.check()


# ---------------------------------------------------------------------------------------------------- state, repetition


@pytest.mark.parametrize("order", [1, 2])
def test_restored_strategy_takes_the_same_next_step_bit_for_bit(order: int, tmp_path: Path) -> None:
    model, darts = supergraph(SMALL), Darts(order)
    prepared(model, darts)
    for seed in (5, 6):
        darts.step(SMALL_TRAIN, batch(SMALL, seed=seed))
    torch.save({"strategy": darts.state_dict(), "model": model.state_dict()}, tmp_path / "state.pt")
    darts.step(SMALL_TRAIN, SMALL_VAL)

    other, restored = supergraph(SMALL, seed=9), Darts(order)
    stored = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(stored["model"])
    prepared(other, restored)
    restored.load_state_dict(stored["strategy"])
    restored.step(SMALL_TRAIN, SMALL_VAL)
    assert torch.equal(flat(alphas_of(other)), flat(alphas_of(model)))
    assert restored.state_dict()["steps"] == 3


def test_step_without_the_stored_state_would_be_another_one() -> None:
    model, darts = supergraph(SMALL), Darts()
    prepared(model, darts)
    for seed in (5, 6):
        darts.step(SMALL_TRAIN, batch(SMALL, seed=seed))
    start = model.state_dict()
    other, fresh = supergraph(SMALL), Darts()
    other.load_state_dict(start)
    prepared(other, fresh)
    for strategy in (darts, fresh):
        strategy.step(SMALL_TRAIN, SMALL_VAL)
    assert not torch.equal(flat(alphas_of(other)), flat(alphas_of(model)))


def test_state_of_another_space_is_refused_by_name() -> None:
    darts = Darts()
    prepared(supergraph(SPACE), darts)
    state = darts.state_dict()
    other = Darts()
    prepared(supergraph(SMALL), other)
    with pytest.raises(ValueError, match="stored optimizer state is of other parameters"):
        other.load_state_dict(state)


def test_steps_after_a_restore_are_counted_from_the_stored_number() -> None:
    model, darts = supergraph(SMALL), Darts()
    prepared(model, darts)
    darts.step(SMALL_TRAIN, SMALL_VAL)
    state = darts.state_dict()
    prepared(model, darts)
    darts.load_state_dict(state)
    darts.step(SMALL_TRAIN, (SMALL_VAL[0] * float("nan"), SMALL_VAL[1]))
    with pytest.raises(FloatingPointError, match="at architecture step 1 "):
        darts.check()


# -------------------------------------------------------------------------------------------------------------- penalty


@pytest.mark.parametrize("factor", [0.0, 0.25])
def test_penalty_of_the_trainer_has_the_sign_as_its_gradient(factor: float) -> None:
    model = supergraph()
    trainer = ArchTrainer(TrainConf(l1_alphas=factor), model)
    logits, y = torch.zeros(2, 4, dtype=F64), torch.tensor([0, 1])
    loss = trainer.compute_loss(nn.CrossEntropyLoss(), y, logits, 0.0, None)
    total = sum(float(a.detach().abs().sum()) for a in alphas_of(model))
    assert loss.item() == pytest.approx(float(torch.log(torch.tensor(4.0, dtype=F64))) + factor * total, rel=1e-12)
    if factor:
        loss.backward()
        assert all(torch.equal(a.grad, factor * a.detach().sign()) for a in alphas_of(model) if a.grad is not None)
        assert all(a.grad is not None for a in alphas_of(model))


def test_penalty_counts_a_member_of_a_list() -> None:
    model = supergraph(SMALL)
    extra = nn.ParameterList([nn.Parameter(torch.tensor([-2.0, 3.0], dtype=F64))])
    model.create_arch_params([("alphas", extra)])
    trainer = ArchTrainer(TrainConf(l1_alphas=1.0), model)
    args = (nn.CrossEntropyLoss(), torch.tensor([0]), torch.zeros(1, 3, dtype=F64), 0.0, None)
    trainer.compute_loss(*args).backward()
    assert torch.equal(extra[0].grad, torch.tensor([-1.0, 1.0], dtype=F64))


# ----------------------------------------------------------------------------------------------------- planted problems


class Useless(Op):
    """Noise that has nothing to do with the input."""

    def __init__(self, desc: OpDesc) -> None:
        super().__init__()
        self.desc = desc
        self.noise = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.randn(x.shape, generator=self.noise, dtype=x.dtype) + 0 * x


def _useless(desc: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
    return Useless(desc)


def planted(primitives: tuple[str, str]) -> Model:
    space = DartsSpace(1, 4, 2, channels=2, cells=1, nodes=1, reductions=0, primitives=("identity", "skip_connect"))
    registry: OpRegistry = space.registry
    registry.register_op("useless", _useless)
    desc = space.build().map_ops(lambda _, op: op.with_params(primitives=primitives) if op.name == "mixed_op" else op)
    torch.manual_seed(0)
    model = Model(desc, affine=False, registry=registry).double()
    for alpha in alphas_of(model):
        alpha.data.zero_()
    return model


def searched(model: Model, order: int, steps: int = 25) -> Model:
    """Tell dark images from bright ones."""
    optimizer = SGD(model.weights(), lr=0.1, momentum=0.9)
    darts = Darts(order, lr=0.1)
    loss = Loss(model)
    darts.prepare(model, loss, optimizer)
    numbers = torch.Generator().manual_seed(1)

    def draw() -> Batch:
        y = torch.randint(2, (16,), generator=numbers)
        noise = torch.randn(16, 1, 4, 4, generator=numbers, dtype=F64)
        return noise + 2.0 * (2 * y - 1)[:, None, None, None], y

    for _ in range(steps):
        train = draw()
        darts.step(train, draw())
        optimizer.zero_grad()
        loss(train).backward()
        optimizer.step()
    darts.check()
    return model


def found_ops(model: Model) -> list[str]:
    return [edge.op.finalize()[0].name for cell in model.typed_cells() for edge in cell.edges()]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("primitives", [("useless", "identity"), ("identity", "useless")], ids=str)
def test_right_candidate_is_found_wherever_it_stands(order: int, primitives: tuple[str, str]) -> None:
    assert found_ops(searched(planted(primitives), order)) == ["identity", "identity"]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("primitives", [("identity", "skip_connect"), ("skip_connect", "identity")], ids=str)
def test_equal_candidates_stay_equal_and_the_earlier_one_is_kept(order: int, primitives: tuple[str, str]) -> None:
    model = searched(planted(primitives), order, steps=5)
    assert all(torch.equal(a[0], a[1]) for a in alphas_of(model))
    assert found_ops(model) == [primitives[0]] * 2


@pytest.mark.parametrize("order", [1, 2])
def test_same_seed_repeats_the_search_bit_for_bit_and_another_does_not(order: int) -> None:
    def trajectory(seed: int) -> Tensor:
        model, darts = supergraph(SMALL, seed), Darts(order)
        prepared(model, darts)
        for k in range(3):
            darts.step(batch(SMALL, seed=seed + k), batch(SMALL, seed=100 + seed + k))
        return flat(alphas_of(model))

    first = trajectory(1)
    torch.rand(3)  # whatever else draws from the global generator
    assert torch.equal(first, trajectory(1))
    assert not torch.equal(first, trajectory(2))


def test_a_model_whose_rule_learns_without_gradients_is_refused_in_words() -> None:
    model = supergraph()
    model.set_mixing_rule(Xnas().mixing_rule)
    with pytest.raises(ValueError, match="or another strategy's mixing rule"):
        prepared(model, Darts())
    with pytest.raises(ValueError, match="or another strategy's mixing rule"):
        hypergradient(model, F.cross_entropy, TRAIN, VAL, lr=0.1, momentum=0.0, weight_decay=0.0)
