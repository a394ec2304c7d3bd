"""From the bytes of an image file to an array, many files at a time."""

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .optional import optional_import
from .resize import resize_image

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")
# Files per task: enough that handing out tasks costs nothing, few enough to keep all threads busy to the end.
_FILES_PER_TASK = 64


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """One image file in a folder or archive.

    Attributes:
        name: Path from the root of the data set, as the errors show it.
        read: Returns the bytes.
    """

    name: str
    read: Callable[[], bytes]


def decode_all(files: Sequence[ImageFile], image_size: int | None) -> Iterator[npt.NDArray[np.uint8]]:
    """Decode files in their order, on several threads: PIL releases the interpreter lock while it decodes.

    Args:
        files: What to read.
        image_size: Side in pixels to resize to, or None.

    Yields:
        Arrays of shape ``(H, W, 1)`` for gray and ``(H, W, 3)`` for all other images, uint8.

    Raises:
        ImportError: If Pillow is not installed.
        ValueError: If a file is damaged, is no image, has more than 8 bits a channel, or declares so many pixels
            that decoding it would exhaust the memory. The message names the file.
    """
    pillow = optional_import("PIL.Image", package="pillow", needed_for="reading image files")

    def decode_some(some: Sequence[ImageFile]) -> list[npt.NDArray[np.uint8]]:
        return [_decode(file, image_size) for file in some]

    tasks = [files[start : start + _FILES_PER_TASK] for start in range(0, len(files), _FILES_PER_TASK)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        pool = ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1))
        try:
            for images in pool.map(decode_some, tasks):
                yield from images
        finally:
            pool.shutdown(cancel_futures=True)


def image_to_array(image: "Image", image_size: int | None = None) -> npt.NDArray[np.uint8]:
    """Pixels of a PIL image.

    Args:
        image: Any mode with at most 8 bits a channel. Transparency is dropped.
        image_size: Side in pixels to resize to, or None.

    Returns:
        Shape ``(H, W, 1)`` if the image is gray, else ``(H, W, 3)``, uint8.

    Raises:
        ValueError: If it has more than 8 bits a channel.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its mode {image.mode!r} has more than 8 bits a channel; convert it to 8 bits")
    if image.mode in ("L", "1"):
        image = image.convert("L")
    else:
        # PIL warns when transparency in a palette is dropped without this step.
        image = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
    if image_size is not None:
        image = resize_image(image, image_size)
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def _decode(file: ImageFile, image_size: int | None) -> npt.NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(file.read())) as image:
            return image_to_array(image, image_size)
    # Decoders raise almost anything on damaged bytes (SyntaxError, struct.error, ...); whatever it is, the file
    # has to be named.
    except Exception as error:
        raise ValueError(
            f"cannot read the image {file.name}: {error}. Repair the file or remove it from the data set."
        ) from error
