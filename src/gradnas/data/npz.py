"""Data sets in one ``.npz`` file."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .imageset import ImageSet
from .labels import as_labels, numbered_classes
from .memory import check_memory
from .resize import resize_tensor

_CHANNELS = (1, 3, 4)
_Array = npt.NDArray[np.generic]
# Room for the headers of the members, which are not images.
_HEADER_BYTES = 2**12


def read_npz(path: Path, image_size: int | None, max_bytes: int) -> tuple[ImageSet, ImageSet | None]:
    """Read ``x_train``, ``y_train`` and, if they are there, ``x_test``, ``y_test`` and ``classes``.

    Args:
        path: The file. Nothing in it is unpickled.
        image_size: Side in pixels to resize to, or None.
        max_bytes: Limit for the images in memory, train and test together.

    Returns:
        Training and test images; the test images are None where the file holds none.

    Raises:
        ValueError: If the file is damaged, a key is missing, lengths differ, the layout of the images cannot be
            told, a dtype is neither uint8 nor float, a label is no class number, or the images are too large.
    """
    arrays = _read_arrays(path, max_bytes)
    layout = _layout(f"{path.name}: x_train", arrays["x_train"].shape)
    labels = as_labels(arrays["y_train"], f"{path.name}: y_train")
    classes = _class_names(path, arrays["classes"]) if "classes" in arrays else None
    if classes is None:
        classes = numbered_classes(labels, f"{path.name}: y_train")
    sides = {split: _shape(arrays[f"x_{split}"], layout, image_size) for split in _splits(arrays)}
    needed = sum(
        n * channels * height * width * (1 if arrays[f"x_{split}"].dtype == np.uint8 else 4)
        for split, (n, channels, height, width) in sides.items()
    )
    check_memory(path.name if image_size is None else f"{path.name} with image_size={image_size}", needed, max_bytes)
    train = _image_set(path, arrays, "train", layout, classes, image_size)
    if "x_test" not in arrays:
        return train, None
    return train, _image_set(path, arrays, "test", layout, classes, image_size)


def _splits(arrays: dict[str, _Array]) -> list[str]:
    return ["train", "test"] if "x_test" in arrays else ["train"]


def _read_arrays(path: Path, max_bytes: int) -> dict[str, _Array]:
    known = ("x_train", "y_train", "x_test", "y_test", "classes")
    with _naming(path), zipfile.ZipFile(path) as members:
        declared = sum(info.file_size for info in members.infolist() if info.filename in ("x_train.npy", "x_test.npy"))
    # Before anything is unpacked; the exact check, after resizing, follows when the shapes are known.
    if declared > max_bytes + 2 * _HEADER_BYTES:
        check_memory(path.name, declared, max_bytes)
    with _naming(path), np.load(path, allow_pickle=False) as archive:
        keys = list(archive.keys())
        required = known[:4] if "x_test" in keys or "y_test" in keys else known[:2]
        missing = [key for key in required if key not in keys]
        if not missing:
            return {key: archive[key] for key in known if key in keys}
    raise ValueError(
        f"{path} lacks {', '.join(missing)}; it holds {', '.join(keys) or 'nothing'}. Expected x_train and y_train, "
        "and either both or none of x_test and y_test."
    )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever the readers raise on damaged bytes into an error that names the file."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError) as error:
        if "allow_pickle" in str(error):
            reason = "it holds Python objects, which are not loaded; save arrays of numbers or text (dtype=str) only"
        else:
            reason = f"{error}. Save it again with numpy.savez or numpy.savez_compressed"
        raise ValueError(f"cannot read {path}: {reason}.") from error


def _class_names(path: Path, classes: _Array) -> tuple[str, ...]:
    if classes.ndim != 1 or classes.dtype.kind not in "US":
        raise ValueError(
            f"{path.name}: classes must be a vector of names, got shape {classes.shape}, dtype {classes.dtype}."
        )
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in classes.tolist())


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


def _shape(x: _Array, layout: str, image_size: int | None) -> tuple[int, int, int, int]:
    sizes = dict(zip(layout, x.shape, strict=False))
    height, width = (sizes.get("H", 0), sizes.get("W", 0)) if image_size is None else (image_size, image_size)
    return sizes["N"], sizes.get("C", 1), height, width


def _image_set(
    path: Path, arrays: dict[str, _Array], split: str, layout: str, classes: tuple[str, ...], image_size: int | None
) -> ImageSet:
    x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
    if x.ndim != len(layout):
        raise ValueError(f"{path.name}: x_{split} has shape {x.shape}, but x_train has the layout {layout}.")
    if len(x) != len(y):
        raise ValueError(f"{path.name}: x_{split} holds {len(x)} images but y_{split} {len(y)} labels.")
    images = _to_tensor(f"{path.name}: x_{split}", x, layout)
    if image_size is not None and 0 not in images.shape:
        images = resize_tensor(images, image_size)
    try:
        return ImageSet(images=images, labels=as_labels(y, f"y_{split}"), classes=classes)
    except ValueError as error:
        raise ValueError(f"{path.name}, {split} part: {error}") from error


def _to_tensor(name: str, x: _Array, layout: str) -> Tensor:
    """View as ``(N, C, H, W)``; float arrays of any precision become float32."""
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):  # an overflow becomes an infinity, which ImageSet names
            x = x.astype(np.float32, copy=False)
    elif x.dtype != np.uint8:
        raise ValueError(f"{name} must be uint8 (0..255) or float, got {x.dtype}. Convert with .astype('uint8').")
    images = torch.from_numpy(x)
    if layout == "NHW":
        return images[:, None]
    return images.permute(0, 3, 1, 2) if layout == "NHWC" else images
