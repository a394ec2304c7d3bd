"""Tests of ``src/gradnas/training/schedules.py``: every rate of a training beside the published formula."""

import math

import pytest
import torch
from torch.nn import Parameter

from gradnas.training import MultiOptim, OptimConf, OptimSched, create_optimizer, create_scheduler


def rates(conf: OptimConf, epochs: int, steps: int = 1) -> list[float]:
    """Learning rate of every step, and after the last."""
    optimizer = create_optimizer(conf, [Parameter(torch.zeros(1))])
    scheduler = create_scheduler(conf, optimizer, epochs, steps)
    multi = MultiOptim([OptimSched(optimizer, scheduler, sched_on_epoch=not conf.schedule_per_step)])
    seen = []
    for _ in range(epochs):
        for _ in range(steps):
            seen.append(multi.get_lr())
            multi.step()
        multi.epoch()
    return [*seen, multi.get_lr()]


@pytest.mark.parametrize("epochs", [1, 2, 7, 50])
def test_cosine_is_the_published_formula_in_every_epoch(epochs: int) -> None:
    expected = [0.001 + (0.025 - 0.001) * (1 + math.cos(math.pi * e / epochs)) / 2 for e in range(epochs + 1)]
    assert rates(OptimConf(lr=0.025, lr_min=0.001), epochs) == pytest.approx(expected, rel=1e-9)


def test_cosine_ends_at_its_minimum() -> None:
    assert rates(OptimConf(lr=0.025, lr_min=0.001), 5)[-1] == pytest.approx(0.001)


def test_constant_rate_stays() -> None:
    assert rates(OptimConf(lr=0.1, schedule="constant"), 4) == [0.1] * 5


@pytest.mark.parametrize("n", [1, 2, 5])
def test_warmup_rises_evenly_from_a_fraction_to_the_rate(n: int) -> None:
    seen = rates(OptimConf(lr=0.2, warmup_epochs=n), 12)
    assert seen[:n] == pytest.approx([0.2 * (e + 1) / n for e in range(n)])
    assert seen[n] == pytest.approx(0.2)


def test_cosine_after_the_warmup_takes_the_rest_of_the_epochs() -> None:
    seen = rates(OptimConf(lr=0.2, lr_min=0.01, warmup_epochs=3), 10)
    expected = [0.01 + 0.19 * (1 + math.cos(math.pi * e / 7)) / 2 for e in range(8)]
    assert seen[3:] == pytest.approx(expected, rel=1e-9)


def test_constant_rate_follows_the_warmup() -> None:
    assert rates(OptimConf(lr=0.2, warmup_epochs=2, schedule="constant"), 4) == pytest.approx([0.1, *[0.2] * 4])


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_warmup_longer_than_the_run_stays_in_range(epochs: int) -> None:
    seen = rates(OptimConf(lr=0.2, warmup_epochs=5), epochs)
    assert seen == pytest.approx([0.04 * (e + 1) for e in range(epochs + 1)])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_warmup_begins_at_a_share_of_the_rate_that_is_given(n: int) -> None:
    seen = rates(OptimConf(lr=0.2, warmup_epochs=n, warmup_factor=0.01, schedule="constant"), 9)
    expected = [0.2 * (0.01 + 0.99 * e / max(1, n - 1)) for e in range(n)]
    assert seen == pytest.approx(expected + [0.2] * (10 - n))


@pytest.mark.parametrize("steps", [1, 3])
def test_rates_of_an_epoch_are_one_rate_unless_the_schedule_counts_steps(steps: int) -> None:
    per_epoch = rates(OptimConf(lr=0.2, lr_min=0.01, warmup_epochs=2), 6)
    seen = rates(OptimConf(lr=0.2, lr_min=0.01, warmup_epochs=2), 6, steps)
    assert seen[:-1] == [rate for rate in per_epoch[:-1] for _ in range(steps)]


@pytest.mark.parametrize(("factor", "expected"), [(None, 0.97), (0.5, 0.5)])
def test_exponential_is_a_power_of_its_factor_in_every_epoch(factor: float | None, expected: float) -> None:
    seen = rates(OptimConf(lr=0.1, schedule="exponential", factor=factor), 250)
    assert seen == pytest.approx([0.1 * expected**epoch for epoch in range(251)], rel=1e-12)


