"""Random crops, flips and holes for a whole batch at once.

Sources: random crop with zero padding and horizontal flip as in He et al., Deep Residual Learning (CVPR 2016),
section 4.2; the square hole as in DeVries and Taylor, Improved Regularization of CNNs with Cutout (2017), section 3.2.
Deviations: an odd hole keeps its full side (published code rounds it down to even).
Reference tests: ``tests/data/test_augmentation.py``, one brute-force loop over samples for each transform.
Shape suffixes: B batch, H height, W width, C channels (last, so that a gathered pixel is one run of memory).
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .image_operations import check_rgb
from .policies import check_policy


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to training images. The default does nothing.

    Attributes:
        crop_padding: Zero border in pixels; a window of the original size is cut at a uniform position. 0 is off.
        resized_crop: Smallest share of the area that a window of random size and shape shows, above 0 and at most 1;
            the window is brought to the image's size, see :mod:`gradnas.data.resized_crop`. 0 is off.
        flip: Mirror left and right with probability one half.
        cutout: Side in pixels of one square hole whose center is uniform over the image; it is clipped at the
            border and filled with 0 after normalization, as the last transform. 0 is off.
        policy: ``autoaugment``, ``randaugment`` or ``trivialaugment`` between flip and normalization, for RGB images
            in uint8 only; see :mod:`gradnas.data.policies`. ``none`` is off.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If a number of pixels is negative, a share is none, the policy is unknown, or there are two crops.
    """

    crop_padding: int = 0
    resized_crop: float = 0.0
    flip: bool = False
    cutout: int = 0
    policy: Literal["none", "autoaugment", "randaugment", "trivialaugment"] = "none"

    def __post_init__(self) -> None:
        """Check types, signs and names."""
        for name, value in (("crop_padding", self.crop_padding), ("cutout", self.cutout)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} is a number of pixels and must be an int, got {value!r}.")
            if value < 0:
                raise ValueError(f"{name} is a number of pixels and must be at least 0 (off), got {value}.")
        if not isinstance(self.flip, bool):
            raise TypeError(f"flip must be True or False, got {self.flip!r}.")
        share = self.resized_crop
        if not isinstance(share, int | float) or isinstance(share, bool):
            raise TypeError(f"resized_crop is a share of an image's area and must be a number, got {share!r}.")
        if not (math.isfinite(share) and 0 <= share <= 1):
            raise ValueError(f"resized_crop is a share of an image's area, 0 (off) to 1, got {share}.")
        if self.crop_padding > 0 and share > 0:
            raise ValueError(
                f"crop_padding={self.crop_padding} and resized_crop={share} both cut a window. Set one of them to 0."
            )
        check_policy(self.policy)

    def changed(
        self, *, crop_padding: int | None = None, flip: bool | None = None, resized_crop: float | None = None
    ) -> "Augmentation":
        """A copy with other crops or flips; None keeps what there is, but a crop that is set replaces the other."""
        return replace(
            self,
            crop_padding=crop_padding if crop_padding is not None else 0 if resized_crop else self.crop_padding,
            resized_crop=resized_crop if resized_crop is not None else 0.0 if crop_padding else self.resized_crop,
            flip=self.flip if flip is None else flip,
        )

    def check_fits(self, height: int, width: int) -> None:
        """Refuse settings that make no sense for images of this size.

        Args:
            height: Image height in pixels.
            width: Image width in pixels.

        Raises:
            ValueError: If the hole is larger than the image, or the border wider than it.
        """
        if self.cutout > min(height, width):
            raise ValueError(
                f"cutout={self.cutout} is larger than the image of {height}x{width} pixels and would blank most of "
                f"every image. Use at most {min(height, width) // 2}, or 0 to switch it off."
            )
        if self.crop_padding > min(height, width):
            raise ValueError(
                f"crop_padding={self.crop_padding} is larger than the image of {height}x{width} pixels; many crops "
                f"would be empty. Use about {max(1, min(height, width) // 8)}, or 0 to switch it off."
            )

    def check_pixels(self, channels: int, dtype: torch.dtype) -> None:
        """Refuse a policy that has no meaning for images of this kind.

        Args:
            channels: Channels of an image.
            dtype: Dtype of the stored images.

        Raises:
            ValueError: If the policy needs RGB images in uint8 and these are others.
        """
        if self.policy != "none":
            check_rgb(self.policy, channels, dtype)


def crop_and_flip(x_BHWC: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Cut a random window out of each zero-padded image and mirror half of the images.

    Both are one gather of pixels: the positions are computed for the batch, without a loop over samples and without
    waiting for the device.

    Args:
        x_BHWC: Images before normalization, any dtype.
        augmentation: Uses ``crop_padding`` and ``flip``.
        generator: On the device of the images. Draws offsets ``(2, B)`` (down, right), then mirrors ``(B, 1)``,
            each only if its transform is on.

    Returns:
        Images of the same shape and dtype.
    """
    padding = augmentation.crop_padding
    if padding == 0 and not augmentation.flip:
        return x_BHWC
    batch, height, width, channels = x_BHWC.shape
    device = x_BHWC.device
    rows_BH = torch.arange(height, device=device).expand(batch, height)
    columns_BW = torch.arange(width, device=device).expand(batch, width)
    offsets = None
    if padding > 0:
        offsets = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator, device=device)
    if augmentation.flip:
        mirror = torch.randint(0, 2, (batch, 1), generator=generator, device=device, dtype=torch.bool)
        columns_BW = torch.where(mirror, width - 1 - columns_BW, columns_BW)
    if offsets is not None:
        rows_BH = rows_BH + offsets[0]
        columns_BW = columns_BW + offsets[1]
        x_BHWC = F.pad(x_BHWC, (0, 0, padding, padding, padding, padding))
    padded_height, padded_width = height + 2 * padding, width + 2 * padding
    first_row_B1 = torch.arange(batch, device=device)[:, None] * padded_height
    pixels_BHW = ((first_row_B1 + rows_BH) * padded_width)[:, :, None] + columns_BW[:, None, :]
    # index_select copies runs of C values; indexing with the same positions takes ten times as long on a CPU.
    cropped = x_BHWC.reshape(-1, channels).index_select(0, pixels_BHW.view(-1))
    return cropped.view(batch, height, width, channels)


def cut_hole(x_BHWC: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Set one square per image to zero, in place.

    The hole covers ``side`` rows from ``center - side // 2`` on, clipped at the border, and columns likewise.

    Args:
        x_BHWC: Normalized images, contiguous; changed.
        side: Side of the hole in pixels; 0 changes nothing.
        generator: On the device of the images. Draws the center rows ``(B, 1)``, then the center columns.

    Returns:
        ``x_BHWC``.
    """
    if side == 0:
        return x_BHWC
    batch, height, width, channels = x_BHWC.shape
    inside = []
    for size in (height, width):
        center = torch.randint(0, size, (batch, 1), generator=generator, device=x_BHWC.device)
        distance = torch.arange(size, device=x_BHWC.device) - (center - side // 2)
        inside.append((distance >= 0) & (distance < side))
    # One long run of values per row: filling pixel by pixel takes half as long again on a CPU.
    inside_rows, inside_values = inside[0], inside[1].repeat_interleave(channels, dim=1)
    x_BHWC.view(batch, height, width * channels).masked_fill_(inside_rows[:, :, None] & inside_values[:, None, :], 0.0)
    return x_BHWC
