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
        self._posted: tuple[Tensor, list[torch.Size], int] | None = None
        self._copied = torch.cuda.Event() if self.lags else None

    def post(self, finite: Tensor, survivors: list[Tensor], examples: int) -> None:
        """Hand over the outcome of a step.

        Args:
            finite: Whether all rewards were finite, 0-dim bool.
            survivors: Experts that are active, bool of shape (E, N), one per cell type.
            examples: Validation examples of the step.
        """
        packed = torch.cat([finite.view(1), *(table.flatten() for table in survivors)])
        if self._copied is not None:
            host = torch.empty(packed.shape, dtype=torch.bool, pin_memory=True)
            packed = host.copy_(packed, non_blocking=True)
            self._copied.record(torch.cuda.current_stream(self._device))
        self._posted = packed, [table.shape for table in survivors], examples

    def take(self) -> tuple[bool, list[list[list[bool]]], int] | None:
        """The outcome posted last, once, as :meth:`post` got it but on the host; None when there is none."""
        if self._posted is None:
            return None
        if self._copied is not None:
            self._copied.synchronize()
        (packed, shapes, examples), self._posted = self._posted, None
        finite, *masks = packed.split([1, *(shape.numel() for shape in shapes)])
        return bool(finite), [mask.view(shape).tolist() for mask, shape in zip(masks, shapes, strict=True)], examples
