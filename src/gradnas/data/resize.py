"""Bring images to one square size: the largest square in the center, resized.

The square comes first, so that a long and narrow image cannot ask for a huge intermediate result.

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
    top, left, side = _center_square(height, width)
    squares = images[:, :, top : top + side, left : left + side]
    chunks = [F.interpolate(chunk, (size, size), mode="bilinear", antialias=True) for chunk in pixel_chunks(squares)]
    return torch.cat(chunks)


def resize_image(image: "Image", size: int, box: tuple[int, int, int, int] | None = None) -> "Image":
    """Resize a PIL image of any mode that PIL can interpolate to ``size`` x ``size`` pixels.

    Args:
        image: The image.
        size: Side of the result in pixels.
        box: Left, top, right and bottom of the part that is resized; None takes the largest square in the center.
    """
    from PIL.Image import Resampling

    width, height = image.size
    if box is None:
        top, left, side = _center_square(height, width)
        box = left, top, left + side, top + side
    # Not resize(box=...): that mixes in pixels from outside the square, which the tensor form does not see.
    part = image if box == (0, 0, width, height) else image.crop(box)
    return part if part.size == (size, size) else part.resize((size, size), Resampling.BILINEAR)


def _center_square(height: int, width: int) -> tuple[int, int, int]:
    """Top, left and side in pixels of the largest square in the center."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side
