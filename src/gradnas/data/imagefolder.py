"""Image files sorted into ``train/CLASS`` and ``test/CLASS``, in a folder or a ``.zip`` that is never unpacked."""

import os
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import torch

from .archive import member_name, open_archive
from .decode import SUFFIXES, ImageFile, decode_all
from .imageset import ImageSet
from .memory import check_memory
from .stack import ImageStack

_LARGEST_FILE_BYTES = 64 * 2**20
_LAYOUT = "train/CLASS/image.jpg and, if there are test images, test/CLASS/image.jpg"


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A file or folder below the root; ``read`` is None for a folder."""

    parts: tuple[str, ...]
    n_bytes: int
    file: ImageFile | None


def read_image_folder(path: Path, image_size: int | None, max_bytes: int) -> tuple[ImageSet, ImageSet | None]:
    """Read all images of a folder or ``.zip`` in ImageFolder layout.

    Hidden files and files with other endings than png, jpg, jpeg, jfif, bmp, webp and ppm are passed over. Images are
    RGB unless all are gray; of an animated one the first frame is taken, and an orientation in its EXIF data is not
    applied. Links in a folder are followed, links in a ``.zip`` refused. Inside a ``.zip``, one folder around ``train``
    and ``test`` is allowed, and files beside it are passed over.

    Args:
        path: Folder or ``.zip`` file.
        image_size: Side in pixels to resize to, or None if all images have one size.
        max_bytes: Limit for the decoded images, train and test together, and for the files of a ``.zip``.

    Returns:
        Training and test images (None without a ``test`` folder). The classes are the sorted folder names.

    Raises:
        ValueError: If the layout differs, a class folder is empty or occurs in ``test`` only, sizes differ and no
            ``image_size`` is given, an image cannot be read, a file or the total is too large, a link leads into a
            circle, or a member of a ``.zip`` is none that :func:`gradnas.data.archive.open_archive` accepts.
    """
    with _entries(path, max_bytes) as entries:
        by_split = {split: _by_class(path, split, entries) for split in ("train", "test")}
        if not by_split["train"]:
            found = sorted({entry.parts[0] for entry in entries})
            raise ValueError(f"{path} holds no training images. Expected {_LAYOUT}; found {found[:10] or 'nothing'}.")
        classes = tuple(by_split["train"])
        unknown = [name for name in by_split["test"] if name not in classes]
        if unknown:
            raise ValueError(
                f"{path}: test has the class {unknown[0]!r}, which train lacks; train has {', '.join(classes[:20])}. "
                "Rename or remove the folder."
            )
        listed = [
            (file, split, classes.index(name))
            for split in by_split
            for name in by_split[split]
            for file in by_split[split][name]
        ]
        stack = ImageStack(len(listed), max_bytes=max_bytes, promote_gray=True)
        files = [file for file, _, _ in listed]
        for file, image in zip(files, decode_all(files, image_size, max_bytes), strict=True):
            stack.add(image, file.name)
    images, labels = stack.tensor(), torch.tensor([label for _, _, label in listed])
    n_train = sum(split == "train" for _, split, _ in listed)
    train = ImageSet(images=images[:n_train], labels=labels[:n_train], classes=classes)
    if n_train == len(listed):
        return train, None
    return train, ImageSet(images=images[n_train:], labels=labels[n_train:], classes=classes)


def _by_class(path: Path, split: str, entries: Iterable[_Entry]) -> dict[str, list[ImageFile]]:
    """Image files of each class folder, classes and files sorted by name."""
    files: dict[str, list[ImageFile]] = {}
    for entry in entries:
        if entry.parts[0] != split:
            continue
        is_image = entry.file is not None and PurePosixPath(entry.parts[-1]).suffix.lower() in SUFFIXES
        if is_image and len(entry.parts) == 2:
            raise ValueError(f"{path}: {'/'.join(entry.parts)} lies in no class folder. Expected {_LAYOUT}.")
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


@contextmanager
def _entries(path: Path, max_bytes: int) -> Iterator[list[_Entry]]:
    """Everything below the root that is not hidden; the files can be read while the context is open."""
    if path.is_dir():
        yield list(_folder_entries(path))
        return
    with open_archive(path) as archive:
        yield _zip_entries(path, archive, max_bytes)


def _folder_entries(root: Path) -> Iterator[_Entry]:
    for split in sorted(os.listdir(root)):
        if not (root / split).is_dir():
            continue
        for folder, subfolders, names in os.walk(root / split, followlinks=True):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            for name in subfolders:
                _check_no_circle(root, Path(folder, name))
            parts = Path(folder).relative_to(root).parts
            yield _Entry(parts=parts, n_bytes=0, file=None)
            for name in names:
                if not name.startswith("."):
                    file = ImageFile(name="/".join((*parts, name)), read=partial(_read_file, Path(folder, name)))
                    yield _Entry(parts=(*parts, name), n_bytes=0, file=file)


def _check_no_circle(root: Path, folder: Path) -> None:
    if folder.is_symlink() and Path(os.path.realpath(folder.parent)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            f"{root}: {folder.relative_to(root)} is a link to {os.path.realpath(folder)}, a folder around it, so that "
            "reading would never end. Remove the link."
        )


def _read_file(path: Path) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe never ends, nor does a device such as /dev/zero
        raise ValueError("it is no ordinary file")
    if status.st_size > _LARGEST_FILE_BYTES:
        raise ValueError(f"it has {status.st_size:,} bytes, at most {_LARGEST_FILE_BYTES:,} are read")
    return path.read_bytes()


def _zip_entries(path: Path, archive: zipfile.ZipFile, max_bytes: int) -> list[_Entry]:
    entries = []
    for info in archive.infolist():
        name = member_name(info)
        parts = PurePosixPath(name).parts
        if not parts or any(part.startswith(".") for part in parts) or parts[0] == "__MACOSX":
            continue
        if info.file_size > _LARGEST_FILE_BYTES:
            raise ValueError(
                f"{path}: {name} declares {info.file_size:,} bytes, at most {_LARGEST_FILE_BYTES:,} are "
                "accepted for one image. Remove it from the archive."
            )
        file = None if name.endswith("/") else ImageFile(name=name, read=partial(archive.read, info))
        entries.append(_Entry(parts=parts, n_bytes=info.file_size, file=file))
    # A member never gives more than its declared size, so the declared total bounds what is read.
    check_memory(f"the files in {path.name}", sum(entry.n_bytes for entry in entries), max_bytes)
    inside = [entry for entry in entries if entry.file is None or len(entry.parts) > 1]
    tops = {entry.parts[0] for entry in inside}
    if len(tops) == 1 and not tops & {"train", "test"}:
        inner = [_Entry(parts=entry.parts[1:], n_bytes=entry.n_bytes, file=entry.file) for entry in inside]
        return [entry for entry in inner if entry.parts]
    return entries
