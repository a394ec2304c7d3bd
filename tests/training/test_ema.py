"""Tests of ``src/gradnas/training/ema.py``, alone and inside a training."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_trainer import Fixed, Net, assert_same_weights, loaders, make_batches, weights
from torch import Tensor, nn

from gradnas.data import DataLoaders
from gradnas.training import EMA, CheckPoint, OptimConf, Silence, TrainConf, Trainer, create_checkpoint

DECAY = 0.5
FAST = OptimConf(lr=0.3, momentum=0.5)


def averages(history: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    """The closed form: of each past network its weight times the decays of all later steps."""
    steps = len(history) - 1
    decays = [min(decay, (1 + t) / (10 + t)) for t in range(steps)]
    shares = [(1 - decays[t - 1] if t > 0 else 1.0) * math.prod(decays[t:]) for t in range(steps + 1)]
    assert sum(shares) == pytest.approx(1.0)
    return {
        name: sum(share * then[name] for share, then in zip(shares, history, strict=True))  # type: ignore[misc]  # the sum of tensors is one
        for name, value in history[-1].items()
        if value.is_floating_point()
    }


class Noting(Trainer):
    """Notes the network before the first step and after each."""

    def pre_fit(self, data_loaders: DataLoaders) -> None:
        self.history = [weights(self.model)]

    def post_step(self, x: Tensor, y: Tensor) -> None:
        self.history.append(weights(self.model))


def trained(decay: float, **changes: Any) -> Noting:
    conf = TrainConf(**{"epochs": 3, "optimizer": FAST, "ema": decay, **changes})
    trainer = Noting(conf, Net(norm=True))
    trainer.fit(loaders([5, 4, 3]))
    return trainer


def assert_close(model: nn.Module, expected: dict[str, Tensor]) -> None:
    found = {name: value for name, value in weights(model).items() if value.is_floating_point()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("decay", [0.15, 0.5, 0.999])
@pytest.mark.parametrize("changes", [{}, {"batch_chunks": 2}])
def test_average_is_its_closed_form_over_parameters_and_running_statistics(
    decay: float, changes: dict[str, Any]
) -> None:
    trainer = trained(decay, **changes)
    assert len(trainer.history) == 10
    assert {"norm.running_mean", "norm.running_var", "norm.weight"} <= set(trainer.history[0])
    assert_close(trainer.model, averages(trainer.history, decay))


def test_numbers_that_count_are_not_averaged() -> None:
    model = trained(DECAY).model
    assert isinstance(model, Net)
    assert isinstance(model.norm, nn.BatchNorm2d)
    assert int(model.norm.num_batches_tracked) == 9


def test_training_itself_is_as_without_an_average() -> None:
    with_average, without = trained(DECAY), trained(0.0)
    for ours, theirs in zip(with_average.history, without.history, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert_close(without.model, {k: v for k, v in without.history[-1].items() if v.is_floating_point()})


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, math.nan])
def test_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay of a moving average must be above 0 and below 1"):
        EMA(Net(), decay)


def test_weights_of_two_dtypes_are_averaged_alike() -> None:
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.float64)])
    average = EMA(model, DECAY)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    before = weights(model)
    average.update()
    average.exchange()
    assert all(torch.allclose(value, before[name] - 0.1) for name, value in weights(model).items())  # decay 1/10 first


def test_exchange_twice_is_bit_for_bit_nothing() -> None:
    trainer = Noting(TrainConf(epochs=1, ema=DECAY, optimizer=FAST), Net(norm=True))
    trainer.set_up()
    average = trainer.ema
    assert average is not None
    with torch.no_grad():
        for p in trainer.model.parameters():
            p.mul_(1.37)
    average.update()
    before = weights(trainer.model)

    def fail_inside() -> None:
        with average.averaged():
            assert not torch.equal(trainer.model.get_parameter("conv.weight"), before["conv.weight"])
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert all(torch.equal(value, before[name]) for name, value in weights(trainer.model).items())


class Seeing(Noting):
    """Notes which weights a validation or test saw."""

    def pre_fit(self, data_loaders: DataLoaders) -> None:
        super().pre_fit(data_loaders)
        self.seen: list[dict[str, Tensor]] = []
        self.model.register_forward_hook(lambda *_: None if self.model.training else self._note())

    def _note(self) -> None:
        self.seen.append(weights(self.model))


def test_validation_and_test_see_the_average() -> None:
    trainer = Seeing(TrainConf(epochs=2, ema=DECAY, optimizer=FAST), Net(norm=True))
    trainer.fit(loaders([5, 4], val=Fixed(make_batches([3])), test=Fixed(make_batches([3]))))
    expected = [averages(trainer.history[:n], DECAY) for n in (3, 5, 5)]
    assert len(trainer.seen) == 3
    for seen, average in zip(trainer.seen, expected, strict=True):
        for name, value in average.items():
            torch.testing.assert_close(seen[name], value, rtol=1e-10, atol=1e-10)


def test_score_of_the_test_is_that_of_the_network_that_is_given_away() -> None:
    test = Fixed(make_batches([4, 4]))
    trainer = Noting(TrainConf(epochs=2, ema=0.9, optimizer=FAST), Net(norm=True))
    metrics = trainer.fit(loaders([5, 4], test=test))
    trainer.model.eval()
    logits, y = torch.cat([trainer.model(x)[0] for x, _ in test.content]), torch.cat([y for _, y in test.content])
    assert metrics.test is not None
    assert metrics.test.loss == pytest.approx(nn.functional.cross_entropy(logits, y).item(), rel=1e-12)


class Killed(Exception):  # noqa: N818 - not an error of ours
    pass


@pytest.mark.parametrize("kill_at", [1, 2, 5])
def test_average_continues_bit_for_bit_and_the_checkpoint_has_both(tmp_path: Path, kill_at: int) -> None:
    conf = TrainConf(epochs=3, ema=0.9, optimizer=FAST, checkpoint_every_seconds=1e-9)
    path = tmp_path / "a.pt"

    class Dying(Trainer):
        def post_step(self, x: Tensor, y: Tensor) -> None:
            if self.global_step == kill_at:
                raise Killed

    def data() -> DataLoaders:
        return loaders([5, 4], val=Fixed(make_batches([3])), test=Fixed(make_batches([3])))

    whole = Noting(conf, Net(norm=True))
    expected = whole.fit(data())
    with pytest.raises(Killed):
        Dying(conf, Net(norm=True), CheckPoint(path)).fit(data())
    resumed = Trainer(conf, Net(norm=True), create_checkpoint(path, resume=True))
    metrics = resumed.fit(data())
    assert_same_weights(whole.model, resumed.model)
    assert (metrics.test, metrics.last and metrics.last.val) == (expected.test, expected.last and expected.last.val)
    stored = CheckPoint(path)
    stored.load_existing()
    assert all(torch.equal(value, whole.history[-1][name]) for name, value in stored["model"].items())
    again = Trainer(conf, Net(norm=True), create_checkpoint(path, resume=True))
    again.fit(data())
    assert_same_weights(whole.model, again.model)


class Poisoned(Fixed):
    """The images of one step of epoch 1 are NaN, once."""

    left = 1

    def batches(self, epoch: int, start: int = 0) -> Any:
        for i, (x, y) in enumerate(self.content[start:], start=start):
            poison = (epoch, i) == (1, 1) and self.left > 0
            self.left -= poison
            yield (x * math.nan if poison else x), y


def test_batch_that_is_skipped_leaves_no_trace_in_the_average() -> None:
    conf = TrainConf(epochs=3, ema=DECAY, optimizer=FAST, on_nonfinite="skip")
    trainer = Noting(conf, Net(norm=True))
    trainer.fit(DataLoaders(train=Poisoned(make_batches([5, 4, 3]))))  # type: ignore[arg-type]
    assert len(trainer.history) == 9
    assert_close(trainer.model, averages(trainer.history, DECAY))


def test_average_is_rolled_back_with_the_weights(tmp_path: Path) -> None:
    conf = TrainConf(epochs=3, ema=DECAY, optimizer=FAST, on_nonfinite="rollback")
    trainer = Noting(conf, Net(norm=True), CheckPoint(tmp_path / "a.pt"))
    trainer.fit(DataLoaders(train=Poisoned(make_batches([5, 4, 3]))))  # type: ignore[arg-type]
    history = trainer.history[:4] + trainer.history[5:]  # the one good step of the epoch that was rolled back
    assert len(history) == 10
    assert_close(trainer.model, averages(history, DECAY))


def test_average_of_another_network_is_refused() -> None:
    state = EMA(Net(), DECAY).state_dict()
    with pytest.raises(ValueError, match=r"of another network: only one of both has 'aux_head.bias'"):
        EMA(Net(aux=False), DECAY).load_state_dict(state)


def test_nobody_hears_of_averages_where_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    trainer = Trainer(TrainConf(epochs=1), Net(), CheckPoint(path), listener=Silence())
    trainer.fit(loaders([3]))
    stored = CheckPoint(path)
    stored.load_existing()
    assert stored["ema"] is None


def test_buffers_that_the_network_assigns_anew_are_averaged() -> None:
    class Averaging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.register_buffer("running", torch.zeros(1))

    network = Averaging()
    ema = EMA(network, 0.5)
    expected = 0.0
    for step in range(4):
        network.running = torch.full((1,), float(step + 1))
        ema.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
    with ema.averaged():
        assert network.running.item() == pytest.approx(expected)
    assert network.running.item() == 4.0
