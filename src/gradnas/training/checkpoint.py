"""A checkpoint: a mapping bound to a file, saved in one step, read without executing anything."""

import io
import os
import pickle
import struct
import warnings
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import torch

from gradnas.foundation.files import write_atomic

FORMAT_VERSION = 1

# What torch.load raises for a damaged file, depending on where the damage lies.
_DAMAGE = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(ArithmeticError, MemoryError, struct.error, pickle.UnpicklingError),
)


class CheckPoint(MutableMapping[str, Any]):
    """Tensors, numbers, strings, lists and dicts under names.

    The file before the last commit is kept beside it as ``<name>.previous``; if the newest cannot be read, the previous
    one is used and a warning says so.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._content: dict[str, Any] = {}

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

    @property
    def previous_path(self) -> Path:
        """Where the file before the last commit is kept."""
        return self.path.with_name(self.path.name + ".previous")

    def is_empty(self) -> bool:
        """True when nothing is stored."""
        return not self._content

    def new(self) -> None:
        """Start empty; an existing file is kept as the previous one."""
        self._content = {}
        if self.path.exists():
            os.replace(self.path, self.previous_path)

    def commit(self) -> None:
        """Save.

        Raises:
            OSError: When the file cannot be written, e.g. for a full disk; the last good file is intact.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save({"format_version": FORMAT_VERSION, "content": self._content}, buffer)
        fresh = self.path.with_name(self.path.name + ".new")
        write_atomic(fresh, buffer.getvalue())
        if self.path.exists():
            os.replace(self.path, self.previous_path)
        os.replace(fresh, self.path)

    def load_existing(self) -> bool:
        """Read the newest readable file; False when there is none.

        Raises:
            ValueError: When files exist but none can be read, or they are of a newer version.
        """
        candidates = [path for path in (self.path, self.previous_path) if path.exists()]
        problems = []
        for path in candidates:
            try:
                self._content = _read(path)
            except _DAMAGE as error:
                problems.append(f"{path}: {_cause(error)}")
                continue
            if problems:
                warnings.warn(f"unreadable checkpoint, used {path} instead: {problems[0]}", stacklevel=2)
            return True
        if problems:
            raise ValueError("no readable checkpoint: " + "; ".join(problems))
        return False


def _read(path: Path) -> dict[str, Any]:
    document = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(document, dict) or document.get("format_version") != FORMAT_VERSION:
        found = document.get("format_version") if isinstance(document, dict) else None
        raise ValueError(f"checkpoint of format {found!r}, this gradnas reads {FORMAT_VERSION}")
    content = document["content"]
    if not isinstance(content, dict):
        raise ValueError("a checkpoint holds a mapping")
    return content


def _cause(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # torch's own text recommends to execute what the file says
        return "damaged, or it holds more than tensors, numbers, strings, lists and dicts"
    return f"{type(error).__name__}: {error}"


def create_checkpoint(path: str | os.PathLike[str] | None, resume: bool) -> CheckPoint | None:
    """A checkpoint on a file, or None for no path.

    With ``resume`` an existing file is loaded; otherwise the checkpoint starts empty and an existing file is kept as
    the previous one.
    """
    if path is None:
        return None
    checkpoint = CheckPoint(path)
    if not (resume and checkpoint.load_existing()):
        checkpoint.new()
    return checkpoint


def checkpoint_empty(checkpoint: CheckPoint | None) -> bool:
    """True for None or no content."""
    return checkpoint is None or checkpoint.is_empty()


def first_unknown_epoch(checkpoint: CheckPoint | None) -> int:
    """The first epoch of which a trainer's checkpoint has no record: logs are cut back to it before a run goes on.

    The record of the test comes after the last epoch and counts as one more.
    """
    if checkpoint is None or checkpoint.is_empty():
        return 0
    return 1 + max((int(record["epoch"]) for record in checkpoint["metrics"]), default=-1)
