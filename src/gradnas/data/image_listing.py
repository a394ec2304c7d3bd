"""Which image files a folder or ``.zip`` holds, sorted into ``train/CLASS`` and ``test/CLASS``; nothing is unpacked."""

import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .archive import member_name, open_archive
from .decode import SUFFIXES, ImageFile

LAYOUT = "train/CLASS/image.jpg and, if there are test images, test/CLASS/image.jpg"
_LARGEST_FILE_BYTES = 64 * 2**20
_SPLITS = ("train", "test", "val")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The image files below a root, by class. Classes and files are sorted by name.

    Attributes:
        train: Files of each class.
        test: Those of ``test``, or of ``val`` where there is no ``test``; empty where there is neither.
        packed_bytes: What the files of an archive give together at most; 0 for a folder.
        archive: To be closed when its files have been read; None for a folder.
    """

    train: Mapping[str, list[ImageFile]]
    test: Mapping[str, list[ImageFile]]
    packed_bytes: int = 0
    archive: zipfile.ZipFile | None = None

    def close(self) -> None:
        """Close the archive; its files cannot be read any more."""
        if self.archive is not None:
            self.archive.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A file or folder below the root; ``file`` is None for a folder."""

    parts: tuple[str, ...]
    file: ImageFile | None


class _FolderReader:
    """Files of a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes:
        path = self._root / name
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe never ends, nor does a device such as /dev/zero
            raise ValueError("it is no ordinary file")
        if status.st_size > _LARGEST_FILE_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes, at most {_LARGEST_FILE_BYTES:,} are read")
        return path.read_bytes()

    def mark(self, name: str) -> str:
        try:
            return str((self._root / name).stat().st_size)
        except OSError:
            return "absent"  # reading it will say so


class _ZipReader:
    """Files of an archive. ``ZipFile`` itself has a lock around the place in the file that its members share."""

    def __init__(self, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> None:
        self._archive, self._members = archive, members

    def read(self, name: str) -> bytes:
        return self._archive.read(self._members[name])

    def mark(self, name: str) -> str:
        member = self._members[name]
        return f"{member.file_size} {member.CRC:08x}"


def list_images(path: Path) -> Listing:
    """Look for the image files of a folder or ``.zip``; see :func:`gradnas.data.imagefolder.read_image_folder`.

    Args:
        path: Folder or ``.zip`` file.

    Returns:
        Its files; the caller closes it.

    Raises:
        ValueError: If the layout differs, a class folder is empty or occurs in the test images only, a file of an
            archive is too large, a link leads into a circle, or a member is none that
            :func:`gradnas.data.archive.open_archive` accepts.
    """
    if path.is_dir():
        return _listing(path, list(_folder_entries(path)))
    archive = open_archive(path)
    try:
        members = [(info, member_name(info)) for info in archive.infolist()]
        entries = _zip_entries(path, archive, members)
        return _listing(path, entries, sum(info.file_size for info, _ in members), archive)
    except BaseException:
        archive.close()
        raise


def _listing(
    path: Path, entries: list[_Entry], packed_bytes: int = 0, archive: zipfile.ZipFile | None = None
) -> Listing:
    train, test = (_by_class(path, split, entries) for split in ("train", "test"))
    test = test or _by_class(path, "val", entries)
    if not train:
        found = sorted({entry.parts[0] for entry in entries})
        raise ValueError(f"{path} holds no training images. Expected {LAYOUT}; found {found[:10] or 'nothing'}.")
    unknown = [name for name in test if name not in train]
    if unknown:
        raise ValueError(
            f"{path}: test has the class {unknown[0]!r}, which train lacks; train has {', '.join(list(train)[:20])}. "
            "Rename or remove the folder."
        )
    return Listing(train=train, test=test, packed_bytes=packed_bytes, archive=archive)


def _by_class(path: Path, split: str, entries: Iterable[_Entry]) -> dict[str, list[ImageFile]]:
    """Image files of each class folder, classes and files sorted by name."""
    files: dict[str, list[ImageFile]] = {}
    for entry in entries:
        if entry.parts[0] != split:
            continue
        is_image = entry.file is not None and PurePosixPath(entry.parts[-1]).suffix.lower() in SUFFIXES
        if is_image and len(entry.parts) == 2:
            raise ValueError(f"{path}: {'/'.join(entry.parts)} lies in no class folder. Expected {LAYOUT}.")
        if len(entry.parts) > 2 or (len(entry.parts) == 2 and entry.file is None):
            of_class = files.setdefault(entry.parts[1], [])
            if is_image and entry.file is not None:
                of_class.append(entry.file)
    for name, of_class in files.items():
        if not of_class:
            raise ValueError(
                f"{path}: the class folder {split}/{name} holds no image ({', '.join(SUFFIXES)}). Fill or remove it."
            )
    return {name: sorted(files[name], key=lambda file: file.name) for name in sorted(files)}


def _folder_entries(root: Path) -> Iterator[_Entry]:
    reader = _FolderReader(root)
    for split in sorted(os.listdir(root)):
        if not (root / split).is_dir():
            continue
        for folder, subfolders, names in os.walk(root / split, followlinks=True):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            for name in subfolders:
                _check_no_circle(root, Path(folder, name))
            parts = Path(folder).relative_to(root).parts
            yield _Entry(parts=parts, file=None)
            for name in names:
                if not name.startswith("."):
                    file = ImageFile(name="/".join((*parts, name)), reader=reader)
                    yield _Entry(parts=(*parts, name), file=file)


def _check_no_circle(root: Path, folder: Path) -> None:
    if folder.is_symlink() and Path(os.path.realpath(folder.parent)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            f"{root}: {folder.relative_to(root)} is a link to {os.path.realpath(folder)}, a folder around it, so that "
            "reading would never end. Remove the link."
        )


def _zip_entries(path: Path, archive: zipfile.ZipFile, members: list[tuple[zipfile.ZipInfo, str]]) -> list[_Entry]:
    reader = _ZipReader(archive, {name: info for info, name in members})
    entries = []
    for info, name in members:
        parts = PurePosixPath(name).parts
        if not parts or any(part.startswith(".") for part in parts) or parts[0] == "__MACOSX":
            continue
        if info.file_size > _LARGEST_FILE_BYTES:
            raise ValueError(
                f"{path}: {name} declares {info.file_size:,} bytes, at most {_LARGEST_FILE_BYTES:,} are "
                "accepted for one image. Remove it from the archive."
            )
        file = None if name.endswith("/") else ImageFile(name=name, reader=reader)
        entries.append(_Entry(parts=parts, file=file))
    inside = [entry for entry in entries if entry.file is None or len(entry.parts) > 1]
    tops = {entry.parts[0] for entry in inside}
    if len(tops) == 1 and not tops & set(_SPLITS):
        inner = [_Entry(parts=entry.parts[1:], file=entry.file) for entry in inside]
        return [entry for entry in inner if entry.parts]
    return entries
