"""Windows of random size and shape, brought to one size.

Source: Szegedy et al., Going Deeper with Convolutions (CVPR 2015), section 6: an evenly drawn share of the area, a
ratio of the sides between 3/4 and 4/3. Details, ten attempts and the centered window after them among these, as in
``torchvision.transforms.v2.RandomResizedCrop``.
Deviations: none; the position comes from a number in [0, 1), not from a whole one.
Reference tests: ``tests/data/test_resized_crop.py``, torchvision's windows and pixels.
Shape suffixes: B batch, T attempts, H height, W width, C channels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_ATTEMPTS = 10
_RATIOS = (3 / 4, 4 / 3)


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomWindows:
    """The windows of a batch before the sizes of its images are known, which decoding tells.

    Attributes:
        numbers: Of shape ``(B, T, 4)``, evenly drawn from [0, 1), float64 on the CPU: area, ratio, position from the
            top and from the left.
        smallest_share: Smallest share of an image's area.
    """

    numbers: Tensor
    smallest_share: float

    @staticmethod
    def draw(batch: int, smallest_share: float, generator: torch.Generator) -> "RandomWindows":
        """Draw those of a batch, by a generator on the CPU."""
        numbers = torch.rand((batch, _ATTEMPTS, 4), generator=generator, dtype=torch.float64)
        return RandomWindows(numbers=numbers, smallest_share=smallest_share)

    def of(self, start: int, stop: int) -> "RandomWindows":
        """Those of a part of the batch."""
        return RandomWindows(numbers=self.numbers[start:stop], smallest_share=self.smallest_share)

    def in_image(self, height: int, width: int) -> Tensor:
        """The windows in images of a size in pixels: top, left, height and width, int64 of shape ``(B, 4)``."""
        area, ratio, down, right = self.numbers.unbind(dim=2)
        area = height * width * (self.smallest_share + (1 - self.smallest_share) * area)
        low, high = (math.log(bound) for bound in _RATIOS)
        ratio = (low + (high - low) * ratio).exp()
        heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
        fits_BT = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
        tops, lefts = ((height - heights + 1) * down).floor(), ((width - widths + 1) * right).floor()
        found_BT4 = torch.stack((tops, lefts, heights, widths), dim=2).long()
        first_B = fits_BT.int().argmax(dim=1)
        found_B4 = found_BT4[torch.arange(len(found_BT4)), first_B]
        return torch.where(fits_BT.any(dim=1, keepdim=True), found_B4, _centered(height, width))


def _centered(height: int, width: int) -> Tensor:
    """The largest window in the center whose ratio is allowed."""
    smallest, largest = _RATIOS
    window_height, window_width = height, width
    if width / height < smallest:
        window_height = round(width / smallest)
    elif width / height > largest:
        window_width = round(height * largest)
    return torch.tensor([(height - window_height) // 2, (width - window_width) // 2, window_height, window_width])


def resize_windows(x_BHWC: Tensor, windows_B4: Tensor) -> Tensor:
    """Bring a window of each image to the size of the image, for the whole batch at once.

    Bilinear; nothing outside a window is seen. A window is never larger than its image, so that there is nothing to
    smooth.

    Args:
        x_BHWC: Images, uint8 or float32.
        windows_B4: Top, left, height and width of each window in pixels, int64 on the device of the images.

    Returns:
        Images of the same shape and dtype.
    """
    batch, height, width, channels = x_BHWC.shape
    top, left, window_height, window_width = windows_B4.T[..., None]
    first_B1 = torch.arange(batch, device=x_BHWC.device)[:, None]
    upper_BH, lower_BH, share_BH = _neighbors(top, window_height, height)
    rows = x_BHWC.reshape(batch * height, width * channels)

    def rows_at(positions_BH: Tensor) -> Tensor:
        return rows.index_select(0, (first_B1 * height + positions_BH).view(-1)).float()

    x = rows_at(upper_BH).lerp_(rows_at(lower_BH), share_BH.reshape(-1, 1)).view(-1, channels)
    left_BW, right_BW, share_BW = _neighbors(left, window_width, width)
    first_BH1 = torch.arange(batch * height, device=x_BHWC.device).view(batch, height, 1) * width

    def columns_at(positions_BW: Tensor) -> Tensor:
        return x.index_select(0, (first_BH1 + positions_BW[:, None, :]).view(-1)).view(batch, height, width, channels)

    resized = columns_at(left_BW).lerp_(columns_at(right_BW), share_BW[:, None, :, None])
    return resized.round_().to(torch.uint8) if x_BHWC.dtype == torch.uint8 else resized


def _neighbors(start_B1: Tensor, length_B1: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of ``size`` pixels the two between which it lies in its window, and the share of the second."""
    pixels = torch.arange(size, dtype=torch.float64, device=start_B1.device)
    # Beyond the centers of the outer pixels there is nothing to blend with.
    position = (((pixels + 0.5) * length_B1 / size) - 0.5).clamp_(min=0)
    first = position.floor()
    second = torch.minimum(first.long() + 1, length_B1 - 1)
    return start_B1 + first.long(), start_B1 + second, (position - first).float()
