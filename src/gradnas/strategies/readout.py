"""What the host must know of a step of XNAS, without waiting for the device."""

import torch
from torch import Tensor


class Readout:
    """Which experts survived a step, and whether its rewards were finite.

    On a GPU this is copied while the weight step runs and read before the next one, so that the host never waits.
    Fallen experts have the weight 0 from the moment they fall. There, they are computed in that one weight step still,
    which moves their own weights and statistics once more and nothing else: no other tensor depends on them.
    """

    def __init__(self, device: torch.device) -> None:
        self.lags = device.type == "cuda"
        self._device = device
        self._posted: tuple[Tensor, list[list[Tensor]], int] | None = None
        self._copied = torch.cuda.Event() if self.lags else None

    def post(self, finite: Tensor, survivors: list[list[Tensor]], examples: int) -> None:
        """Hand over the outcome of a step with that many examples."""
        if self._copied is None:
            self._posted = finite, survivors, examples
            return
        flat = torch.cat([finite.view(1), *(mask for masks in survivors for mask in masks)])
        host = torch.empty(flat.shape, dtype=torch.bool, pin_memory=True).copy_(flat, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self._device))
        finite, *masks = host.split([1, *(len(mask) for masks in survivors for mask in masks)])
        in_order = iter(masks)
        self._posted = finite, [[next(in_order) for _ in masks] for masks in survivors], examples

    def take(self) -> tuple[bool, list[list[Tensor]], int] | None:
        """The outcome posted last, once; None when there is none."""
        if self._posted is None:
            return None
        if self._copied is not None:
            self._copied.synchronize()
        finite, survivors, examples = self._posted
        self._posted = None
        return bool(finite), survivors, examples
