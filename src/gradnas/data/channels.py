"""Gray images of colored ones and back."""

from dataclasses import replace

import torch
from torch import Tensor

from .imageset import ImageSet, pixel_chunks
from .memory import check_memory
from .options import LoadOptions

# ITU-R 601, in PIL's 16 bits: uint8 images give the same gray levels here and there.
_RED, _GREEN, _BLUE = 19595, 38470, 7471


def recolored(train: ImageSet, test: ImageSet | None, options: LoadOptions) -> tuple[ImageSet, ImageSet | None]:
    """Sets in memory with the number of channels that the options ask for.

    Args:
        train: Training images.
        test: Test images of the same channels, or None.
        options: Uses ``channels`` and ``max_bytes``, the limit for both together.

    Raises:
        ValueError: If the images have other channels than 1 or 3, or the result exceeds the limit.
    """
    own, height, width = train.shape
    if options.channels is None or options.channels == own:
        return train, test
    n_samples = len(train) + (0 if test is None else len(test))
    n_bytes = n_samples * options.channels * height * width * train.dtype.itemsize
    check_memory(f"{n_samples} images of {options.channels}x{height}x{width}", n_bytes, options.max_bytes)
    recolored_train, recolored_test = (
        None if part is None else replace(part, images=with_channels(part.images, options.channels))
        for part in (train, test)
    )
    assert recolored_train is not None
    return recolored_train, recolored_test


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Bring images to a number of channels.

    Args:
        images: Shape ``(N, C, H, W)``, uint8 or float32.
        channels: 1 weighs red, green and blue as the eye does; 3 repeats the gray levels.

    Returns:
        Shape ``(N, channels, H, W)``, same dtype; the input itself if it has as many.

    Raises:
        ValueError: If the images have other channels than 1 or 3.
    """
    own = images.shape[1]
    if channels == own:
        return images
    if own not in (1, 3):
        raise ValueError(f"images of {own} channels are neither gray nor RGB; channels={channels} has no meaning.")
    if channels == 3:
        return images.repeat(1, 3, 1, 1)
    return torch.cat([_gray(chunk) for chunk in pixel_chunks(images)])


def _gray(images: Tensor) -> Tensor:
    red, green, blue = (images[:, channel : channel + 1] for channel in range(3))
    if images.dtype == torch.uint8:
        return ((red.int() * _RED + green.int() * _GREEN + blue.int() * _BLUE + 2**15) >> 16).to(torch.uint8)
    return (red * _RED + green * _GREEN + blue * _BLUE) / 2**16
