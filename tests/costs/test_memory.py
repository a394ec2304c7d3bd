"""Tests of ``src/gradnas/costs/memory.py``."""

import pytest
import torch
from torch import nn

from gradnas.costs import MemoryModel, MemoryTracer

KIB = 1024  # bytes of 256 float32 numbers


def traced(batch: int, hidden: int = 256) -> MemoryTracer:
    with MemoryTracer("cpu") as tracer:
        model = nn.Sequential(nn.Linear(16, hidden), nn.ReLU(), nn.Linear(hidden, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(batch, 16)).square().mean().backward()
            optimizer.step()
            tracer.new_part()
    return tracer


def test_a_tensor_counts_while_it_lives_and_views_do_not() -> None:
    with MemoryTracer("cpu") as tracer:
        assert tracer.live_bytes == 0
        x = torch.empty(256)
        assert tracer.live_bytes == KIB
        view = x.view(16, 16).t()[3:]
        assert tracer.live_bytes == KIB
        del x
        assert tracer.live_bytes == KIB  # the view holds it
        del view
        assert tracer.live_bytes == 0
    assert tracer.peak_bytes() == KIB


def test_the_peak_is_that_of_all_that_lived_at_once() -> None:
    with MemoryTracer("cpu") as tracer:
        x = torch.empty(256)
        y = x + 1
        del x
        z = y * 2
        z.add_(1)
    assert tracer.live_bytes == 2 * KIB
    assert tracer.peak_bytes() == 2 * KIB
    assert tracer.parts() == [[KIB, 2 * KIB, 2 * KIB, 2 * KIB]]


def test_what_autograd_keeps_counts_until_the_backward_pass() -> None:
    with MemoryTracer("cpu") as tracer:
        x = torch.ones(256, requires_grad=True)
        y = (x * 2).exp().exp().sum()  # both results of exp are kept for the backward pass
        assert tracer.live_bytes == 3 * KIB + 4
        y.backward()
        assert tracer.live_bytes == 2 * KIB + 4  # x and its gradient
    del x, y


def test_without_gradients_nothing_is_kept() -> None:
    with MemoryTracer("cpu") as tracer, torch.no_grad():
        y = torch.ones(256, requires_grad=True).exp().exp().sum()
    assert tracer.live_bytes == y.element_size()
    assert tracer.peak_bytes() == 2 * KIB


def test_results_in_lists_count_once_and_other_results_do_not() -> None:
    with MemoryTracer("cpu") as tracer:
        parts = torch.empty(256).split(64)
        assert tracer.live_bytes == KIB
        values, places = torch.empty(256).sort()
        assert tracer.live_bytes == KIB + KIB + 2 * KIB  # int64 places
        assert values.sum().item() is not None
    del parts, places


def test_a_storage_resized_in_place_is_counted_at_its_new_size() -> None:
    with MemoryTracer("cpu") as tracer:
        x = torch.empty(256)
        x.resize_(1024)
        assert tracer.live_bytes == 4 * KIB
        del x
        assert tracer.live_bytes == 0


def test_another_device_does_not_count() -> None:
    with MemoryTracer("cpu") as tracer:
        there = torch.empty(256, device="meta")
    assert tracer.live_bytes == 0
    with MemoryTracer("meta") as tracer:
        there = there + 1
    assert tracer.live_bytes == KIB


def test_memory_after_the_tracer_is_left_no_longer_grows_and_what_is_freed_goes() -> None:
    with MemoryTracer("cpu") as tracer:
        x = torch.empty(256)
    y = torch.empty(256)
    assert tracer.live_bytes == KIB
    del x, y
    assert tracer.live_bytes == 0
    assert tracer.peak_bytes() == KIB
    assert MemoryTracer("cpu").peak_bytes() == 0


def test_two_small_batches_tell_the_peak_of_a_large_one() -> None:
    model = MemoryModel.of(traced(2).parts(), traced(3).parts(), (2, 3))
    for batch in (1, 8, 64, 1000):
        assert model.peak_bytes(batch) == traced(batch).peak_bytes()


def test_the_peak_is_not_linear_where_the_moment_of_the_peak_changes() -> None:
    small, large = traced(2, hidden=4096).parts(), traced(3, hidden=4096).parts()
    model = MemoryModel.of(small, large, (2, 3))
    peaks = [max(max(part) for part in parts) for parts in (small, large)]
    naive = peaks[0] + 998 * (peaks[1] - peaks[0])
    true = traced(1000, hidden=4096).peak_bytes()
    assert model.peak_bytes(1000) == true
    assert naive < 0.9 * true


def test_of_affine_traces_the_model_is_known() -> None:
    model = MemoryModel.of([[10, 7], [4]], [[12, 7], [5]], (2, 4))
    assert model.fixed.tolist() == [8, 7, 3]
    assert model.per_sample.tolist() == [1, 0, 0.5]
    assert [model.peak_bytes(batch) for batch in (0, 1, 7)] == [8, 9, 15]
    assert model.plus(-3).peak_bytes(7) == 12


def test_a_part_that_took_another_number_of_operations_is_one_moment() -> None:
    model = MemoryModel.of([[10, 20, 1], [5, 6]], [[14, 30], [6, 8]], (2, 3))
    assert model.per_sample.tolist() == [10, 1, 2]
    assert model.fixed.tolist() == [0, 3, 2]


def test_the_largest_batch_is_the_last_that_fits() -> None:
    model = MemoryModel.of(traced(2).parts(), traced(3).parts(), (2, 3))
    for available in (200_000, 1_000_003):
        batch = model.largest_batch(available)
        assert model.peak_bytes(batch) <= available < model.peak_bytes(batch + 1)
    assert model.largest_batch(1000) == 0


def test_what_does_not_grow_has_no_largest_batch() -> None:
    flat = MemoryModel.of([[7]], [[7]], (1, 2))
    assert flat.largest_batch(7) > 10**15
    assert flat.largest_batch(6) == 0


@pytest.mark.parametrize(
    ("small", "large", "sizes", "said"),
    [
        ([[1]], [[1], [2]], (1, 2), "equally many parts, got 1 and 2"),
        ([[1]], [[1]], (2, 2), r"smaller one first, got \(2, 2\)"),
    ],
)
def test_traces_that_cannot_be_compared_are_refused(
    small: list[list[int]], large: list[list[int]], sizes: tuple[int, int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        MemoryModel.of(small, large, sizes)


def test_tracing_does_not_change_what_is_computed() -> None:
    def step() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
        model(torch.randn(5, 2, 8, 8)).square().sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    plain = step()
    with MemoryTracer("cpu"):
        watched = step()
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
