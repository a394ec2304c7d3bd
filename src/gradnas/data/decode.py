"""From the bytes of an image file to an array, many files at a time."""

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .memory import check_memory
from .optional import optional_import
from .resize import resize_image

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".ppm")
# No others, whatever a file holds under these names: PIL would start a program for PostScript.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
# Images from this size on are decoded one at a time: sixteen at once would need gigabytes beside the data set.
_LARGE_PIXELS = 2**24
_DECODED_PIXEL_BYTES = 4
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


def decode_all(files: Sequence[ImageFile], image_size: int | None, max_bytes: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Decode files in their order, on several threads: PIL releases the interpreter lock while it decodes.

    Args:
        files: What to read.
        image_size: Side in pixels to resize to, or None, when all must have one size.
        max_bytes: Limit for one decoded image, and for all of them if they are like it. The size that an image declares
            is compared with it before the image is decoded.

    Yields:
        Arrays of shape ``(H, W, 1)`` for gray and ``(H, W, 3)`` for all other images, uint8.

    Raises:
        ImportError: If Pillow is not installed.
        ValueError: If a file is damaged, is no image, has more than 8 bits a channel, or declares more pixels than
            the limit allows. The message names the file.
    """
    pillow = optional_import("PIL.Image", package="pillow", needed_for="reading image files")

    one_at_a_time = threading.Lock()

    def decode_some(some: Sequence[ImageFile]) -> list[npt.NDArray[np.uint8]]:
        return [_decode(file, image_size, len(files), max_bytes, one_at_a_time) for file in some]

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
    fault = _depth_fault(image)
    if fault is not None:
        raise ValueError(fault)
    if image.mode in ("L", "1"):
        image = image.convert("L")
    else:
        # PIL warns when transparency in a palette is dropped without this step.
        image = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
    if image_size is not None:
        image = resize_image(image, image_size)
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def _depth_fault(image: "Image") -> str | None:
    """What is wrong with an image of more than 8 bits a channel; None for the others."""
    own_mode = image.mode.startswith(("I", "F"))
    if not own_mode and not any(_is_deep(tile[0], tile[3]) for tile in getattr(image, "tile", ())):
        return None
    mode = image.mode if own_mode else f"{image.mode};16"
    return f"its mode {mode!r} has more than 8 bits a channel; convert it to 8 bits"


def _is_deep(decoder: str, arguments: object) -> bool:
    """Whether a file that is not decoded yet has 16 bits a channel, of which PIL would drop the lower 8 unasked."""
    raw_mode, *others = arguments if isinstance(arguments, tuple) else (arguments,)
    if decoder.startswith("ppm"):
        return any(isinstance(largest, int) and largest > 255 for largest in others)
    # The BGR;16 of a bitmap has 16 bits a pixel: 5, 6 and 5 for its channels.
    return ";16" in str(raw_mode) and not str(raw_mode).startswith("BGR;")


def _decode(
    file: ImageFile, image_size: int | None, n_files: int, max_bytes: int, one_at_a_time: threading.Lock
) -> npt.NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        opened = Image.open(io.BytesIO(file.read()), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError(
            f"cannot read the image {file.name}: it is damaged, or none of {', '.join(_FORMATS)}. Repair or convert "
            "it, or remove it from the data set."
        ) from error
    except Exception as error:
        raise _unreadable(file, error) from error
    with opened as image:
        width, height = image.size
        check_memory(f"the image {file.name} of {width}x{height}", width * height * _DECODED_PIXEL_BYTES, max_bytes)
        if image_size is None:
            channels = 1 if image.mode in ("L", "1") else 3
            needed = n_files * channels * height * width
            check_memory(f"{n_files} images of {channels}x{height}x{width}", needed, max_bytes)
        fault = _depth_fault(image)
        if fault is not None:
            raise ValueError(f"cannot read the image {file.name}: {fault}.")
        try:
            with one_at_a_time if width * height >= _LARGE_PIXELS else nullcontext():
                return image_to_array(image, image_size)
        # Decoders raise almost anything on damaged bytes (SyntaxError, struct.error, ...); whatever it is, the file
        # has to be named.
        except Exception as error:
            raise _unreadable(file, error) from error


def _unreadable(file: ImageFile, error: Exception) -> ValueError:
    return ValueError(f"cannot read the image {file.name}: {error}. Repair the file or remove it from the data set.")
