"""Labelled images held in memory, checked once when they are put together."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .pixels import PixelsInMemory

# Values looked at together when every pixel has to be read: bounds the temporary memory (32 MiB in float64).
_CHUNK_VALUES = 2**22


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images of one size with their labels.

    Attributes:
        images: Shape ``(N, C, H, W)``, uint8 in 0..255, or float32 on the source's own scale. Any memory layout and
            any device.
        labels: Shape ``(N,)``, int64, each the position of a name in ``classes``.
        classes: Names of the classes, at least two. A class may have no sample.

    Raises:
        TypeError: If images or labels are no tensors.
        ValueError: If a shape or dtype differs, there is no sample or a single class, a label lies outside the
            classes, or a float image holds NaN or an infinity. Bad samples are named by their index.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check shapes, dtypes, labels and values."""
        for name, value in (("images", self.images), ("labels", self.labels)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}. Use torch.from_numpy.")
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        _check_images(self.images)
        check_labels(self.labels, len(self.images), self.classes)
        if self.images.dtype == torch.float32:
            _check_finite(self.images)

    def __len__(self) -> int:
        """Number of samples ``N``."""
        return len(self.images)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image, the last two in pixels."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def dtype(self) -> torch.dtype:
        """Of the pixels."""
        return self.images.dtype

    @property
    def streamed(self) -> bool:
        """False: all images lie in memory."""
        return False

    def pixels(self, device: torch.device) -> PixelsInMemory:
        """The pixels for batches on a device, which keeps all of them."""
        return PixelsInMemory(self.images, device)

    def subset(self, indices: Tensor) -> "ImageSet":
        """The samples at the given positions, copied, with the same classes.

        Args:
            indices: Shape ``(M,)``, int64, each in ``0..N-1``; order and repetitions are kept.

        Raises:
            ValueError: If there is no index, one lies outside the set, or the shape or dtype differs.
        """
        check_indices(indices, len(self))
        indices = indices.to(self.images.device)
        return ImageSet(images=self.images[indices], labels=self.labels[indices], classes=self.classes)


def check_indices(indices: Tensor, n_samples: int) -> None:
    """Refuse what are no positions of samples.

    Raises:
        ValueError: If there is no index, one lies outside the set, or the shape or dtype differs.
    """
    if indices.ndim != 1 or indices.dtype != torch.int64 or len(indices) == 0:
        raise ValueError(
            f"indices must be a non-empty int64 tensor of shape (M,), got {tuple(indices.shape)} {indices.dtype}."
        )
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= n_samples:
        raise ValueError(f"indices must lie in 0..{n_samples - 1}, got values from {low} to {high}.")


def _check_images(images: Tensor) -> None:
    if images.ndim != 4:
        raise ValueError(
            f"images must have shape (N, C, H, W), got {tuple(images.shape)}. "
            "Add the missing dimension, e.g. images[:, None] for images without channels."
        )
    if images.dtype not in (torch.uint8, torch.float32):
        raise ValueError(
            f"images must be uint8 (0..255) or float32, got {images.dtype}. "
            "Convert with images.to(torch.uint8) or images.float()."
        )
    if 0 in images.shape:
        raise ValueError(
            f"images must hold at least one sample of at least one pixel, got shape {tuple(images.shape)}."
        )


def check_labels(labels: Tensor, n_samples: int, classes: tuple[str, ...]) -> None:
    """Refuse labels that are not one class for each of ``n_samples`` images. ValueError."""
    if labels.shape != (n_samples,) or labels.dtype != torch.int64:
        raise ValueError(
            f"labels must be int64 of shape ({n_samples},), one for each image, "
            f"got {tuple(labels.shape)} {labels.dtype}."
        )
    if len(classes) < 2:
        raise ValueError(f"at least two classes are needed to learn a choice between them, got {list(classes)}.")
    outside = (labels < 0) | (labels >= len(classes))
    if bool(outside.any()):
        index = int(outside.nonzero()[0, 0])
        raise ValueError(
            f"label {int(labels[index])} of sample {index} is not one of the {len(classes)} classes, "
            f"numbered 0..{len(classes) - 1}. Number the classes from 0, or pass all their names."
        )


def pixel_chunks(images: Tensor) -> tuple[Tensor, ...]:
    """Views of ``(N, C, H, W)`` images along N, each small enough for temporary copies in float64."""
    return torch.split(images, max(1, _CHUNK_VALUES // images[0].numel()))


def _check_finite(images: Tensor) -> None:
    start = 0
    for chunk in pixel_chunks(images):
        finite = torch.isfinite(chunk).flatten(1).all(dim=1)
        if not bool(finite.all()):
            index = start + int((~finite).nonzero()[0, 0])
            raise ValueError(
                f"image {index} holds NaN or an infinity. Remove the sample or repair its values; "
                "one such pixel turns every weight of the network into NaN."
            )
        start += len(chunk)
