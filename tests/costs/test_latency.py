"""Tests of ``src/gradnas/costs/latency.py``: a clock and networks of known speed."""

import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from gradnas.costs import measure_latency, measure_throughput


class Slow(nn.Module):
    """Every pass advances the clock of these tests by the next of the given times."""

    def __init__(self, clock: "Clock", times_s: Iterator[float]) -> None:
        super().__init__()
        self.clock, self.times_s = clock, times_s
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.norm = nn.BatchNorm2d(2).double()
        self.seen: list[tuple[torch.Size, torch.dtype, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x.shape, x.dtype, self.training, torch.is_inference_mode_enabled()))
        self.clock.now += next(self.times_s)
        return self.norm(x)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "perf_counter", made)
    return made


def forever(value: float) -> Iterator[float]:
    while True:
        yield value


def test_quartiles_of_the_passes_after_the_warm_up(clock: Clock) -> None:
    times = iter([9.0, 9.0, 9.0, 0.5, 0.1, 0.3, 0.2, 0.4])
    found = measure_latency(Slow(clock, times), (2, 3, 3), time_s=0.0)
    assert found.runs == 5
    assert (found.low_ms, found.median_ms, found.high_ms) == pytest.approx((200.0, 300.0, 400.0))


@pytest.mark.parametrize(("time_s", "runs"), [(0.0, 5), (1.0, 10), (100.0, 50)])
def test_ends_in_time_with_neither_too_few_nor_too_many_passes(clock: Clock, time_s: float, runs: int) -> None:
    assert measure_latency(Slow(clock, forever(0.1001)), (2, 3, 3), time_s=time_s).runs == runs


def test_batch_has_the_shape_and_the_type_of_the_network_which_is_left_as_it_was(clock: Clock) -> None:
    model = Slow(clock, forever(1.0)).train()
    model.norm.eval()  # frozen
    model.norm.running_mean = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = measure_latency(model, (2, 3, 5), batch=4)
    assert set(model.seen) == {(torch.Size((4, 2, 3, 5)), torch.float64, False, True)}
    assert (model.training, model.norm.training) == (True, False)
    assert model.norm.running_mean.tolist() == [1.0, 2.0]
    assert (found.batch, found.device, found.threads) == (4, "cpu", torch.get_num_threads())


def test_network_that_fails_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1)).train()
    with pytest.raises(RuntimeError, match="channels"):
        measure_latency(model, (2, 3, 5))
    assert model.training


def test_network_without_weights_is_measured_as_well() -> None:
    assert measure_latency(nn.ReLU(), (2, 3, 3), time_s=0.0).runs == 5


def test_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image, got batch=0"):
        measure_latency(nn.Conv2d(2, 2, 1), (2, 3, 3), batch=0)


class Steady(Slow):
    """Takes so long for a pass, and so long more for each image."""

    def __init__(self, clock: "Clock", pass_s: float, image_s: float) -> None:
        super().__init__(clock, forever(0.0))
        self.pass_s, self.image_s = pass_s, image_s

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += self.pass_s + self.image_s * len(x)
        return super().forward(x)


def test_throughput_is_that_of_full_batches(clock: Clock) -> None:
    found = measure_throughput(Steady(clock, 0.001, 0.0001), (2, 3, 3), time_s=0.4)
    assert found.batch == 64
    assert found.images_per_second == pytest.approx(64 / (0.001 + 64 * 0.0001))
    assert found.runs == 50
    assert (found.device, found.threads) == ("cpu", torch.get_num_threads())


def test_throughput_of_a_batch_that_one_asks_for(clock: Clock) -> None:
    model = Steady(clock, 0.001, 0.0001)
    assert measure_throughput(model, (2, 3, 3), batch=50).batch == 50
    assert {len(shape) for shape, *_ in model.seen} == {4}
    assert sorted({shape[0] for shape, *_ in model.seen}) == [1, 4, 16, 50]


@pytest.mark.parametrize(("image_s", "batch"), [(0.003, 64), (0.01, 16), (0.04, 4), (0.06, 1), (5.0, 1)])
def test_a_slow_network_gets_a_smaller_batch_and_not_much_more_time(clock: Clock, image_s: float, batch: int) -> None:
    before = clock.now
    found = measure_throughput(Steady(clock, 0.0, image_s), (2, 3, 3), time_s=0.4)
    assert found.batch == batch
    assert found.images_per_second == pytest.approx(1 / image_s)
    assert clock.now - before <= max(5 * image_s, 3 * 0.4) + 1e-9


def test_throughput_leaves_the_network_as_it_was_and_needs_an_image(clock: Clock) -> None:
    model = Steady(clock, 0.001, 0.0001).train()
    model.norm.eval()  # frozen
    measure_throughput(model, (2, 3, 3))
    assert (model.training, model.norm.training) == (True, False)
    assert {(training, inference) for _, _, training, inference in model.seen} == {(False, True)}
    with pytest.raises(ValueError, match="at least one image, got batch=0"):
        measure_throughput(model, (2, 3, 3), batch=0)
