"""Durable files: a reader sees the old content or the new one, never a part of either."""

import os
import tempfile
from pathlib import Path


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a file so that a crash or a full disk leaves the previous content intact.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and take the name in one step.

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
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
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


def _umask() -> int:
    # The only portable way to read the umask is to set it; mkstemp's own mode 0600 would lock colleagues out.
    current = os.umask(0)
    os.umask(current)
    return current
