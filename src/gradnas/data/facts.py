"""What is known of a data set without its images."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from gradnas.arch import DatasetConf

from .source import DataSource


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """Sizes of a data set.

    Attributes:
        shape: Channels, height and width of an image.
        n_classes: Classes.
        n_train: Training images.
        n_test: Test images; None where there are none.
        n_val: Validation images of a set of their own; None where validation is split off.
        dtype: Of the stored pixels.
    """

    shape: tuple[int, int, int]
    n_classes: int
    n_train: int
    n_test: int | None
    n_val: int | None = None
    dtype: torch.dtype = torch.uint8

    @staticmethod
    def of(source: DataSource) -> "DataFacts":
        """Those of a loaded set."""
        return DataFacts(
            shape=source.train.shape,
            n_classes=source.train.n_classes,
            n_train=len(source.train),
            n_test=None if source.test is None else len(source.test),
            dtype=source.train.images.dtype,
        )

    @property
    def network(self) -> DatasetConf:
        """What a network must know of the set."""
        channels, height, width = self.shape
        return DatasetConf(channels=channels, image_size=(height, width), n_classes=self.n_classes)

    def bytes_of(self, n: int) -> int:
        """Bytes of n images with their labels."""
        channels, height, width = self.shape
        return n * (channels * height * width * self.dtype.itemsize + torch.int64.itemsize)


# Channels, side in pixels (None: photographs of different sizes), classes, training and test images, as published.
_PUBLISHED: Mapping[str, tuple[int, int | None, int, int, int]] = {
    "cifar10": (3, 32, 10, 50_000, 10_000),
    "cifar100": (3, 32, 100, 50_000, 10_000),
    "country211": (3, None, 211, 31_650, 21_100),
    "digits": (1, 8, 10, 1_437, 360),
    "dtd": (3, None, 47, 1_880, 1_880),
    "fashion-mnist": (1, 28, 10, 60_000, 10_000),
    "fgvc-aircraft": (3, None, 100, 6_667, 3_333),
    "flowers102": (3, None, 102, 1_020, 6_149),
    "food101": (3, None, 101, 75_750, 25_250),
    "gtsrb": (3, None, 43, 26_640, 12_630),
    "kmnist": (1, 28, 10, 60_000, 10_000),
    "mnist": (1, 28, 10, 60_000, 10_000),
    "oxford-iiit-pet": (3, None, 37, 3_680, 3_669),
    "rendered-sst2": (3, None, 2, 6_920, 1_821),
    "stl10": (3, 96, 10, 5_000, 8_000),
    "svhn": (3, 32, 10, 73_257, 26_032),
    "usps": (1, 16, 10, 7_291, 2_007),
}


def published_facts(source: str | os.PathLike[str], image_size: int | None = None) -> DataFacts | None:
    """The sizes of a named set, which need not be on this machine; None for a path.

    Args:
        source: As :func:`gradnas.data.load_data` takes it.
        image_size: Side in pixels to which images are brought, or None.

    Raises:
        ValueError: If ``image_size`` is missing where it is needed.
    """
    name = source.lower().replace("_", "-") if isinstance(source, str) else ""
    if name not in _PUBLISHED:
        return None
    channels, own_side, n_classes, n_train, n_test = _PUBLISHED[name]
    side = image_size or own_side
    if side is None:
        raise ValueError(f"{name!r} holds photographs of different sizes. Set data.image_size, e.g. to 64.")
    return DataFacts(shape=(channels, side, side), n_classes=n_classes, n_train=n_train, n_test=n_test)
