"""Tests of ``src/gradnas/foundation/files.py``."""

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from gradnas.foundation.files import write_atomic


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)


def test_text_is_stored_as_utf8(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "3×3 → ü\n")
    assert (tmp_path / "a.txt").read_bytes() == "3×3 → ü\n".encode()


def test_bytes_are_stored_as_they_are(tmp_path: Path) -> None:
    write_atomic(str(tmp_path / "a.bin"), b"\x00\r\n\xff")
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\r\n\xff"


def test_previous_content_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "a long first version")
    write_atomic(tmp_path / "a.txt", "second")
    assert (tmp_path / "a.txt").read_text() == "second"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_full_disk_leaves_the_previous_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "a.txt", "old")
    fill_the_disk(monkeypatch)
    with pytest.raises(OSError, match=r"cannot write .*a\.txt \(3 bytes\): No space left.*unchanged") as caught:
        write_atomic(tmp_path / "a.txt", "new")
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "a.txt").read_text() == "old"


def test_full_disk_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_the_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == []


def test_interruption_while_writing_leaves_the_previous_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(handle: int) -> None:
        raise KeyboardInterrupt

    write_atomic(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write to any folder")
def test_locked_folder_is_reported_with_the_file_name(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match=r"cannot write .*a\.txt"):
            write_atomic(tmp_path / "a.txt", "new")
    finally:
        tmp_path.chmod(0o700)


def test_unwritable_folder_is_reported_with_the_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkstemp(**_: object) -> tuple[int, str]:
        raise PermissionError(errno.EACCES, "Permission denied")

    write_atomic(tmp_path / "a.txt", "old")
    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    with pytest.raises(PermissionError, match=r"cannot write .*a\.txt .*Permission denied.*another output folder"):
        write_atomic(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"


def test_missing_folder_is_reported_with_the_file_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot write .*missing.a\.txt"):
        write_atomic(tmp_path / "missing" / "a.txt", "new")


def test_folder_in_place_of_the_file_is_refused_and_left_clean(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match=r"cannot write .*a\.txt"):
        write_atomic(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="there is no umask")
def test_file_gets_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a.txt", "x")
        after = os.umask(0o027)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert after == 0o027
