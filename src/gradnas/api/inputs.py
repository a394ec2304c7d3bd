"""What the functions of the library take: data in many forms, and settings by name."""

import os
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from typing import Any

from gradnas.config import layered
from gradnas.data import DataSource, ImageSet, LabeledImages, MapStyle, StreamedSet, from_dataset, load_data
from gradnas.data.image_samples import measured_normalization
from gradnas.data.source import default_augmentation
from gradnas.foundation.names import did_you_mean
from gradnas.pipeline import dataset_conf
from gradnas.spaces import ModelDescBuilder

Data = str | os.PathLike[str] | ImageSet | StreamedSet | DataSource | MapStyle
"""Labeled images: a name, a path, what :func:`gradnas.data.load_data` gives or a part of it, a map-style dataset."""

_ANY_PHASE = "search"  # parts of configurations are merged below the name of a phase


def changed_settings(kind: type[Any], default: Any, changes: dict[str, Any]) -> Any:
    """Settings with changes by name.

    Args:
        kind: Of the settings.
        default: What is not changed.
        changes: New values. Of settings among the settings, as the optimizer, a mapping changes those it names, like a
            part of a configuration file: another schedule does not keep what belongs to that of the default.

    Raises:
        TypeError: For an unknown setting, naming the nearest, and for what is no settings where such belong.
        ValueError: For a value that cannot be.
    """
    _check_names(changes, kind, "")
    changes = {name: _changed(name, getattr(default, name), value) for name, value in changes.items()}
    return replace(default, **changes)


def _changed(name: str, default: Any, change: object) -> Any:
    """The new value of a setting."""
    kind = type(default)
    if not is_dataclass(kind) or isinstance(change, kind):
        return change
    if not isinstance(change, Mapping):
        raise TypeError(
            f"{name} must be a gradnas.config.{kind.__name__}, or a mapping with some of its settings, got {change!r}."
        )
    _check_names(change, kind, f"{name}.")
    merged = layered({_ANY_PHASE: {name: asdict(default)}}, {_ANY_PHASE: {name: change}})
    return kind(**merged[_ANY_PHASE][name])


def _check_names(changes: Mapping[str, Any], kind: type[Any], place: str) -> None:
    known = list(kind.__dataclass_fields__)
    for name in changes:
        if name not in known:
            raise TypeError(f"unknown setting {f'{place}{name}'!r}. {did_you_mean(str(name), known)}")


def source_name(dataset: Data) -> str | None:
    """What a configuration can name; None for an object."""
    return os.fspath(dataset) if isinstance(dataset, (str, os.PathLike)) else None


def as_source(dataset: Data) -> DataSource:
    """A data set of any form; what is no whole source is its training set."""
    if isinstance(dataset, DataSource):
        return dataset
    if isinstance(dataset, (str, os.PathLike)):
        return load_data(dataset)
    images: LabeledImages = dataset if isinstance(dataset, (ImageSet, StreamedSet)) else from_dataset(dataset)
    return DataSource(
        name=type(dataset).__name__,
        train=images,
        test=None,
        augmentation=default_augmentation(images),
        normalization=measured_normalization(images),
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
