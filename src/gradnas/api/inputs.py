"""What the functions of the library take: data in many forms, and settings by name."""

import os
from dataclasses import replace
from typing import Any

from gradnas.data import (
    DataSource,
    ImageSet,
    LabeledImages,
    MapStyle,
    Normalization,
    StreamedSet,
    from_dataset,
    load_data,
)
from gradnas.data.source import default_augmentation
from gradnas.foundation.names import did_you_mean
from gradnas.pipeline import dataset_conf
from gradnas.spaces import ModelDescBuilder

Data = str | os.PathLike[str] | ImageSet | DataSource | MapStyle
"""Images with labels: a name or path, what :func:`gradnas.data.load_data` gives, or a map-style dataset."""


def changed_settings(kind: type[Any], default: Any, changes: dict[str, Any]) -> Any:
    """Settings with changes by name. TypeError for an unknown one, naming the nearest."""
    known = list(kind.__dataclass_fields__)
    for name in changes:
        if name not in known:
            raise TypeError(f"unknown setting {name!r}. {did_you_mean(name, known)}")
    return replace(default, **changes)


def source_name(dataset: Data) -> str | None:
    """What a configuration can name; None for an object."""
    return os.fspath(dataset) if isinstance(dataset, (str, os.PathLike)) else None


def as_source(dataset: Data) -> DataSource:
    """A data set of any form; what is no whole source is its training set."""
    if isinstance(dataset, DataSource):
        return dataset
    if isinstance(dataset, (str, os.PathLike)):
        return load_data(dataset)
    images = dataset if isinstance(dataset, ImageSet) else from_dataset(dataset)
    return DataSource(
        name=type(dataset).__name__,
        train=images,
        test=None,
        augmentation=default_augmentation(images),
        normalization=Normalization.of(images),
    )


def as_images(dataset: Data, like: LabeledImages) -> LabeledImages:
    """Held-out images of any form. ValueError where they are not like the training images."""
    images: LabeledImages
    if isinstance(dataset, (ImageSet, StreamedSet)):
        images = dataset
    elif isinstance(dataset, (DataSource, str, os.PathLike)):
        images = as_source(dataset).train
    else:
        images = from_dataset(dataset, classes=like.classes)
    if (images.shape, images.dtype, images.classes) != (like.shape, like.dtype, like.classes):
        raise ValueError(
            f"the held-out images are {images.shape} {images.dtype} with the classes "
            f"{list(images.classes)[:10]}, the training images {like.shape} {like.dtype} with "
            f"{list(like.classes)[:10]}. "
            "Both must have one size, one type and the same classes in one order."
        )
    return images


def check_fits(space: ModelDescBuilder, data: DataSource) -> None:
    """ValueError where a space is for other images than the data has."""
    ours, theirs = space.settings.dataset, dataset_conf(data)
    if ours != theirs:
        raise ValueError(
            f"the space is for {ours.channels} channels, {ours.image_size[0]}×{ours.image_size[1]} pixels and "
            f"{ours.n_classes} classes, the data has {theirs.channels}, {theirs.image_size[0]}×{theirs.image_size[1]} "
            f"and {theirs.n_classes}. Build the space with in_channels={theirs.channels}, "
            f"image_size={theirs.image_size}, n_classes={theirs.n_classes}."
        )
