"""Mean and standard deviation per channel, and their use on a batch."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .imageset import ImageSet, pixel_chunks


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """``(x - mean) / std`` for each channel.

    Attributes:
        mean: One per channel, on the 0..1 scale for uint8 images and on the images' own scale for float images.
        std: One per channel, same scale, positive.

    Raises:
        ValueError: If the lengths differ, there is no channel, a value is not finite or a ``std`` is not positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the lengths and the values."""
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(f"mean and std must have one value per channel, got mean={self.mean}, std={self.std}.")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean must be finite and std positive, got mean={self.mean}, std={self.std}.")

    @staticmethod
    def of(images: ImageSet) -> "Normalization":
        """Measure a training set, in float64 and in chunks.

        Args:
            images: The training images, shape ``(N, C, H, W)``. Never include test images.

        Returns:
            Mean and population standard deviation over samples and pixels. A channel without variation gets
            ``std`` 1, so that it becomes zero instead of a division by zero.
        """
        scale = 255.0 if images.images.dtype == torch.uint8 else 1.0
        count = images.images[:, 0].numel()
        total_C = torch.zeros(images.shape[0], dtype=torch.float64, device=images.images.device)
        for chunk in pixel_chunks(images.images):
            total_C += chunk.sum(dim=(0, 2, 3), dtype=torch.float64)
        mean_C = total_C / count
        # Squared distances to the mean rather than mean of squares_C: no cancellation when the mean is large.
        squares_C = torch.zeros_like(mean_C)
        for chunk in pixel_chunks(images.images):
            squares_C += (chunk.double() - mean_C[:, None, None]).square_().sum(dim=(0, 2, 3))
        std_C = (squares_C / count).sqrt() / scale
        mean_C = mean_C / scale
        # Exactly zero for equal values: float64 adds up to 2**29 equal float32 values without rounding.
        std_C = torch.where(std_C == 0, torch.ones_like(std_C), std_C)
        return Normalization(mean=tuple(mean_C.tolist()), std=tuple(std_C.tolist()))

    def scale_and_shift(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The two vectors of the fused form ``x * scale + shift``.

        Args:
            dtype: Dtype of the stored images; uint8 folds the division by 255 into ``scale``.

        Returns:
            ``scale`` and ``shift``, float32 of shape ``(C,)`` on the CPU.
        """
        mean_C = torch.tensor(self.mean, dtype=torch.float64)
        std_C = torch.tensor(self.std, dtype=torch.float64)
        unit = 255.0 if dtype == torch.uint8 else 1.0
        return (1.0 / (unit * std_C)).float(), (-mean_C / std_C).float()
