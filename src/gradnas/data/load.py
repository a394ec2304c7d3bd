"""From a name or a path to a loaded data set."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from gradnas.foundation.names import did_you_mean

from .channels import recolored
from .digits import load_digits
from .image_samples import measured_normalization
from .imagefolder import read_image_folder
from .labeled_images import LabeledImages
from .named_sets import NAMED_SETS, NamedSet, set_name
from .npz import read_npz
from .options import MAX_BYTES, LoadOptions
from .source import DataSource, default_augmentation
from .torchvision_sets import default_root, load_torchvision

_FORMS = "a folder or .zip with train/CLASS/image.jpg, or an .npz with x_train and y_train"


def dataset_names() -> list[str]:
    """Names that :func:`load_data` knows: ``digits``, which is always there, and the others of the table."""
    return ["digits", *sorted(NAMED_SETS.keys() - {"digits"})]


def load_data(
    source: str | os.PathLike[str],
    *,
    image_size: int | None = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    max_bytes: int = MAX_BYTES,
    channels: int | None = None,
    stream: Literal["auto", "always", "never"] = "auto",
    workers: int | None = None,
    skip_unreadable: bool = False,
) -> DataSource:
    """Load a data set into memory, or prepare to stream its image files.

    Args:
        source: A name of :func:`dataset_names`, in any case, or the path of a folder, ``.zip`` or ``.npz``. A name
            wins over a path; write ``./mnist`` for a folder of that name.
        image_size: Side in pixels; images are resized (shorter side) and cropped to the center square. None keeps
            them as they are, which then must all have one size; named sets of photographs have a size of their own.
        root: Folder of the downloads of the named sets, by default in the user's cache folder. Paths do not use it.
        download: Whether a named set may be downloaded. Paths do not use it.
        max_bytes: Limit for the images in memory, train and test together.
        channels: 1 makes gray images of colored ones, 3 colored ones of gray ones; None keeps theirs.
        stream: ``auto`` reads the files of a folder, ``.zip`` or named set batch by batch where they exceed
            ``max_bytes`` and there is an image size; ``always`` in any case; ``never`` refuses such sets.
        workers: Threads that decode image files; None is one for each processor, at most 16.
        skip_unreadable: Leave out image files that cannot be read, with a warning that names the first of them. For
            a streamed set every file is read once for it.

    Returns:
        Training and test images, the default augmentation, and the normalization: published constants of a named set
        that has them and keeps its channels, otherwise measured on the training images, of streamed ones on 2,048.

    Raises:
        FileNotFoundError: If there is no such file, or a named set is absent and may not be downloaded.
        ConnectionError: If a download fails.
        ImportError: If a package that the source needs is not installed.
        ValueError: If the name is unknown, the file is not in the expected form, or the images are too large. The
            messages name the file, key or sample and what to do.
    """
    options = LoadOptions(
        image_size=image_size,
        channels=channels,
        max_bytes=max_bytes,
        stream=stream,
        workers=workers,
        skip_unreadable=skip_unreadable,
    )
    return load_with(source, options, root=root, download=download)


def load_with(
    source: str | os.PathLike[str],
    options: LoadOptions,
    *,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> DataSource:
    """:func:`load_data` with its options in one."""
    name = set_name(source)
    if name is not None:
        return _load_named(name, NAMED_SETS[name], options, root, download)
    return _load_path(source, options)


def _load_named(
    name: str, known: NamedSet, options: LoadOptions, root: str | os.PathLike[str] | None, download: bool
) -> DataSource:
    options = replace(options, image_size=known.size(options.image_size))
    if known.layout is not None:
        _check_not_streamed(name, options)
    train: LabeledImages
    test: LabeledImages | None
    if known.origin == "scikit-learn":
        train, test = recolored(*load_digits(options), options)
    elif known.origin == "folder":
        train, test = read_image_folder(_own_folder(name, known, root), options)
    else:
        train, test = load_torchvision(name, options, root, download)
    return DataSource(
        name=name,
        train=train,
        test=test,
        augmentation=known.augmentation(train.shape[1]),
        normalization=known.published(train.shape[0]) or measured_normalization(train),
    )


def _own_folder(name: str, known: NamedSet, root: str | os.PathLike[str] | None) -> Path:
    folder = default_root() if root is None else Path(root).expanduser()
    for candidate in (folder, folder / name):
        if (candidate / "train").is_dir():
            return candidate
    raise FileNotFoundError(
        f"the data set {name!r} is not in {folder}, nor in a folder {name} in it. {known.by_hand} Then pass the folder "
        "that holds train/ and val/ as root=."
    )


def _load_path(source: str | os.PathLike[str], options: LoadOptions) -> DataSource:
    path = Path(source).expanduser()
    if not path.exists():
        raise _missing(source, path)
    train: LabeledImages
    test: LabeledImages | None
    if path.suffix.lower() == ".npz" and path.is_file():
        _check_not_streamed(path.name, options)
        train, test = recolored(*read_npz(path, options.image_size, options.max_bytes), options)
    elif path.is_dir() or path.suffix.lower() == ".zip":
        train, test = read_image_folder(path, options)
    else:
        raise ValueError(f"{path} is no known form of a data set. Expected {_FORMS}.")
    return DataSource(
        name=path.stem if path.is_file() else path.resolve().name,
        train=train,
        test=test,
        augmentation=default_augmentation(train),
        normalization=measured_normalization(train),
    )


def _check_not_streamed(name: str, options: LoadOptions) -> None:
    if options.stream == "always":
        raise ValueError(
            f"{name} is one array, which lies in memory: stream='always' needs image files. Leave it out, or give a "
            "folder or .zip of images."
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
