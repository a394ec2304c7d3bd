"""Zip files from strangers: every member is looked at before one is read, and nothing is ever unpacked."""

import re
import stat
import zipfile
from pathlib import Path, PurePosixPath

# What readers of a damaged or hostile zip raise, depending on where the fault lies: RuntimeError for a password,
# NotImplementedError for a feature of zip that Python does not read.
ZIP_FAULTS = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, ArithmeticError)

_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
# Deflate makes at most 1032 bytes out of one: what declares more than that lies or is a bomb.
_LARGEST_RATIO = 1032
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1
_DRIVE = re.compile(r"[A-Za-z]:")
_FETCH_AGAIN = "Copy or download the file again; if that does not help, do not trust where it came from."


def open_archive(path: Path) -> zipfile.ZipFile:
    """A zip of which no member points outside, is a link, is encrypted, overlaps another or declares the impossible.

    A member then gives at most its ``file_size`` bytes, so that the sum of these bounds what is read.

    Args:
        path: The file; it must be an ordinary one.

    Returns:
        The archive, to be closed: ``with open_archive(path) as archive``.

    Raises:
        ValueError: If it is no zip, or one of its members is of this kind. The message names the file and the member.
    """
    if not path.is_file():
        raise ValueError(f"cannot read {path}: it is no ordinary file.")
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_FAULTS as error:
        raise ValueError(f"cannot read {path}: {error}. Copy or download the file again.") from error
    try:
        check_members(archive)
    except _MemberError as error:
        archive.close()
        raise ValueError(f"cannot read {path}: {error}. {error.advice}") from error
    return archive


class _MemberError(ValueError):
    """The cause alone, and beside it what to do about it."""

    def __init__(self, cause: str, advice: str) -> None:
        super().__init__(cause)
        self.advice = advice


def member_name(member: zipfile.ZipInfo) -> str:
    """The name of a member with ``/`` between its parts, where some tools of Windows write a backslash."""
    return member.filename.replace("\\", "/")


def check_members(archive: zipfile.ZipFile) -> None:
    """Look at every member of a zip as :func:`open_archive` does. ValueError, the cause alone, for a bad one."""
    members = archive.infolist()
    seen: set[tuple[str, ...]] = set()
    for member in members:
        fault = _fault(member)
        name = member_name(member)
        parts = PurePosixPath(name).parts
        if fault is None and parts in seen and not name.endswith("/"):
            fault = "comes twice", "Pack the archive again, every file once."
        if fault is not None:
            cause, advice = fault
            raise _MemberError(f"its member {member.orig_filename!r} {cause}", advice)
        seen.add(parts)
    _check_overlap(members, archive.start_dir)


def _fault(member: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Why a member is not to be read, and what to do about it; None when it is."""
    name = member.orig_filename.replace("\\", "/")  # as it stands in the file; filename is cut at a zero byte
    kind = stat.S_IFMT(member.external_attr >> 16)
    if "\0" in name:
        return "has a zero byte in its name", "Rename the file and pack the archive again."
    if name.startswith("/") or ".." in name.split("/") or _DRIVE.match(name):
        return "points outside the archive", "Pack the archive again from inside one folder, with names relative to it."
    if kind == stat.S_IFLNK:
        advice = "Pack the archive again with the files themselves, as `zip -r` does without `-y`."
        return "is a link; links in archives are not followed", advice
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder", "Pack the archive again without it."
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted", "Pack the archive again without a password."
    if member.compress_type not in _METHODS:
        cause = f"is compressed by method {member.compress_type}, which is not read"
        return cause, f"Pack the archive again with its files {' or '.join(_METHODS.values())}."
    stored = member.compress_type == zipfile.ZIP_STORED
    if member.file_size > member.compress_size * (1 if stored else _LARGEST_RATIO):
        cause = f"declares {member.file_size:,} bytes, more than its {member.compress_size:,} packed bytes can give"
        return cause, _FETCH_AGAIN
    return None


def _check_overlap(members: list[zipfile.ZipInfo], directory_start: int) -> None:
    """Members that share packed bytes are how an archive of a few kilobytes holds terabytes."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    starts = [member.header_offset for member in ordered[1:]] + [directory_start]
    for member, following in zip(ordered, starts, strict=True):
        if member.header_offset < 0 or member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size > following:
            raise _MemberError(
                f"its member {member.orig_filename!r} overlaps what comes after it, as in archives made to exhaust the "
                "memory",
                _FETCH_AGAIN,
            )
