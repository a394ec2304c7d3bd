"""Named data sets that torchvision downloads."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .channels import recolored
from .image_samples import LabeledSamples, read_samples
from .imageset import ImageSet
from .labeled_images import LabeledImages
from .labels import as_labels, numbered_classes
from .mapstyle import MapStyle
from .memory import check_memory
from .named_sets import NAMED_SETS, NamedSet
from .optional import optional_import
from .options import LoadOptions
from .resize import resize_tensor

if TYPE_CHECKING:
    from PIL.Image import Image

_LOCAL_COPY = (
    "Or give a local copy instead of the name: an .npz with x_train, y_train, x_test, y_test, or a folder or "
    ".zip with train/CLASS/ and test/CLASS/."
)


def load_torchvision(
    name: str, options: LoadOptions, root: str | os.PathLike[str] | None, download: bool
) -> tuple[LabeledImages, LabeledImages | None]:
    """Load a set of torchvision, downloading it if that is allowed and needed.

    Args:
        name: Key of :data:`gradnas.data.named_sets.NAMED_SETS`.
        options: How to read; ``image_size`` must be given for photographs of different sizes.
        root: Folder of the downloads, or None for ``gradnas/datasets`` in the user's cache folder.
        download: Whether the network may be used.

    Returns:
        Training and test images.

    Raises:
        ImportError: If torchvision, or a package it needs for this set, is not installed.
        FileNotFoundError: If the set is not under ``root`` and may not or cannot be downloaded.
        ConnectionError: If the download fails.
        ValueError: If the images exceed the limit and cannot be streamed.
    """
    known = NAMED_SETS[name]
    folder = Path(root).expanduser() if root is not None else default_root()
    train_part, test_part = (_open(name, known, part, folder, download) for part in known.parts)
    classes = tuple(str(value) for value in getattr(train_part, "classes", ()))
    if known.layout is None:
        train_samples, test_samples = (_samples(name, part, known) for part in (train_part, test_part))
        classes = classes or numbered_classes(torch.tensor(train_samples.labels), name)
        return read_samples(name, train_samples, test_samples, classes, options)
    train = _from_array(train_part, known, classes, options.image_size, options.max_bytes)
    remaining = options.max_bytes - train.images.numel()
    test = _from_array(test_part, known, train.classes, options.image_size, remaining)
    return recolored(train, test, options)


def default_root() -> Path:
    """Folder of the downloads: ``gradnas/datasets`` below ``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gradnas" / "datasets"


@dataclass(frozen=True, slots=True)
class _DatasetSample:
    """A sample of a set of torchvision, which opens a file of its own at each call."""

    dataset: MapStyle
    index: int
    name: str

    @property
    def identity(self) -> str:
        """Name of the set and position."""
        return self.name

    def open(self) -> "Image":
        """The image."""
        from PIL import Image

        image = self.dataset[self.index][0]  # type: ignore[index]  # (image, label), as torchvision's sets are
        if not isinstance(image, Image.Image):
            raise TypeError(f"it is a {type(image).__name__}, a PIL image was expected")
        return image


def _open(name: str, known: NamedSet, part: Mapping[str, object], folder: Path, download: bool) -> MapStyle:
    datasets = optional_import("torchvision.datasets", package="torchvision", needed_for=f"the data set {name!r}")
    constructor = getattr(datasets, known.class_name)
    arguments = ", ".join(f"{key}={value!r}" for key, value in part.items())
    tried = f"torchvision.datasets.{known.class_name}(root={str(folder)!r}, {arguments})"
    try:
        # Without the network first: a set that is there needs none.
        present: MapStyle = constructor(root=folder, download=False, **part)
        return present
    except (OSError, RuntimeError) as error:
        if known.by_hand or not download:
            advice = known.by_hand or "Allow download=True, or"
            others = "Then pass" if known.by_hand else "pass"
            raise FileNotFoundError(
                f"the data set {name!r} is not in {folder}: {tried} failed with {error!r}. {advice} "
                f"{others} the folder that holds it as root=. {_LOCAL_COPY}"
            ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        downloaded: MapStyle = constructor(root=folder, download=True, **part)
        return downloaded
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"the data set {name!r} could not be downloaded to {folder}: {tried} failed with {error!r}. Check the "
            f"network and the free space, or pass the folder that holds it as root=. {_LOCAL_COPY}"
        ) from error


def _samples(name: str, dataset: MapStyle, known: NamedSet) -> LabeledSamples:
    n_samples = len(dataset)
    entries = getattr(dataset, known.labels, None)
    if not isinstance(entries, Sequence):  # of another release of torchvision: read every sample for it
        entries = [dataset[index] for index in range(n_samples)]
    labels = [entry[-1] if isinstance(entry, tuple | list) else entry for entry in entries]
    samples = [_DatasetSample(dataset, index, f"sample {index} of {name}") for index in range(n_samples)]
    return LabeledSamples(samples=samples, labels=as_labels(labels, f"the labels of {name}").tolist())


def _from_array(
    dataset: MapStyle, known: NamedSet, classes: tuple[str, ...], image_size: int | None, max_bytes: int
) -> ImageSet:
    assert known.layout is not None
    images = _as_NCHW(torch.as_tensor(getattr(dataset, "data")), known.layout)  # noqa: B009 - typed by __getitem__
    labels = as_labels(getattr(dataset, known.labels), known.labels)
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
