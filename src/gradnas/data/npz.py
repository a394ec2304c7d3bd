"""Data sets in one ``.npz`` file."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .archive import ZIP_FAULTS, open_archive
from .imageset import ImageSet
from .labels import as_labels, check_label_shape, numbered_classes
from .memory import check_memory
from .npy import NotPlainError, NpyHeader, read_header, read_values
from .resize import resize_tensor

_CHANNELS = (1, 3, 4)
_KEYS = ("x_train", "y_train", "x_test", "y_test", "classes")
_Array = npt.NDArray[np.generic]
_FLOAT_BYTES, _LABEL_BYTES = 4, 8
_LARGEST_NAMES_BYTES = 2**26


def read_npz(path: Path, image_size: int | None, max_bytes: int) -> tuple[ImageSet, ImageSet | None]:
    """Read ``x_train``, ``y_train`` and, if they are there, ``x_test``, ``y_test`` and ``classes``.

    Args:
        path: The file. Nothing in it is unpickled, and nothing allocated that its bytes and ``max_bytes`` do not
            bear out.
        image_size: Side in pixels to resize to, or None.
        max_bytes: Limit for the images, train and test together, as they are stored and as they are kept in memory.

    Returns:
        Training and test images; the test images are None where the file holds none.

    Raises:
        ValueError: If the file is damaged, a key is missing, lengths differ, the layout of the images cannot be
            told, a dtype is neither uint8 nor float, a label is no class number, or the images are too large.
    """
    with open_archive(path) as archive:
        headers = _headers(path, archive)
        layout = _check_sizes(path, headers, image_size, max_bytes)
        arrays = {}
        for key, header in headers.items():
            with _naming(path, key):
                arrays[key] = read_values(archive, _members(archive)[key], header)
    labels = as_labels(arrays["y_train"], f"{path.name}: y_train")
    classes = _class_names(path, arrays["classes"]) if "classes" in arrays else None
    if classes is None:
        classes = numbered_classes(labels, f"{path.name}: y_train")
    train = _image_set(path, arrays, "train", layout, classes, image_size)
    if "x_test" not in arrays:
        return train, None
    return train, _image_set(path, arrays, "test", layout, classes, image_size)


def _headers(path: Path, archive: zipfile.ZipFile) -> dict[str, NpyHeader]:
    members = _members(archive)
    required = _KEYS[:4] if "x_test" in members or "y_test" in members else _KEYS[:2]
    missing = [key for key in required if key not in members]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; it holds {', '.join(members) or 'nothing'}. Expected x_train and "
            "y_train, and either both or none of x_test and y_test."
        )
    headers = {}
    for key in _KEYS:
        if key in members:
            with _naming(path, key):
                headers[key] = read_header(archive, members[key])
    return headers


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    arrays = [member for member in archive.infolist() if member.filename.endswith(".npy")]
    return {member.filename.removesuffix(".npy"): member for member in arrays}


def _check_sizes(path: Path, headers: dict[str, NpyHeader], image_size: int | None, max_bytes: int) -> str:
    """Everything that the headers tell, before a value is read. Returns the layout."""
    layout = _layout(f"{path.name}: x_train", headers["x_train"].shape)
    needed = held = labels = 0
    for split in ("train", "test"):
        if f"x_{split}" not in headers:
            continue
        x, y = headers[f"x_{split}"], headers[f"y_{split}"]
        if len(x.shape) != len(layout):
            raise ValueError(f"{path.name}: x_{split} has shape {x.shape}, but x_train has the layout {layout}.")
        check_label_shape(y.shape, f"{path.name}: y_{split}")
        if x.shape[0] != y.shape[0]:
            raise ValueError(f"{path.name}: x_{split} holds {x.shape[0]} images but y_{split} {y.shape[0]} labels.")
        if 0 in x.shape[1:]:
            raise ValueError(f"{path.name}: the images of x_{split} have no pixels, its shape is {x.shape}.")
        n, channels, height, width = _shape(x, layout, image_size)
        needed += n * channels * height * width * (1 if x.dtype == np.uint8 else _FLOAT_BYTES)
        held += x.n_bytes
        labels += prod(y.shape) * max(y.dtype.itemsize, _LABEL_BYTES)
    check_memory(path.name, held, max_bytes)
    check_memory(path.name if image_size is None else f"{path.name} with image_size={image_size}", needed, max_bytes)
    check_memory(f"the labels of {path.name}", labels, max_bytes)
    if "classes" in headers:
        classes = headers["classes"]
        if len(classes.shape) != 1 or classes.dtype.kind not in "US":
            raise ValueError(
                f"{path.name}: classes must be a vector of names, got shape {classes.shape}, dtype {classes.dtype}."
            )
        check_memory(f"the names of the classes of {path.name}", classes.n_bytes, _LARGEST_NAMES_BYTES)
    return layout


@contextmanager
def _naming(path: Path, key: str) -> Iterator[None]:
    """Turn whatever the readers raise on damaged bytes into an error that names the file and the array."""
    try:
        yield
    except NotPlainError as error:
        raise ValueError(f"cannot read {path}, array {key}: {error}. Save numbers, or text with dtype=str.") from error
    except (*ZIP_FAULTS, zlib.error) as error:
        raise ValueError(
            f"cannot read {path}, array {key}: {error}. Save it again with numpy.savez or numpy.savez_compressed."
        ) from error


def _class_names(path: Path, classes: _Array) -> tuple[str, ...]:
    try:
        names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in classes.tolist())
        for name in names:
            name.encode()  # half a surrogate pair could not be written into any report
    except ValueError as error:
        raise ValueError(f"{path.name}: classes holds what is no text ({error}). Save the names as text.") from error
    return names


def _layout(name: str, shape: tuple[int, ...]) -> str:
    """``NHW``, ``NHWC`` or ``NCHW``: the one with 1, 3 or 4 channels, or else the one with square images."""
    if len(shape) == 3:
        return "NHW"
    if len(shape) == 4:
        by_channels = [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if shape[axis] in _CHANNELS]
        square = [layout for layout, a, b in (("NCHW", 2, 3), ("NHWC", 1, 2)) if shape[a] == shape[b]]
        for candidates in (by_channels, square):
            if len(candidates) == 1:
                return candidates[0]
    raise ValueError(
        f"{name} has shape {shape}, from which the layout cannot be told. Expected (N, H, W), or (N, H, W, C) or "
        "(N, C, H, W) with 1, 3 or 4 channels and no doubt which they are. Add or move the channel dimension."
    )


def _shape(x: NpyHeader, layout: str, image_size: int | None) -> tuple[int, int, int, int]:
    sizes = dict(zip(layout, x.shape, strict=False))
    height, width = (sizes.get("H", 0), sizes.get("W", 0)) if image_size is None else (image_size, image_size)
    return sizes["N"], sizes.get("C", 1), height, width


def _image_set(
    path: Path, arrays: dict[str, _Array], split: str, layout: str, classes: tuple[str, ...], image_size: int | None
) -> ImageSet:
    x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
    images = _to_tensor(f"{path.name}: x_{split}", x, layout)
    if image_size is not None and len(images):
        images = resize_tensor(images, image_size)
    try:
        return ImageSet(images=images, labels=as_labels(y, f"y_{split}"), classes=classes)
    except ValueError as error:
        raise ValueError(f"{path.name}, {split} part: {error}") from error


def _advice(x: _Array) -> str:
    """How to save images of another dtype: ``.astype("uint8")`` alone makes 1 of True and 44 of 300."""
    if x.dtype.kind == "b":
        return "Convert with .astype('uint8') * 255."
    if x.dtype.kind not in "iu" or x.size == 0:
        return "Save the pixels as numbers of one of these types."
    low, high = int(x.min()), int(x.max())
    if low >= 0 and high <= 255:
        return f"Its values are {low}..{high}: convert with .astype('uint8')."
    return f"Its values are {low}..{high}: scale them to 0..255 first, then convert with .astype('uint8')."


def _to_tensor(name: str, x: _Array, layout: str) -> Tensor:
    """View as ``(N, C, H, W)``; float arrays of any precision become float32."""
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):  # an overflow becomes an infinity, which ImageSet names
            x = x.astype(np.float32, copy=False)
    elif x.dtype != np.uint8:
        raise ValueError(f"{name} must be uint8 (0..255) or float, got {x.dtype}. {_advice(x)}")
    images = torch.from_numpy(x)
    if layout == "NHW":
        return images[:, None]
    return images.permute(0, 3, 1, 2) if layout == "NHWC" else images
