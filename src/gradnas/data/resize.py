"""Bring images to one square size: the shorter side to the size, then the center.

Bilinear with antialiasing in both forms; the two agree to a rounding step, not bit for bit.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .imageset import pixel_chunks

if TYPE_CHECKING:
    from PIL.Image import Image


def check_image_size(image_size: int | None) -> None:
    """Refuse an image size that is no positive number of pixels.

    Raises:
        ValueError: If it is neither None nor an int of at least 1.
    """
    if image_size is None:
        return
    if not isinstance(image_size, int) or isinstance(image_size, bool) or image_size < 1:
        raise ValueError(f"image_size is the side in pixels, an int of at least 1 or None, got {image_size!r}.")


def resize_tensor(images: Tensor, size: int) -> Tensor:
    """Resize images of one shape.

    Args:
        images: Shape ``(N, C, H, W)``, uint8 or float32.
        size: Side of the result in pixels.

    Returns:
        Shape ``(N, C, size, size)``, same dtype; the input itself if it has that size.
    """
    height, width = images.shape[2:]
    if height == width == size:
        return images
    scaled_height, scaled_width = _scaled(height, width, size)
    top, left = (scaled_height - size) // 2, (scaled_width - size) // 2
    chunks = [
        F.interpolate(chunk, (scaled_height, scaled_width), mode="bilinear", antialias=True)[
            :, :, top : top + size, left : left + size
        ]
        for chunk in pixel_chunks(images)
    ]
    return torch.cat(chunks)


def resize_image(image: "Image", size: int) -> "Image":
    """Resize a PIL image of any mode that PIL can interpolate to ``size`` x ``size`` pixels."""
    from PIL.Image import Resampling

    width, height = image.size
    if height == width == size:
        return image
    scaled_height, scaled_width = _scaled(height, width, size)
    top, left = (scaled_height - size) // 2, (scaled_width - size) // 2
    scaled = image.resize((scaled_width, scaled_height), Resampling.BILINEAR)
    return scaled.crop((left, top, left + size, top + size))


def _scaled(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width in pixels when the shorter side becomes ``size``."""
    shorter = min(height, width)
    return max(size, round(height * size / shorter)), max(size, round(width * size / shorter))
