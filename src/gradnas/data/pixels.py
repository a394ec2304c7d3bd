"""Where the pixels of a batch come from: the one thing in which sets in memory and streamed ones differ.

Shape suffixes: N samples, B batch, H height, W width, C channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .resized_crop import RandomWindows, resize_windows


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """What is wanted of a batch.

    Attributes:
        key: Epoch and index of the batch.
        start: First position in the order of the epoch.
        stop: One past the last.
        positions: Samples at these positions, int64 on the CPU; None where they are ``start .. stop - 1`` themselves.
        windows: Random windows that are cut out and brought to the images' size, or None.
    """

    key: tuple[int, int]
    start: int
    stop: int
    positions: Tensor | None
    windows: RandomWindows | None

    def take(self, values_N: Tensor) -> Tensor:
        """Entries of a tensor over samples for those of the batch; a view where they follow each other."""
        if self.positions is None:
            return values_N[self.start : self.stop]
        # index_select copies runs of C values; indexing with the same positions takes ten times as long on a CPU.
        return values_N.index_select(0, self.positions.to(values_N.device, non_blocking=True))

    def numbers(self) -> list[int]:
        """The samples, as numbers."""
        return list(range(self.start, self.stop)) if self.positions is None else self.positions.tolist()


class Pixels(Protocol):
    """The pixels of a set, ready for a device."""

    def gather(self, wanted: Wanted, following: Iterator[Wanted]) -> Tensor:
        """Images of a batch.

        Args:
            wanted: Which.
            following: The batches after it, in the order in which they will probably be wanted.

        Returns:
            Shape ``(B, H, W, C)``, in the dtype of the set, on the device. It may be a view of the set.
        """
        ...

    def identity(self) -> Iterator[bytes | memoryview]:
        """What tells this set from others, in order."""
        ...


class PixelsInMemory:
    """The whole set lies on the device."""

    def __init__(self, images_NCHW: Tensor, device: torch.device) -> None:
        """Move the images there, channels last, so that a gathered pixel is one run of memory."""
        self._images_NHWC = images_NCHW.to(device).permute(0, 2, 3, 1).contiguous()

    def gather(self, wanted: Wanted, following: Iterator[Wanted]) -> Tensor:
        """A gather on the device, see :class:`Pixels`."""
        x_BHWC = wanted.take(self._images_NHWC)
        if wanted.windows is None:
            return x_BHWC
        windows = wanted.windows.in_image(*x_BHWC.shape[1:3]).to(x_BHWC.device, non_blocking=True)
        return resize_windows(x_BHWC, windows)

    def identity(self) -> Iterator[bytes | memoryview]:
        """Shape, dtype and every value."""
        yield f"{tuple(self._images_NHWC.shape)} {self._images_NHWC.dtype}".encode()
        yield self._images_NHWC.cpu().numpy().data
