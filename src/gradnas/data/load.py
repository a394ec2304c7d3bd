"""From a name or a path to a loaded data set."""

import os
from pathlib import Path

from gradnas.foundation.names import did_you_mean

from .digits import load_digits
from .imagefolder import read_image_folder
from .normalization import Normalization
from .npz import read_npz
from .resize import check_image_size
from .source import DataSource, default_augmentation
from .torchvision_sets import RECIPES, load_torchvision

_FORMS = "a folder or .zip with train/CLASS/image.jpg, or an .npz with x_train and y_train"


def dataset_names() -> list[str]:
    """Names that :func:`load_data` knows: ``digits``, which is always there, and the sets of torchvision."""
    return ["digits", *sorted(RECIPES)]


def load_data(
    source: str | os.PathLike[str],
    *,
    image_size: int | None = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    max_bytes: int = 4 * 2**30,
) -> DataSource:
    """Load a data set into memory.

    Args:
        source: A name of :func:`dataset_names`, in any case, or the path of a folder, ``.zip`` or ``.npz``. A name
            wins over a path; write ``./mnist`` for a folder of that name.
        image_size: Side in pixels; images are resized (shorter side) and cropped to the center square. None keeps
            them as they are, which then must all have one size.
        root: Folder of the downloads of the named sets, by default in the user's cache folder. Paths do not use it.
        download: Whether a named set may be downloaded. Paths do not use it.
        max_bytes: Limit for the images in memory, train and test together.

    Returns:
        Training and test images, the default augmentation, and the normalization measured on the training images.

    Raises:
        FileNotFoundError: If there is no such file, or a named set is absent and may not be downloaded.
        ConnectionError: If a download fails.
        ImportError: If a package that the source needs is not installed.
        ValueError: If the name is unknown, the file is not in the expected form, or the images are too large. The
            messages name the file, key or sample and what to do.
    """
    check_image_size(image_size)
    if max_bytes < 1:
        raise ValueError(f"max_bytes must be at least 1, got {max_bytes}.")
    text = os.fspath(source)
    name = text.lower().replace("_", "-")
    if isinstance(source, str) and name in dataset_names():
        if name == "digits":
            return load_digits(image_size, max_bytes)
        return load_torchvision(name, image_size, root, download, max_bytes)
    return _load_path(source, image_size, max_bytes)


def _load_path(source: str | os.PathLike[str], image_size: int | None, max_bytes: int) -> DataSource:
    path = Path(source).expanduser()
    if not path.exists():
        raise _missing(source, path)
    if path.suffix.lower() == ".npz" and path.is_file():
        train, test = read_npz(path, image_size, max_bytes)
    elif path.is_dir() or path.suffix.lower() == ".zip":
        train, test = read_image_folder(path, image_size, max_bytes)
    else:
        raise ValueError(f"{path} is no known form of a data set. Expected {_FORMS}.")
    return DataSource(
        name=path.stem if path.is_file() else path.resolve().name,
        train=train,
        test=test,
        augmentation=default_augmentation(train),
        normalization=Normalization.of(train),
    )


def _missing(source: str | os.PathLike[str], path: Path) -> Exception:
    looks_like_path = not isinstance(source, str) or len(path.parts) > 1 or path.suffix or path.is_absolute()
    if looks_like_path:
        nearby = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        hint = (
            did_you_mean(path.name, nearby[:20]) if nearby else f"The folder {path.parent} does not exist or is empty."
        )
        return FileNotFoundError(f"no data set at {path}. {hint} Or a name: {', '.join(dataset_names())}.")
    return ValueError(
        f"unknown data set {str(source)!r}, and no file of that name. {did_you_mean(str(source), dataset_names())} "
        f"Or the path of {_FORMS}."
    )
