"""Durable files: a reader sees the old content or the new one, never a part of either, also after a power failure."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.tmp")  # as they are made below
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def read_text(path: str | os.PathLike[str], most_bytes: int) -> str:
    """The UTF-8 text of a file. ValueError, before anything is read, for a file of more than so many bytes."""
    n_bytes = os.stat(path).st_size
    if n_bytes > most_bytes:
        raise ValueError(f"it has {n_bytes:,} bytes, at most {most_bytes:,} are read")
    return Path(path).read_text(encoding="utf-8")


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a file so that a crash or a full disk leaves the previous content intact.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and take the name in one step; then
    the folder is flushed, so that the name stays.

    Args:
        path: Where to write; its folder must exist.
        content: Text (stored as UTF-8) or bytes.

    Raises:
        OSError: When the disk is full or the folder is not writable. The message names the file and says that the
            previous content, if any, is unchanged.
    """
    target = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary: str | None = None
    try:
        name = str(target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp"))
        handle = os.open(name, _NEW, 0o666)  # less the umask: colleagues may read what they might of any file
        temporary = name
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {target} ({len(data):,} bytes): {error.strerror}. What was there before is unchanged; "
            "free some space or choose another output folder",
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
    sync_folder(target.parent)


def append_durably(path: str | os.PathLike[str], line: bytes) -> None:
    """Add to the end of a file so that the bytes are on the disk, or, when that fails, nothing of them in the file.

    Raises:
        OSError: When the disk is full or the file is not writable; what was in the file before is intact.
    """
    target = Path(path)
    existed = target.exists()
    size = target.stat().st_size if existed else 0
    done = False
    try:
        with open(target, "ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        done = True
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot add {len(line):,} bytes to {target}: {error.strerror}. The lines before are intact; free some "
            "space and continue with `gradnas resume`",
        ) from error
    finally:
        if not done and target.exists():
            with contextlib.suppress(OSError):  # of a folder that became read-only; the first error says so
                os.truncate(target, size)
    if not existed:
        sync_folder(target.parent)


def move_durably(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a finished file its place in one step, flushed to the disk before. OSError when that fails."""
    with open(source, "rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(source, target)
    sync_folder(Path(target).parent)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can do that."""
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened
    with contextlib.suppress(OSError):  # some file systems refuse it, and the file itself is safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def leftovers(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name of the file that was to be written, path) of what writers left that were killed while they wrote."""
    for path in sorted(folder.iterdir()):
        found = _TEMPORARY.fullmatch(path.name)
        if found is not None and path.is_file():
            yield found["name"], path
