"""A checkpoint: a mapping bound to a file, saved in one step, checked when read, read without executing anything.

A file is one line of text, ``gradnas checkpoint <format> <checksum> <bytes>``, and what ``torch.save`` made of the
mapping. The checksum covers the latter: torch does not verify what it reads.
"""

import io
import os
import pickle
import re
import struct
import warnings
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import torch

from gradnas.foundation.checksums import checksum
from gradnas.foundation.files import sync_folder, write_atomic
from gradnas.training.stored_tensors import check_stored_tensors

FORMAT_VERSION = 2

_HEADER = re.compile(rb"gradnas checkpoint (\d{1,9}) ([0-9a-f]{1,128}) (\d{1,18})\n")

# What torch.load raises for content that it cannot read, although the checksum is right.
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(ArithmeticError, MemoryError, struct.error, pickle.UnpicklingError),
)


class CheckPoint(MutableMapping[str, Any]):
    """Tensors, numbers, strings, lists and dicts under names.

    The files before the last commits are kept beside it as ``<name>.previous``, ``<name>.previous2``, …; if the newest
    is damaged, the one before is used and a warning names it.

    Args:
        path: The newest file.
        keep: How many files are kept, the newest among them; older ones are removed.
    """

    def __init__(self, path: str | os.PathLike[str], *, keep: int = 2) -> None:
        self.path, self.keep = Path(path), keep
        self._content: dict[str, Any] = {}
        self._damaged: list[Path] = []

    def __getitem__(self, name: str) -> Any:
        return self._content[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._content[name] = value

    def __delitem__(self, name: str) -> None:
        del self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def files(self) -> list[Path]:
        """The files that exist, newest first; damaged ones are among them."""
        older = sorted(
            (int(match[1] or 1), path)
            for path in self.path.parent.glob(f"{self.path.name}.previous*")
            if (match := re.fullmatch(r"\.previous(\d*)", path.name.removeprefix(self.path.name)))
        )
        return [path for path in (self.path, *(path for _, path in older)) if path.exists()]

    def _before(self, commits: int) -> Path:
        """Where the file so many commits before the last one is kept."""
        return self.path.with_name(f"{self.path.name}.previous{commits if commits > 1 else ''}")

    def is_empty(self) -> bool:
        """True when nothing is stored."""
        return not self._content

    def new(self) -> None:
        """Start empty; existing files are kept as those before."""
        self._content = {}
        self._make_room(max(2, self.keep))

    def commit(self) -> None:
        """Save.

        Raises:
            OSError: When the file cannot be written, e.g. for a full disk; the last good file is intact.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(self._content, buffer)
        payload = buffer.getbuffer()
        header = f"gradnas checkpoint {FORMAT_VERSION} {checksum(payload)} {len(payload)}\n"
        fresh = self.path.with_name(self.path.name + ".new")
        write_atomic(fresh, b"".join((header.encode(), payload)))
        self._make_room(self.keep)
        os.replace(fresh, self.path)
        for path in self.files()[self.keep :]:
            path.unlink()
        sync_folder(self.path.parent)

    def _make_room(self, keep: int) -> None:
        """Move the files on by one place: at every moment the newest good one is there, under one name or another."""
        for path in self._damaged:  # it must not push a good file out
            os.replace(path, path.with_name(path.name + ".damaged"))
        self._damaged = []
        places = [self.path, *(self._before(commits) for commits in range(1, keep))]
        taken = next((i for i, path in enumerate(places) if not path.exists()), keep - 1)
        for i in range(taken, 0, -1):
            os.replace(places[i - 1], places[i])

    def load_existing(self) -> bool:
        """Read the newest readable file; False when there is none.

        Raises:
            ValueError: When files exist but none can be read, or they are of another version.
        """
        problems, self._damaged = [], []
        for path in self.files():
            try:
                self._content = read_checkpoint(path)
            except ValueError as error:
                problems.append(f"{path}: {error}")
                self._damaged.append(path)
                continue
            if problems:
                warnings.warn(f"damaged checkpoint, used {path} instead: {'; '.join(problems)}", stacklevel=2)
            return True
        if problems:
            self._damaged = []
            raise ValueError(
                f"no readable checkpoint: {'; '.join(problems)}. Put back a copy of one of these files, or remove them "
                "to begin this phase again."
            )
        return False


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU; nothing in it is executed.

    Raises:
        ValueError: When the file is damaged, of another format, or holds other things than a checkpoint.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    header = _HEADER.match(data)
    if header is None:
        raise ValueError("it does not begin as a checkpoint of this gradnas does")
    if int(header[1]) != FORMAT_VERSION:
        raise ValueError(f"it is a checkpoint of format {int(header[1])}, this gradnas reads {FORMAT_VERSION}")
    payload = memoryview(data)[header.end() :]
    if len(payload) != int(header[3]):
        raise ValueError(f"it is damaged: {int(header[3]):,} bytes were written, {len(payload):,} are there")
    if checksum(payload) != header[2].decode():
        raise ValueError("it is damaged: its checksum differs from the one it was written with")
    stream = io.BytesIO(payload)
    check_stored_tensors(stream)
    try:
        content = torch.load(stream, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ValueError(_cause(error)) from error
    if not isinstance(content, dict):
        raise ValueError(f"a checkpoint holds a mapping, not {type(content).__name__}")
    return content


def _cause(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # torch's own text recommends to execute what the file says
        return "it holds more than tensors, numbers, strings, lists and dicts"
    return f"{type(error).__name__}: {error}"


def create_checkpoint(path: str | os.PathLike[str] | None, resume: bool, *, keep: int = 2) -> CheckPoint | None:
    """A checkpoint on a file, or None for no path.

    With ``resume`` an existing file is loaded; otherwise the checkpoint starts empty and an existing file is kept as
    the previous one. ``keep`` files are kept in all.
    """
    if path is None:
        return None
    checkpoint = CheckPoint(path, keep=keep)
    if not (resume and checkpoint.load_existing()):
        checkpoint.new()
    return checkpoint


def checkpoint_empty(checkpoint: CheckPoint | None) -> bool:
    """True for None or no content."""
    return checkpoint is None or checkpoint.is_empty()
