"""How long a network takes, measured where it runs."""

import time
from dataclasses import dataclass
from statistics import median, quantiles

import torch
from torch import nn

from gradnas.arch import Shape

_MOST_RUNS, _FEWEST_RUNS, _WARM_UP = 50, 5, 3


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
    parameter = next(model.parameters(), torch.empty(0))
    device = parameter.device
    images = torch.zeros(batch, *image_shape, device=device, dtype=parameter.dtype)
    modes = [(module, module.training) for module in model.modules()]
    times_ms: list[float] = []
    try:
        model.eval()
        with torch.inference_mode():
            for _ in range(_WARM_UP):
                model(images)
            end = time.perf_counter() + time_s
            while len(times_ms) < _FEWEST_RUNS or (len(times_ms) < _MOST_RUNS and time.perf_counter() < end):
                _wait(device)
                start = time.perf_counter()
                model(images)
                _wait(device)
                times_ms.append(1e3 * (time.perf_counter() - start))
    finally:
        for module, training in modes:
            module.training = training
    low_ms, _, high_ms = quantiles(times_ms, n=4, method="inclusive")
    return Latency(
        median_ms=median(times_ms),
        low_ms=low_ms,
        high_ms=high_ms,
        batch=batch,
        runs=len(times_ms),
        device=device.type,
        threads=torch.get_num_threads(),
    )


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given; a CPU has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
