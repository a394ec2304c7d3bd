"""Labeled images that do not fit in memory: read and decoded batch by batch, on threads, while the last is worked on.

Threads rather than processes: PIL releases the interpreter lock while it decodes and resizes, nothing has to be
pickled or copied between processes, and there is no process to be left behind. At most two batches of decoded images
are held, ``2 * batch * channels * side**2`` bytes, and beside them one file and one decoded photograph for each thread.
Shape suffixes: N samples, B batch, H height, W width, C channels (last).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from weakref import finalize

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .decode import ImageSample, decode
from .imageset import ImageSet, check_indices, check_labels
from .options import LoadOptions
from .pixels import Wanted
from .resized_crop import RandomWindows

_BATCHES_AHEAD = 1
# Images per task: few, so that all threads work on the batch that is waited for.
_IMAGES_PER_TASK = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedSet:
    """Images that are read when a batch wants them.

    Attributes:
        samples: Where the images come from.
        labels: Shape ``(N,)``, int64, each the position of a name in ``classes``.
        classes: Names of the classes, at least two. A class may have no sample.
        channels: 1 or 3; gray images among colored ones get three equal channels.
        options: Uses ``image_size``, which must be given, ``channels``, ``workers`` and ``max_bytes``, the limit for
            one decoded image.

    Raises:
        ValueError: If there is no sample or a single class, a label lies outside the classes, or there is no image
            size.
    """

    samples: Sequence[ImageSample]
    labels: Tensor
    classes: tuple[str, ...]
    channels: int
    options: LoadOptions

    def __post_init__(self) -> None:
        """Check labels and size."""
        if len(self.samples) == 0:
            raise ValueError("a streamed set must hold at least one image.")
        if self.options.image_size is None:
            raise ValueError("images that are read batch by batch must be brought to one size. Pass image_size=.")
        check_labels(self.labels, len(self.samples), self.classes)

    def __len__(self) -> int:
        """Number of samples ``N``."""
        return len(self.samples)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image, the last two in pixels."""
        return self.channels, self._side, self._side

    @property
    def dtype(self) -> torch.dtype:
        """Of the pixels: uint8."""
        return torch.uint8

    @property
    def streamed(self) -> bool:
        """True."""
        return True

    @property
    def _side(self) -> int:
        side = self.options.image_size
        assert side is not None, "checked when the set was made"
        return side

    def subset(self, indices: Tensor) -> "StreamedSet":
        """The samples at the given positions, with the same classes.

        Args:
            indices: Shape ``(M,)``, int64, each in ``0..N-1``; order and repetitions are kept.

        Raises:
            ValueError: If there is no index, one lies outside the set, or the shape or dtype differs.
        """
        check_indices(indices, len(self))
        return StreamedSet(
            samples=tuple(self.samples[index] for index in indices.tolist()),
            labels=self.labels[indices.to(self.labels.device)],
            classes=self.classes,
            channels=self.channels,
            options=self.options,
        )

    def pixels(self, device: torch.device) -> "StreamedPixels":
        """The pixels for batches on a device."""
        return StreamedPixels(self, device)

    def loaded(self) -> ImageSet:
        """All samples, read into memory; meant for a small :meth:`subset`."""
        everything = Wanted(key=(0, 0), start=0, stop=len(self), positions=None, windows=None)
        images_NHWC = self.pixels(torch.device("cpu")).gather(everything, iter(()))
        return ImageSet(images=images_NHWC.permute(0, 3, 1, 2), labels=self.labels, classes=self.classes)

    def read(self, index: int, window: RandomWindows | None = None) -> npt.NDArray[np.uint8]:
        """One image.

        Args:
            index: Its position.
            window: That is cut out of the whole photograph; None takes the square in the center.

        Returns:
            Shape ``(H, W, C)``, or ``(H, W, 1)`` for a gray image, uint8.

        Raises:
            ValueError: If it cannot be read, or is colored where all were gray when the set was made. It is named.
        """
        sample = self.samples[index]
        image_HWC = decode(sample, self.options, window=window)
        if image_HWC.shape[2] > self.channels:
            raise ValueError(
                f"the image {sample.name} is colored now, and was gray when the set was made. Put that one back, "
                "or set channels to 3 or 1."
            )
        return image_HWC


class StreamedPixels:
    """Decodes the images of a batch on threads, and those of the next one before they are asked for.

    What is decoded depends on the batch alone, not on what was asked for before, nor on the number of threads. Threads
    end with this object; one that is dropped in the middle, as by an exception, takes back what has not begun.
    """

    def __init__(self, images: StreamedSet, device: torch.device) -> None:
        """Prepare; threads start when the first batch is wanted."""
        self._images, self._device = images, device
        self._pool: ThreadPoolExecutor | None = None
        self._begun: dict[tuple[int, int], tuple[Tensor, list[Future[None]]]] = {}

    def gather(self, wanted: Wanted, following: Iterator[Wanted]) -> Tensor:
        """A batch of decoded images, see :class:`Pixels`. ValueError for an image that cannot be read."""
        ahead = list(islice(following, _BATCHES_AHEAD))
        self._take_back_all_but({wanted.key, *(batch.key for batch in ahead)})
        for batch in (wanted, *ahead):
            if batch.key not in self._begun:
                self._begun[batch.key] = self._begin(batch)
        x_BHWC, tasks = self._begun.pop(wanted.key)
        try:
            for task in tasks:
                task.result()
        except BaseException:
            _cancel(tasks)
            self._take_back_all_but(set())
            raise
        return x_BHWC.to(self._device, non_blocking=True)

    def identity(self) -> Iterator[bytes | memoryview]:
        """Shape, and names, sizes and checksums of the files: reading all of them would take too long."""
        yield f"streamed {(len(self._images), *self._images.shape)}".encode()
        for sample in self._images.samples:
            yield f"{sample.identity}\n".encode(errors="surrogateescape")

    def _begin(self, wanted: Wanted) -> tuple[Tensor, list[Future[None]]]:
        positions = wanted.numbers()
        channels, height, width = self._images.shape
        x_BHWC = torch.empty(
            len(positions), height, width, channels, dtype=torch.uint8, pin_memory=self._device.type == "cuda"
        )
        pool, images, array_BHWC = self._threads(), self._images, x_BHWC.numpy()

        def decode_some(start: int) -> None:
            for place in range(start, min(start + _IMAGES_PER_TASK, len(positions))):
                window = None if wanted.windows is None else wanted.windows.of(place, place + 1)
                array_BHWC[place] = images.read(positions[place], window)  # one channel is repeated by broadcasting

        return x_BHWC, [pool.submit(decode_some, start) for start in range(0, len(positions), _IMAGES_PER_TASK)]

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._images.options.threads, "gradnas-decode")
            finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        return self._pool

    def _take_back_all_but(self, kept: set[tuple[int, int]]) -> None:
        for key in self._begun.keys() - kept:
            _cancel(self._begun.pop(key)[1])


def _cancel(tasks: Sequence[Future[None]]) -> None:
    for task in tasks:
        task.cancel()
