"""Named data sets that torchvision downloads."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .augmentation import Augmentation
from .imageset import ImageSet
from .labels import as_labels
from .mapstyle import MapStyle, from_dataset
from .memory import check_memory
from .normalization import Normalization
from .optional import optional_import
from .resize import resize_tensor
from .source import DataSource

_TRAIN_FLAG: tuple[Mapping[str, object], Mapping[str, object]] = ({"train": True}, {"train": False})
_SPLIT: tuple[Mapping[str, object], Mapping[str, object]] = ({"split": "train"}, {"split": "test"})
_TRAINVAL: tuple[Mapping[str, object], Mapping[str, object]] = ({"split": "trainval"}, {"split": "test"})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to load one set.

    Attributes:
        class_name: Class in ``torchvision.datasets``.
        parts: Keyword arguments of the training and of the test part.
        layout: Layout of its array of all images, ``"NHWC"``, ``"NCHW"`` or ``"NHW"``; None if it holds photographs
            of different sizes, which are decoded one by one.
        labels: Attribute with the labels that go with the array.
        padding_share: Default crop padding as a share of the height.
        flip: Whether mirrored images are good training images.
    """

    class_name: str
    parts: tuple[Mapping[str, object], Mapping[str, object]] = field(default_factory=lambda: _SPLIT)
    layout: str | None = None
    labels: str = "targets"
    padding_share: float = 1 / 8
    flip: bool = True


def _glyphs(class_name: str, padding_share: float = 1 / 14) -> Recipe:
    return Recipe(class_name=class_name, parts=_TRAIN_FLAG, layout="NHW", padding_share=padding_share, flip=False)


RECIPES: Mapping[str, Recipe] = {
    "cifar10": Recipe(class_name="CIFAR10", parts=_TRAIN_FLAG, layout="NHWC"),
    "cifar100": Recipe(class_name="CIFAR100", parts=_TRAIN_FLAG, layout="NHWC"),
    "country211": Recipe(class_name="Country211"),
    "dtd": Recipe(class_name="DTD"),
    "fashion-mnist": _glyphs("FashionMNIST"),
    "fgvc-aircraft": Recipe(class_name="FGVCAircraft", parts=_TRAINVAL),
    "flowers102": Recipe(class_name="Flowers102"),
    "food101": Recipe(class_name="Food101"),
    "gtsrb": Recipe(class_name="GTSRB", flip=False),
    "kmnist": _glyphs("KMNIST"),
    "mnist": _glyphs("MNIST"),
    "oxford-iiit-pet": Recipe(class_name="OxfordIIITPet", parts=_TRAINVAL),
    "rendered-sst2": Recipe(class_name="RenderedSST2", flip=False),
    "stl10": Recipe(class_name="STL10", layout="NCHW", labels="labels"),
    "svhn": Recipe(class_name="SVHN", layout="NCHW", labels="labels", padding_share=1 / 16, flip=False),
    "usps": _glyphs("USPS", padding_share=1 / 16),
}


def load_torchvision(
    name: str, image_size: int | None, root: str | os.PathLike[str] | None, download: bool, max_bytes: int
) -> DataSource:
    """Load a set of :data:`RECIPES`, downloading it if that is allowed and needed.

    Args:
        name: Key of :data:`RECIPES`.
        image_size: Side in pixels to resize to, or None; needed for photographs of different sizes.
        root: Folder of the downloads, or None for ``gradnas/datasets`` in the user's cache folder.
        download: Whether the network may be used.
        max_bytes: Limit for the images in memory, train and test together.

    Returns:
        The source, named ``name``.

    Raises:
        ImportError: If torchvision, or a package it needs for this set, is not installed.
        FileNotFoundError: If the set is not under ``root`` and may not be downloaded.
        ConnectionError: If the download fails.
        ValueError: If ``image_size`` is missing where it is needed, or the images exceed ``max_bytes``.
    """
    recipe = RECIPES[name]
    if recipe.layout is None and image_size is None:
        raise ValueError(f"{name!r} holds photographs of different sizes. Pass image_size=, e.g. image_size=64.")
    folder = Path(root).expanduser() if root is not None else default_root()
    train_part, test_part = (_open(name, recipe, part, folder, download) for part in recipe.parts)
    classes = tuple(str(value) for value in getattr(train_part, "classes", ()))
    train = _read(train_part, recipe, classes, image_size, max_bytes)
    remaining = max_bytes - train.images.numel()
    test = _read(test_part, recipe, train.classes, image_size, remaining)
    padding = round(train.shape[1] * recipe.padding_share)
    return DataSource(
        name=name,
        train=train,
        test=test,
        augmentation=Augmentation(crop_padding=padding, flip=recipe.flip),
        normalization=Normalization.of(train),
    )


def default_root() -> Path:
    """Folder of the downloads: ``gradnas/datasets`` below ``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gradnas" / "datasets"


def _open(name: str, recipe: Recipe, part: Mapping[str, object], folder: Path, download: bool) -> MapStyle:
    datasets = optional_import("torchvision.datasets", package="torchvision", needed_for=f"the data set {name!r}")
    constructor = getattr(datasets, recipe.class_name)
    arguments = ", ".join(f"{key}={value!r}" for key, value in part.items())
    tried = f"torchvision.datasets.{recipe.class_name}(root={str(folder)!r}, {arguments})"
    advice = (
        "Or give a local copy instead of the name: an .npz with x_train, y_train, x_test, y_test, or a folder or "
        ".zip with train/CLASS/ and test/CLASS/."
    )
    try:
        # Without the network first: a set that is there needs none.
        present: MapStyle = constructor(root=folder, download=False, **part)
        return present
    except (OSError, RuntimeError) as error:
        if not download:
            raise FileNotFoundError(
                f"the data set {name!r} is not in {folder}: {tried} failed with {error!r}. Allow download=True, or "
                f"pass the folder that holds it as root=. {advice}"
            ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        downloaded: MapStyle = constructor(root=folder, download=True, **part)
        return downloaded
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"the data set {name!r} could not be downloaded to {folder}: {tried} failed with {error!r}. Check the "
            f"network and the free space, or pass the folder that holds it as root=. {advice}"
        ) from error


def _read(
    dataset: MapStyle, recipe: Recipe, classes: tuple[str, ...], image_size: int | None, max_bytes: int
) -> ImageSet:
    if recipe.layout is None:
        return from_dataset(dataset, classes=classes or None, image_size=image_size, max_bytes=max_bytes)
    images = _as_NCHW(torch.as_tensor(getattr(dataset, "data")), recipe.layout)  # noqa: B009 - typed by __getitem__
    labels = as_labels(getattr(dataset, recipe.labels), recipe.labels)
    n_samples, channels, height, width = images.shape
    height, width = (height, width) if image_size is None else (image_size, image_size)
    n_bytes = n_samples * channels * height * width
    check_memory(f"{n_samples} images of {channels}x{height}x{width}", n_bytes, max_bytes)
    names = classes or tuple(str(number) for number in range(int(labels.max()) + 1))
    if image_size is not None:
        images = resize_tensor(images, image_size)
    return ImageSet(images=images, labels=labels, classes=names)


def _as_NCHW(images: Tensor, layout: str) -> Tensor:
    if layout == "NHW":
        return images[:, None]
    return images.permute(0, 3, 1, 2) if layout == "NHWC" else images
