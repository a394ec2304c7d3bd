"""Tests of ``src/gradnas/foundation/files.py``."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gradnas.foundation.files import append_durably, leftovers, move_durably, read_text, write_atomic


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
    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    write_atomic(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "open", refused)
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


def test_the_umask_of_the_process_is_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(mask: int) -> int:
        raise AssertionError("another thread would write with that")

    monkeypatch.setattr(os, "umask", changed)
    write_atomic(tmp_path / "a.txt", "x")


class Disk:
    """Tells in which order files and folders were flushed and renamed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        fsync, replace = os.fsync, os.replace

        def flushed(handle: int) -> None:
            self.done.append("flush folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "flush file")
            fsync(handle)

        def renamed(source: str, target: str) -> None:
            self.done.append("rename")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", flushed)
        monkeypatch.setattr(os, "replace", renamed)


posix = pytest.mark.skipif(os.name != "posix", reason="a folder cannot be opened")


@posix
def test_content_is_flushed_before_the_name_and_the_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    write_atomic(tmp_path / "a.txt", "x")
    assert disk.done == ["flush file", "rename", "flush folder"]


@posix
def test_moved_file_is_flushed_before_its_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")
    disk = Disk(monkeypatch)
    move_durably(tmp_path / "a", tmp_path / "b")
    assert disk.done == ["flush file", "rename", "flush folder"]
    assert (tmp_path / "b").read_text() == "x"


@posix
def test_folder_that_cannot_be_flushed_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refused(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refused)
    write_atomic(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


@posix
def test_every_line_is_flushed_and_a_new_file_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    append_durably(tmp_path / "log", b"one\n")
    append_durably(tmp_path / "log", b"two\n")
    assert disk.done == ["flush file", "flush folder", "flush file"]
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("before", [b"", b"one\n"])
def test_a_line_that_cannot_be_flushed_is_cut_off_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    (tmp_path / "log").write_bytes(before)
    fill_the_disk(monkeypatch)
    with pytest.raises(OSError, match=r"cannot add 4 bytes to .*log: No space left.* intact.*gradnas resume") as caught:
        append_durably(tmp_path / "log", b"two\n")
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "log").read_bytes() == before


def test_an_interrupted_line_is_cut_off_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "log").write_bytes(b"one\n")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        append_durably(tmp_path / "log", b"two\n")
    assert (tmp_path / "log").read_bytes() == b"one\n"


def test_what_a_killed_writer_left_is_found_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from gradnas.foundation.files import write_atomic; "
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL); write_atomic(sys.argv[1], 'new')"
    )
    write_atomic(tmp_path / "a.b.json", "old")
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.b.json"], check=False)
    for name in (".a.tmp", "a.tmp", ".hidden", ".a.txt.TOOLONG123.tmp"):
        (tmp_path / name).write_text("precious")
    assert (tmp_path / "a.b.json").read_text() == "old"
    found = list(leftovers(tmp_path))
    assert [name for name, _ in found] == ["a.b.json"]
    assert found[0][1].read_text() == "new"


def test_a_text_above_the_limit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("äöü", encoding="utf-8")
    assert read_text(tmp_path / "text", 6) == "äöü"
    monkeypatch.setattr(Path, "read_text", None)
    with pytest.raises(ValueError, match="it has 6 bytes, at most 5 are read"):
        read_text(tmp_path / "text", 5)
