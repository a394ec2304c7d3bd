"""The folder of an export: made when needed, and never at the cost of what stands there."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gradnas.export.form import Form


@contextmanager
def folder_for(target: Path) -> Iterator[Path]:
    """The folder, made where it is missing, and taken away again when nothing was put there."""
    missing = [path for path in (target, *target.parents) if not path.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        yield target
    except OSError as error:
        if error.strerror is None or error.filename is None:
            raise
        raise OSError(
            error.errno,
            f"cannot write to {target}: {error.strerror}. Choose another folder (--out, in Python folder=…)",
        ) from error
    finally:
        for path in missing:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def strangers_in(form: Form, target: Path) -> set[str]:
    """Files in the places of this export that no export wrote. FileExistsError for one in the main place."""
    present = {name: target / name for name in form.files if os.path.lexists(target / name)}
    strangers = {name for name, path in present.items() if not (path.is_file() and form.wrote(path))}
    if form.files[-1] in strangers:
        raise _in_the_way(target / form.files[-1])
    return strangers


def check_neighbors(form: Form, strangers: set[str], written: Sequence[str], place: Path, target: Path) -> None:
    """Refuse files that would be taken for a part of this export and are not: weights of another network."""
    for name in form.files:
        if name in written and name in strangers and not form.holds(target / name, place / name):
            raise _in_the_way(target / name)
        if name not in written and os.path.lexists(target / name):
            raise FileExistsError(
                f"{target / name} is there, but this export has no such file and would be taken together with it. "
                "Choose another folder; nothing was changed."
            )


def _in_the_way(path: Path) -> FileExistsError:
    return FileExistsError(
        f"{path} is there and was not written by an export of gradnas. Move it away, or choose another folder; "
        "nothing was changed."
    )
