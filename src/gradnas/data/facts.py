"""What is known of a data set without its images."""

import os
from dataclasses import dataclass

import torch

from gradnas.arch import DatasetConf

from .named_sets import NAMED_SETS, set_name
from .options import LoadOptions
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
        streamed: Whether images are read batch by batch and are not kept in memory.
    """

    shape: tuple[int, int, int]
    n_classes: int
    n_train: int
    n_test: int | None
    n_val: int | None = None
    dtype: torch.dtype = torch.uint8
    streamed: bool = False

    @staticmethod
    def of(source: DataSource) -> "DataFacts":
        """Those of a loaded set."""
        return DataFacts(
            shape=source.train.shape,
            n_classes=source.train.n_classes,
            n_train=len(source.train),
            n_test=None if source.test is None else len(source.test),
            dtype=source.train.dtype,
            streamed=source.train.streamed,
        )

    @property
    def network(self) -> DatasetConf:
        """What a network must know of the set."""
        channels, height, width = self.shape
        return DatasetConf(channels=channels, image_size=(height, width), n_classes=self.n_classes)

    def bytes_of(self, n: int) -> int:
        """Bytes that n images with their labels take in memory; of streamed ones the labels alone."""
        channels, height, width = self.shape
        pixels = 0 if self.streamed else channels * height * width
        return n * (pixels * self.dtype.itemsize + torch.int64.itemsize)


def published_facts(
    source: str | os.PathLike[str], image_size: int | None = None, options: LoadOptions | None = None
) -> DataFacts | None:
    """The sizes of a named set, which need not be on this machine; None for a path.

    Args:
        source: As :func:`gradnas.data.load_data` takes it.
        image_size: Side in pixels to which images are brought; None is the set's own.
        options: How the set would be read: its channels, and whether it would be streamed. An image size in it has no
            effect here.
    """
    name = set_name(source)
    if name is None:
        return None
    known, options = NAMED_SETS[name], options or LoadOptions()
    side = image_size or known.side or known.image_size
    channels = options.channels or known.channels
    needed = (known.n_train + known.n_test) * channels * side * side
    by_need = options.stream == "auto" and needed > options.max_bytes
    return DataFacts(
        shape=(channels, side, side),
        n_classes=known.n_classes,
        n_train=known.n_train,
        n_test=known.n_test,
        streamed=known.layout is None and (options.stream == "always" or by_need),
    )
