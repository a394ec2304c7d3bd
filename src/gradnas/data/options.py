"""How the images of a source are read."""

import os
from dataclasses import dataclass
from typing import Literal

from gradnas.foundation.names import did_you_mean

from .memory import ADVICE
from .resize import check_image_size

MAX_BYTES = 4 * 2**30
STREAMING = ("auto", "always", "never")
_MOST_WORKERS = 16


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How the images of a source are read.

    Args:
        image_size: Side in pixels to which images are brought; None keeps theirs.
        channels: 1 makes gray images, 3 colored ones; None keeps theirs.
        max_bytes: Limit for the images in memory, train and test together.
        stream: Whether image files are read batch by batch: ``auto`` where they exceed ``max_bytes`` and there is an
            image size, ``always`` or ``never``.
        workers: Threads that decode image files; None is one for each processor, at most 16.
        skip_unreadable: Leave out image files that cannot be read instead of raising.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If a number is too small, or a name or number of channels unknown.
    """

    image_size: int | None = None
    channels: int | None = None
    max_bytes: int = MAX_BYTES
    stream: Literal["auto", "always", "never"] = "auto"
    workers: int | None = None
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        """Check types and ranges."""
        check_image_size(self.image_size)
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 (gray), 3 (RGB) or None (as they are), got {self.channels!r}.")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {self.max_bytes}.")
        if self.stream not in STREAMING:
            raise ValueError(f"unknown stream {self.stream!r}. {did_you_mean(str(self.stream), STREAMING)}")
        if self.workers is not None and (not isinstance(self.workers, int) or isinstance(self.workers, bool)):
            raise TypeError(f"workers is a number of threads and must be an int or None, got {self.workers!r}.")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is a number of threads and must be at least 1, got {self.workers}.")
        if not isinstance(self.skip_unreadable, bool):
            raise TypeError(f"skip_unreadable must be True or False, got {self.skip_unreadable!r}.")

    @property
    def advice(self) -> str:
        """What to do about image files that exceed ``max_bytes``."""
        if self.stream == "never":
            return f"{ADVICE} Without stream='never' they would be read batch by batch."
        return (
            "Pass image_size=: files that then still do not fit are read batch by batch. Or raise max_bytes "
            "(data.max_memory) if the machine has the memory."
        )

    @property
    def threads(self) -> int:
        """How many threads decode."""
        return self.workers or min(_MOST_WORKERS, os.cpu_count() or 1)
