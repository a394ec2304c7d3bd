"""A lock on a file: one process at a time. The system releases it when the process ends, however it ends."""

import contextlib
import errno
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

_TAKEN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_MOST_TEXT = 500  # bytes of a lock file that are read


class InUseError(OSError):
    """Another process, or another part of this one, holds the lock."""


@contextmanager
def locked(path: Path, what: object) -> Iterator[bool]:
    """Hold the lock on a file, which is made where it is missing and removed afterwards.

    Args:
        path: The lock file; its folder must exist.
        what: What it stands for, as messages call it.

    Yields:
        True; False, with a warning, where the file system has no locks, and nothing is held.

    Raises:
        InUseError: When it is held elsewhere, at once, naming process, machine and time. Also when this process
            holds it already.
        OSError: When the file cannot be made or locked.
    """
    process = os.getpid()
    stream = _opened(path, what)
    try:
        held = _take(stream, path, what)
        while held and not _is_at(stream, path):  # its last holder removed it after it was opened here
            stream.close()
            stream = _opened(path, what)
            held = _take(stream, path, what)
        if held:
            with contextlib.suppress(OSError):  # of a full disk: the text is for messages only
                _sign(stream)
        else:
            warnings.warn(
                f"the file system of {what} has no locks: nothing keeps a second process out. Start only one.",
                stacklevel=3,
            )
        yield held
    finally:
        ours = os.getpid() == process  # a forked child that leaves the block holds nothing of its own
        if os.name == "posix" and ours and _is_at(stream, path):  # while it is held: nobody's new one is removed
            with contextlib.suppress(OSError):
                path.unlink()
        stream.close()


def _opened(path: Path, what: object) -> BinaryIO:
    try:
        return open(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "r+b", buffering=0)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot lock {what}: {error.strerror}. A run writes into its folder: make it writable, free some space, "
            "or choose another output folder",
        ) from error


def _take(stream: BinaryIO, path: Path, what: object) -> bool:
    try:
        _lock(stream)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        said = _holder(path)
        stream.close()
        if error.errno not in _TAKEN:
            raise OSError(error.errno, f"cannot lock {what}: {error.strerror}. Choose another output folder") from error
        raise InUseError(f"{what} is in use{said}: wait for it, or stop it.") from error
    return True


def _is_at(stream: BinaryIO, path: Path) -> bool:
    """Whether the path still names the open file."""
    if stream.closed:
        return False
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    except OSError:
        return False


def _sign(stream: BinaryIO) -> None:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    stream.truncate(0)
    stream.seek(0)
    stream.write(f"by process {os.getpid()} on {platform.node()} since {since}\n".encode())


def _holder(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            text = stream.read(_MOST_TEXT).decode("utf-8", errors="replace")
    except OSError:  # on Windows a locked file cannot be read
        text = ""
    said = " ".join(text.split())
    return f" {said}" if said else " by another process"


if sys.platform == "win32":
    import msvcrt

    def _lock(stream: BinaryIO) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(stream: BinaryIO) -> None:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
