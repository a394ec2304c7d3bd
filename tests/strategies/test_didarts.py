"""Tests of ``src/gradnas/strategies/didarts.py``; what single-level methods share is tested in ``test_gradient.py``."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD

from gradnas.data import BatchLoader, DataLoaders, ImageSet, Normalization
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.spaces import DartsSpace
from gradnas.strategies import Batch, Darts, DiDarts, MetaOptimizer, SearchSchedule
from gradnas.supergraph import Model
from gradnas.training import OptimConf, TrainConf

F64 = torch.float64
OPS = ("skip_connect", "sep_conv_3x3", "none")
SPACE = DartsSpace(1, 8, 4, channels=4, cells=3, nodes=1, reductions=1, primitives=OPS)
WEIGHTS = OptimConf(lr=0.05, momentum=0.9, weight_decay=0.01)


def supergraph() -> Model:
    torch.manual_seed(0)
    model = Model(SPACE.build(), affine=False).double()
    for alpha in model.all_owned().param_by_kind():
        torch.nn.init.normal_(alpha, generator=torch.Generator().manual_seed(1))
    return model


class Loader(BatchLoader):
    """Batches in float64, times a factor."""

    factor = 1.0

    def batch(self, epoch: int, index: int) -> Batch:
        x, y = super().batch(epoch, index)
        return x.double() * self.factor, y


def loader(purpose: str, factor: float = 1.0) -> Loader:
    g = torch.Generator().manual_seed(len(purpose))
    labels = torch.arange(16) % 4
    images = ImageSet(images=torch.randn(16, 1, 8, 8, generator=g), labels=labels, classes=tuple("abcd"))
    same = Normalization(mean=(0.0,), std=(1.0,))
    made = Loader(images, batch_size=8, normalization=same, shuffle=True, seed=0, purpose=purpose)
    made.factor = factor
    return made


def trained(strategy: MetaOptimizer, *, steps: int = 2, epochs: int = 1, validation: float = 1.0) -> ArchTrainer:
    conf = TrainConf(epochs=epochs, optimizer=WEIGHTS, grad_clip=0.0, max_steps_per_epoch=steps)
    trainer = ArchTrainer(conf, supergraph(), strategy=strategy)
    held_out = loader("alpha", validation)
    trainer.fit(DataLoaders(train=loader("train"), alpha=held_out, val=held_out))
    return trainer


def batch(seed: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(8, 1, 8, 8, generator=g, dtype=F64), torch.randint(4, (8,), generator=g)


def values(model: Model) -> list[Tensor]:
    return [alpha.detach().clone() for alpha in model.all_owned().param_by_kind()]


# ---------------------------------------------------------------------------------------------------------------- rate


@pytest.mark.parametrize("epochs", [1, 2, 3, 50, 200])
def test_rate_follows_a_cosine_over_the_epochs_of_the_search(epochs: int) -> None:
    strategy, model = DiDarts(lr=0.3), supergraph()
    schedule = SearchSchedule(epochs=epochs, steps_per_epoch=1, val_samples=0)
    strategy.prepare(model, lambda *_, **__: torch.zeros(()), SGD(model.weights(), lr=0.1), schedule=schedule)
    rates = []
    for epoch in range(epochs):
        strategy.new_epoch(epoch)
        rates.append(strategy.state_dict()["optimizer"]["state"]["param_groups"][0]["lr"])
    assert rates[0] == 0.3
    assert all(rate > 0 for rate in rates)
    expected = [0.15 * (1 + math.cos(math.pi * e / epochs)) for e in range(epochs)]
    assert rates == pytest.approx(expected, rel=1e-12)
    # That of torch's schedule, written as a recursion.
    sgd = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, epochs)
    for rate in rates:
        assert rate == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-9)
        sgd.step()
        cosine.step()


# --------------------------------------------------------------------------------------------------------------- step


def test_steps_are_those_of_sgd_with_momentum_and_decay_written_out() -> None:
    lr, momentum, decay = 0.2, 0.7, 0.05
    strategy, model = DiDarts(lr=lr, momentum=momentum, weight_decay=decay), supergraph()
    alphas = list(model.all_owned().param_by_kind())
    strategy.prepare(
        model,
        lambda *_, **__: torch.zeros(()),
        SGD(model.weights(), lr=0.1),
        schedule=SearchSchedule(epochs=2, steps_per_epoch=2, val_samples=0),
    )
    velocity = [torch.zeros_like(alpha) for alpha in alphas]
    for step in range(4):
        strategy.new_epoch(step // 2)
        rate = lr if step < 2 else lr / 2  # cos(pi / 2) = 0
        loss = F.cross_entropy(model(batch(step)[0])[0], batch(step)[1])
        expected = []
        for i, (alpha, g) in enumerate(zip(alphas, torch.autograd.grad(loss, alphas), strict=True)):
            velocity[i] = momentum * velocity[i] + g + decay * alpha.detach()
            expected.append(alpha.detach() - rate * velocity[i])
        with strategy.weight_pass(alphas, learning=True):
            F.cross_entropy(model(batch(step)[0])[0], batch(step)[1]).backward()
        torch.testing.assert_close(values(model), expected, rtol=1e-12, atol=1e-14)


def test_both_updates_use_gradients_of_one_backward_at_one_point() -> None:
    trainer, twin = trained(DiDarts(weight_decay=0.02), steps=1), supergraph()
    x, y = loader("train").batch(0, 0)
    loss = F.cross_entropy(twin(x)[0], y)
    of_loss: dict[str, float] = {"weight": 0.05, "arch": 0.025}
    parameters = dict(twin.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    found = dict(trainer.model.named_parameters())
    assert list(found) == list(parameters)
    for (name, p), g in zip(parameters.items(), gradients, strict=True):
        kind, decay = ("arch", 0.02) if "arch_param" in name else ("weight", 0.01)
        expected = p if g is None else p - of_loss[kind] * (g + decay * p)
        torch.testing.assert_close(found[name].detach(), expected.detach(), rtol=1e-12, atol=1e-14)
        assert kind == "weight" or not torch.equal(found[name], p)


def test_two_optimizers_partition_the_parameters() -> None:
    trainer = trained(DiDarts())
    strategy = trainer.strategy
    assert isinstance(strategy, DiDarts)
    groups = [*trainer.multi_optim[0].optimizer.param_groups, *strategy._learner.optimizer.param_groups]
    held = [id(p) for group in groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in trainer.model.parameters()}


def test_validation_data_never_enters() -> None:
    trainers = [trained(DiDarts(), epochs=2, validation=factor) for factor in (1.0, math.nan)]
    states = [trainer.model.state_dict() for trainer in trainers]
    for key, value in states[0].items():
        assert bool(value.isfinite().all())
        assert torch.equal(value, states[1][key]), key
    watched = [trainer.metrics.last for trainer in trainers]
    assert [w is not None and w.val is not None and math.isfinite(w.val.loss) for w in watched] == [True, False]
    with pytest.raises(FloatingPointError):  # a bilevel method meets it
        trained(Darts(), validation=math.nan)


def test_no_validation_set_is_needed() -> None:
    trainer = ArchTrainer(TrainConf(epochs=1, max_steps_per_epoch=1), supergraph(), strategy=DiDarts())
    before = values(trainer.supergraph)
    trainer.fit(DataLoaders(train=loader("train")))
    assert all(bool((a != b).any()) for a, b in zip(before, values(trainer.supergraph), strict=True))


def test_a_loaded_state_keeps_momentum_and_rate() -> None:
    first = trained(DiDarts(), epochs=2).strategy
    saved = copy.deepcopy(first.state_dict())
    model = supergraph()
    again = DiDarts()
    again.prepare(model, lambda *_, **__: torch.zeros(()), SGD(model.weights(), lr=0.1))
    again.load_state_dict(saved)
    state = again.state_dict()["optimizer"]["state"]
    assert state["param_groups"][0]["lr"] == pytest.approx(0.0125)
    assert all(float(own["momentum_buffer"].abs().max()) > 0 for own in state["state"].values())


# ------------------------------------------------------------------------------------------------------------- settings


def test_defaults_are_those_of_the_source() -> None:
    strategy = DiDarts()
    assert (strategy.lr, strategy.momentum, strategy.weight_decay) == (0.025, 0.9, 3e-4)
    assert not DiDarts.bilevel
    assert strategy.warmup_epochs(200) == 0


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan, math.inf])
def test_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=rf"momentum must be at least 0 and below 1, got {momentum}"):
        DiDarts(momentum=momentum)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_rates_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be at least 0 and finite"):
        DiDarts(**{name: value})
