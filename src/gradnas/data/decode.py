"""From the bytes of an image file to an array, many files at a time."""

import io
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from .memory import check_memory
from .optional import optional_import
from .options import LoadOptions
from .resize import resize_image
from .resized_crop import RandomWindows

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
_GRAY_MODES = ("L", "1")
_one_large_image_at_a_time = threading.Lock()


class UnreadableImageError(ValueError):
    """A file that holds no image, or one that cannot be decoded. The message names it and says what to do."""


class FileReader(Protocol):
    """A folder or archive, from which several threads may read."""

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        ...

    def mark(self, name: str) -> str:
        """What is known of a file without reading it: its size, and its checksum where the archive has one."""
        ...


class ImageSample(Protocol):
    """An image that can be opened whenever it is wanted, on any thread."""

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    @property
    def identity(self) -> str:
        """What tells it from another image, as far as that is known without opening it."""
        ...

    def open(self) -> "Image":
        """The image, of which nothing but the head may have been decoded. Any exception if there is none."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """One image file in a folder or archive.

    Attributes:
        name: Path from the root of the data set, as the errors show it.
        reader: Where it lies.
    """

    name: str
    reader: FileReader

    @property
    def identity(self) -> str:
        """Name, size and what else is known without reading it."""
        return f"{self.name}\0{self.reader.mark(self.name)}"

    def open(self) -> "Image":
        """Read the file and look at its head."""
        from PIL import Image, UnidentifiedImageError

        try:
            return Image.open(io.BytesIO(self.reader.read(self.name)), formats=_FORMATS)
        except UnidentifiedImageError as error:
            raise UnreadableImageError(
                f"cannot read the image {self.name}: it is damaged, or none of {', '.join(_FORMATS)}. Repair or "
                "convert it, or remove it from the data set."
            ) from error


def decode_all(
    samples: Sequence[ImageSample], options: LoadOptions
) -> Iterator[npt.NDArray[np.uint8] | UnreadableImageError]:
    """Decode images in their order, on several threads: PIL releases the interpreter lock while it decodes.

    Args:
        samples: What to read.
        options: Uses ``image_size`` (None when all must have one size), ``channels``, ``workers``, ``skip_unreadable``,
            and ``max_bytes``, the limit for one decoded image, and for all of them if they are like it. The size that
            an image declares is compared with it before the image is decoded.

    Yields:
        Arrays of shape ``(H, W, 1)`` for gray and ``(H, W, 3)`` for all other images, uint8; with ``skip_unreadable``
        the error in place of an image that cannot be read.

    Raises:
        ImportError: If Pillow is not installed.
        UnreadableImageError: If a file is damaged, is no image, or has more than 8 bits a channel. It names the file.
        ValueError: If an image declares more pixels than the limit allows.
    """
    pillow = optional_import("PIL.Image", package="pillow", needed_for="reading image files")

    def decode_some(some: Sequence[ImageSample]) -> list[npt.NDArray[np.uint8] | UnreadableImageError]:
        decoded: list[npt.NDArray[np.uint8] | UnreadableImageError] = []
        for sample in some:
            try:
                decoded.append(decode(sample, options, n_samples=len(samples)))
            except UnreadableImageError as error:
                if not options.skip_unreadable:
                    raise
                decoded.append(error)
        return decoded

    with warnings.catch_warnings():
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        pool = ThreadPoolExecutor(max_workers=options.threads)
        try:
            starts = iter(range(0, len(samples), _FILES_PER_TASK))
            # Not all tasks at once: what is decoded before it is asked for would add up where the caller keeps none.
            tasks = deque(
                pool.submit(decode_some, samples[start : start + _FILES_PER_TASK])
                for start in islice(starts, 2 * options.threads)
            )
            while tasks:
                decoded = tasks.popleft().result()
                tasks.extend(
                    pool.submit(decode_some, samples[start : start + _FILES_PER_TASK]) for start in islice(starts, 1)
                )
                yield from decoded
        finally:
            pool.shutdown(cancel_futures=True)


def decode(
    sample: ImageSample, options: LoadOptions, *, n_samples: int = 1, window: RandomWindows | None = None
) -> npt.NDArray[np.uint8]:
    """Decode one image.

    Args:
        sample: What to read.
        options: As :func:`decode_all` uses them.
        n_samples: How many images like it have to fit in memory.
        window: Of one image, cut out and brought to the image size in place of the square in the center.

    Returns:
        Shape ``(H, W, C)``, uint8.

    Raises:
        UnreadableImageError, ValueError: As :func:`decode_all`.
    """
    from PIL import Image

    try:
        opened = sample.open()
    except UnreadableImageError:
        raise
    except Exception as error:
        raise _unreadable(sample, error) from error
    with opened as image:
        width, height = image.size
        pixels = width * height
        largest = Image.MAX_IMAGE_PIXELS
        if largest is not None and pixels > largest:  # PIL itself warns, and raises from twice the limit on
            raise UnreadableImageError(
                f"cannot read the image {sample.name}: {pixels:,} pixels could be a decompression bomb, at most "
                f"{largest:,} are read. Make it smaller or remove it from the data set."
            )
        check_memory(f"the image {sample.name} of {width}x{height}", pixels * _DECODED_PIXEL_BYTES, options.max_bytes)
        if options.image_size is None:
            channels = options.channels or (1 if is_gray(image) else 3)
            what = f"{n_samples} images of {channels}x{height}x{width}"
            check_memory(what, n_samples * channels * pixels, options.max_bytes, options.advice)
        fault = _depth_fault(image)
        if fault is not None:
            raise UnreadableImageError(f"cannot read the image {sample.name}: {fault}.")
        try:
            with _one_large_image_at_a_time if pixels >= _LARGE_PIXELS else nullcontext():
                return image_to_array(image, options.image_size, options.channels, window)
        # Decoders raise almost anything on damaged bytes (SyntaxError, struct.error, ...); whatever it is, the file
        # has to be named.
        except Exception as error:
            raise _unreadable(sample, error) from error


def is_gray(image: "Image") -> bool:
    """Whether an image has one channel."""
    return image.mode in _GRAY_MODES


def image_to_array(
    image: "Image", image_size: int | None = None, channels: int | None = None, window: RandomWindows | None = None
) -> npt.NDArray[np.uint8]:
    """Pixels of a PIL image.

    Args:
        image: Any mode with at most 8 bits a channel. Transparency is dropped.
        image_size: Side in pixels to resize to, or None.
        channels: 1 for gray, 3 for RGB; None keeps gray images gray and makes RGB of all others.
        window: Of one image, brought to ``image_size``; None takes the largest square in the center.

    Returns:
        Shape ``(H, W, 1)`` if the image is gray, else ``(H, W, 3)``, uint8.

    Raises:
        ValueError: If it has more than 8 bits a channel.
    """
    fault = _depth_fault(image)
    if fault is not None:
        raise ValueError(fault)
    gray = is_gray(image)
    if not gray:
        # PIL warns when transparency in a palette is dropped without this step.
        image = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
    image = image.convert("L" if (channels or (1 if gray else 3)) == 1 else "RGB")
    if image_size is not None:
        box = None
        if window is not None:
            width, height = image.size
            top, left, box_height, box_width = window.in_image(height, width)[0].tolist()
            box = left, top, left + box_width, top + box_height
        image = resize_image(image, image_size, box)
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


def _unreadable(sample: ImageSample, error: Exception) -> UnreadableImageError:
    return UnreadableImageError(
        f"cannot read the image {sample.name}: {error}. Repair the file or remove it from the data set."
    )
