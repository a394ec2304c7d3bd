"""What is asked of labeled images, wherever their pixels lie."""

from typing import Protocol

import torch
from torch import Tensor

from .pixels import Pixels


class LabeledImages(Protocol):
    """Images of one size with their labels: an :class:`ImageSet` in memory, or a :class:`StreamedSet` of files."""

    @property
    def labels(self) -> Tensor:
        """Shape ``(N,)``, int64, each the position of a name in ``classes``."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, at least two."""
        ...

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image, the last two in pixels."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the pixels: uint8, or float32 on the source's own scale."""
        ...

    @property
    def streamed(self) -> bool:
        """Whether the images are read batch by batch and take no memory but that of a few batches."""
        ...

    def __len__(self) -> int:
        """Number of samples ``N``."""
        ...

    def subset(self, indices: Tensor) -> "LabeledImages":
        """The samples at the given positions, int64 of shape ``(M,)``, with the same classes."""
        ...

    def pixels(self, device: torch.device) -> Pixels:
        """The pixels for batches on a device."""
        ...