def test_exponential_counts_from_the_end_of_the_warmup() -> None:
    seen = rates(OptimConf(lr=0.1, schedule="exponential", factor=0.5, warmup_epochs=2), 5)
    assert seen == pytest.approx([0.05, 0.1, 0.1, 0.05, 0.025, 0.0125])


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize(
    ("milestones", "ends"), [((), (10, 15)), ((0.25, 0.5, 0.9), (5, 10, 18)), ((3, 12), (3, 12)), ((30,), ())]
)
def test_multistep_falls_at_shares_or_numbers_of_epochs(
    milestones: tuple[float, ...], ends: tuple[int, ...], warmup: int
) -> None:
    conf = OptimConf(lr=0.1, schedule="multistep", milestones=milestones, warmup_epochs=warmup)
    expected = [0.1 * 0.1 ** sum(end <= epoch for end in ends) for epoch in range(21)]
    expected[:warmup] = [0.05, 0.1][:warmup]
    assert rates(conf, 20) == pytest.approx(expected)


def test_multistep_takes_the_factor_that_is_given() -> None:
    seen = rates(OptimConf(lr=0.1, schedule="multistep", milestones=(2,), factor=0.2), 4)
    assert seen == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.02])


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_multistep_begins_at_the_rate_however_short_the_training(epochs: int) -> None:
    seen = rates(OptimConf(lr=0.1, schedule="multistep", milestones=(0.01, 0.4)), epochs)
    assert seen[0] == pytest.approx(0.1)
    assert seen[-1] == pytest.approx(0.001)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (2, 2), (1, 10), (30, 7)])
@pytest.mark.parametrize(
    ("settings", "start", "end"),
    [
        ({}, 0.4 / 25, 0.4 / 25 / 1e4),
        ({"lr_min": 0.01}, 0.4 / 25, 0.01),
        ({"warmup_factor": 0.5}, 0.2, 0.2e-4),
        ({"lr_min": 0.4, "warmup_factor": 1.0}, 0.4, 0.4),
    ],
)
def test_onecycle_is_two_halves_of_a_cosine_over_all_steps(
    epochs: int, steps: int, settings: dict[str, float], start: float, end: float
) -> None:
    seen = rates(OptimConf(lr=0.4, schedule="onecycle", **settings), epochs, steps)  # type: ignore[arg-type]
    last = epochs * steps - 1
    peak = max(1, round(0.3 * (last + 1)) - 1)
    up = [start + (0.4 - start) * (1 - math.cos(math.pi * step / peak)) / 2 for step in range(peak + 1)]
    down = [
        end + (0.4 - end) * (1 + math.cos(math.pi * (step - peak) / (last - peak))) / 2
        for step in range(peak + 1, last + 1)
    ]
    assert seen[:-1] == pytest.approx(up + down, rel=1e-9)
    assert (seen[0], max(seen), seen[-2]) == pytest.approx((start, 0.4, end))


def test_onecycle_rises_for_the_epochs_of_the_warmup() -> None:
    seen = rates(OptimConf(lr=0.4, schedule="onecycle", warmup_epochs=2), 10, 5)
    assert seen.index(max(seen)) == 9
    assert seen[:10] == sorted(set(seen[:10]))


@pytest.mark.parametrize("steps", [1, 2])
def test_onecycle_of_a_trial_of_one_or_two_steps_is_its_beginning(steps: int) -> None:
    assert rates(OptimConf(lr=0.4, schedule="onecycle"), 1, steps)[:-1] == pytest.approx([0.016, 0.4][:steps])


def test_onecycle_leaves_the_momentum_as_it_is_set() -> None:
    conf = OptimConf(lr=0.4, schedule="onecycle", momentum=0.8)
    optimizer = create_optimizer(conf, [Parameter(torch.zeros(1))])
    scheduler = create_scheduler(conf, optimizer, 4, 5)
    for _ in range(20):
        optimizer.step()
        scheduler.step()
        assert optimizer.param_groups[0]["momentum"] == 0.8


@pytest.mark.parametrize("schedule", ["cosine", "constant", "exponential", "multistep", "onecycle"])
@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_no_epoch_is_trained_at_rate_zero(schedule: str, warmup: int) -> None:
    conf = OptimConf(lr=0.1, schedule=schedule, warmup_epochs=warmup)  # type: ignore[arg-type]
    assert all(rate > 0 for rate in rates(conf, 6, 4)[:-1])
