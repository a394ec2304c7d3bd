"""How long a network takes, and how many images it gets through, measured where it runs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles

import torch
from torch import Tensor, nn

from gradnas.arch import Shape

_MOST_RUNS, _FEWEST_RUNS, _WARM_UP = 50, 5, 3
_FEWEST_BATCHES, _GROWTH = 3, 4
_SHARE_OF_A_BATCH = 0.5  # of the time for a throughput that one of its batches may take


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time of one forward pass in evaluation mode.

    Args:
        median_ms: Milliseconds for a batch.
        low_ms: First quartile.
        high_ms: Third quartile.
        batch: Images per pass.
        runs: Passes measured.
        device: Type of the device, such as ``cpu``.
        threads: Threads that torch uses for one operation on the CPU.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    batch: int
    runs: int
    device: str
    threads: int


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Images that a network classifies in a second, in evaluation mode and in batches.

    Args:
        images_per_second: From the median time of a batch.
        batch: Images per pass.
        runs: Passes measured.
        device: Type of the device, such as ``cpu``.
        threads: Threads that torch uses for one operation on the CPU.
    """

    images_per_second: float
    batch: int
    runs: int
    device: str
    threads: int


def measure_latency(model: nn.Module, image_shape: Shape, *, batch: int = 1, time_s: float = 0.5) -> Latency:
    """Time passes of a network on its own device; the first few do not count.

    The network is left as it was. Quartiles, not mean and deviation, because what disturbs a pass makes it longer.

    Args:
        model: The network.
        image_shape: (channels, height, width).
        batch: Images per pass.
        time_s: No further pass begins after this time, once five have been measured; fifty are measured at most.

    Raises:
        ValueError: For a batch below 1.
    """
    if batch < 1:
        raise ValueError(f"latency is measured on at least one image, got batch={batch}.")
    images = _images(model, image_shape, batch)
    with _evaluating(model):
        _times_s(model, images, fewest=_WARM_UP, most=_WARM_UP, time_s=0.0)
        times_ms = [1e3 * t for t in _times_s(model, images, fewest=_FEWEST_RUNS, most=_MOST_RUNS, time_s=time_s)]
    low_ms, _, high_ms = quantiles(times_ms, n=4, method="inclusive")
    return Latency(
        median_ms=median(times_ms),
        low_ms=low_ms,
        high_ms=high_ms,
        batch=batch,
        runs=len(times_ms),
        device=images.device.type,
        threads=torch.get_num_threads(),
    )


def measure_throughput(model: nn.Module, image_shape: Shape, *, batch: int = 64, time_s: float = 0.3) -> Throughput:
    """Time passes of a network over batches on its own device; the first one does not count.

    The batch is one number for all networks, so that they compare, but for those that would need more than half of the
    time for it: these get the largest of 1, 4, 16, … images that should need less. The network is left as it was.

    Args:
        model: The network.
        image_shape: (channels, height, width).
        batch: Images per pass, at most.
        time_s: No further pass begins after this time, once three have been measured; fifty are measured at most.

    Raises:
        ValueError: For a batch below 1.
    """
    if batch < 1:
        raise ValueError(f"throughput is measured on at least one image, got batch={batch}.")
    with _evaluating(model):
        images = _largest_batch(model, image_shape, batch, _SHARE_OF_A_BATCH * time_s)
        batch = len(images)
        times_s = _times_s(model, images, fewest=_FEWEST_BATCHES, most=_MOST_RUNS, time_s=time_s)
    return Throughput(
        images_per_second=batch / max(median(times_s), 1e-9),
        batch=batch,
        runs=len(times_s),
        device=images.device.type,
        threads=torch.get_num_threads(),
    )


def _largest_batch(model: nn.Module, image_shape: Shape, most: int, pass_s: float) -> Tensor:
    """The largest batch whose pass should not take longer than that; the network has seen it once."""
    images = _images(model, image_shape, 1)
    while True:
        once_s = min(_times_s(model, images, fewest=2, most=2, time_s=0.0))  # the first pass of a size prepares it
        larger = min(most, _GROWTH * len(images))
        if larger == len(images) or once_s * larger / len(images) > pass_s:
            return images
        images = _images(model, image_shape, larger)


def _images(model: nn.Module, image_shape: Shape, batch: int) -> Tensor:
    """Images of zeros as the network reads them."""
    parameter = next(model.parameters(), torch.empty(0))
    return torch.zeros(batch, *image_shape, device=parameter.device, dtype=parameter.dtype)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode of each module is put back."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _times_s(model: nn.Module, images: Tensor, *, fewest: int, most: int, time_s: float) -> list[float]:
    """Seconds of passes, until the time is over or there are enough."""
    times_s: list[float] = []
    end = time.perf_counter() + time_s
    while len(times_s) < fewest or (len(times_s) < most and time.perf_counter() < end):
        _wait(images.device)
        start = time.perf_counter()
        model(images)
        _wait(images.device)
        times_s.append(time.perf_counter() - start)
    return times_s


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given; a CPU has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
