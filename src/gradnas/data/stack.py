"""Put images that arrive one by one into one tensor, allocated when the first shows its size."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .memory import ADVICE, check_memory


class ImageStack:
    """Collects ``n`` images of one shape and dtype.

    Attributes:
        promote_gray: Whether gray and color images may be mixed; the gray ones then become color images with three
            equal channels. Right for decoded files, wrong for arrays, whose channels have a meaning of their own.
    """

    def __init__(self, n: int, *, max_bytes: int, advice: str = ADVICE, promote_gray: bool = False) -> None:
        """Prepare for at most ``n`` images that together take at most ``max_bytes`` bytes; else ``advice`` is given."""
        self.promote_gray = promote_gray
        self._n, self._max_bytes, self._advice = n, max_bytes, advice
        self._count = 0
        self._first_name = ""
        self._images: npt.NDArray[np.generic] | None = None

    def add(self, image_HWC: npt.NDArray[np.generic], name: str) -> None:
        """Append one image.

        Args:
            image_HWC: Shape ``(height, width, channels)``, uint8 or float32.
            name: What the errors call it, e.g. a file or ``"sample 7"``.

        Raises:
            ValueError: If the shape or dtype differs from the first image's, or the stack exceeds ``max_bytes``.
        """
        if self._images is None:
            self._first_name = name
            self._images = self._allocate(image_HWC.shape, image_HWC.dtype)
        height, width, channels = self._images.shape[1:]
        if image_HWC.shape[:2] != (height, width):
            raise ValueError(
                f"images differ in size: {self._first_name} is {height}x{width} pixels (height x width), "
                f"{name} is {image_HWC.shape[0]}x{image_HWC.shape[1]}. Pass image_size= to bring all to one size."
            )
        if self.promote_gray and channels == 1 and image_HWC.shape[2] == 3:
            gray = self._images
            self._images = self._allocate((height, width, 3), gray.dtype)
            self._images[: self._count] = gray[: self._count]
        elif image_HWC.shape[2] != channels and not (self.promote_gray and image_HWC.shape[2] == 1):
            raise ValueError(
                f"images differ in channels: {self._first_name} has {channels}, {name} has {image_HWC.shape[2]}. "
                "Convert all to the same number of channels."
            )
        if image_HWC.dtype != self._images.dtype:
            raise ValueError(
                f"images differ in dtype: {self._first_name} is {self._images.dtype}, {name} is {image_HWC.dtype}. "
                "Convert all to uint8 or all to float32."
            )
        self._images[self._count] = image_HWC  # one channel is repeated by broadcasting
        self._count += 1

    def tensor(self) -> Tensor:
        """The images, shape ``(N, C, H, W)`` in channels_last memory; at least one must have been added."""
        assert self._images is not None, "an image must have been added"
        return torch.from_numpy(self._images[: self._count]).permute(0, 3, 1, 2)

    def _allocate(self, shape_HWC: tuple[int, ...], dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
        height, width, channels = shape_HWC
        n_bytes = self._n * height * width * channels * dtype.itemsize
        check_memory(f"{self._n} images of {channels}x{height}x{width}", n_bytes, self._max_bytes, self._advice)
        return np.empty((self._n, *shape_HWC), dtype=dtype)
