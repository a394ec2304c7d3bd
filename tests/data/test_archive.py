"""Tests of ``src/gradnas/data/archive.py``."""

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gradnas.data.archive import member_name, open_archive


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Write a zip of ``(name, content)`` pairs; the infos can be changed before."""

    def write(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, **attributes: object) -> Path:
        path = tmp_path / "some.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members:
                info = zipfile.ZipInfo("x", (1980, 1, 1, 0, 0, 0))
                info.filename, info.compress_type = name, method
                for attribute, value in attributes.items():
                    setattr(info, attribute, value)
                archive.writestr(info, content)
        return path

    return write


def directory_entry(data: bytes, n: int = 0) -> int:
    at = -1
    for _ in range(n + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    return at


def patched(path: Path, field: int, form: str, value: int, n: int = 0) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, directory_entry(data, n) + field, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_plain_archive_is_read(pack, method: int) -> None:
    with open_archive(pack(("a/", b""), ("a/1", b"one" * 500), ("a/2", b""), method=method)) as archive:
        assert {name: archive.read(name) for name in ("a/1", "a/2")} == {"a/1": b"one" * 500, "a/2": b""}


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../up",
        "a/../../up",
        "a/..",
        "C:/windows",
        "c:x",
        "C:\\x",
        "a\\..\\..\\b",
        "..\\up",
        "\\\\host\\x",
    ],
)
def test_names_that_point_outside_are_refused(pack, name: str) -> None:
    with (
        pytest.raises(
            ValueError, match=r"some.zip: its member '.*' points outside the archive. Pack .* relative to it"
        ),
        open_archive(pack(("a/1", b"1"), (name, b"x"))),
    ):
        pass


@pytest.mark.parametrize("name", ["a..b/1", "..a", "ab:c"])
def test_names_that_only_look_like_it_are_read(pack, name: str) -> None:
    with open_archive(pack((name, b"x"))) as archive:
        assert archive.read(name) == b"x"


def test_backslashes_stand_between_folders(pack) -> None:
    with open_archive(pack(("a\\", b""), ("a\\b\\1", b"x"))) as archive:
        assert [member_name(member) for member in archive.infolist()] == ["a/", "a/b/1"]
        assert archive.read(archive.infolist()[1]) == b"x"
    with pytest.raises(ValueError, match="comes twice"), open_archive(pack(("a/1", b"1"), ("a\\1", b"2"))):
        pass


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (0o120777, "'a/1' is a link; links in archives are not followed. Pack .* with the files themselves"),
        (0o010644, "'a/1' is neither a file nor a folder. Pack the archive again without it"),
    ],
)
def test_links_and_devices_are_refused(pack, mode: int, message: str) -> None:
    with pytest.raises(ValueError, match=message), open_archive(pack(("a/1", b"/etc"), external_attr=mode << 16)):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(pack, method: int) -> None:
    with (
        pytest.raises(
            ValueError, match=rf"'a' is compressed by method {method}, which is not read. Pack .* stored or deflated"
        ),
        open_archive(pack(("a", b"1" * 99), method=method)),
    ):
        pass


def test_an_encrypted_member_is_refused(pack) -> None:
    path = patched(pack(("a", b"1")), 8, "<H", 1)
    with pytest.raises(ValueError, match=r"'a' is encrypted\. Pack .* without a pass"), open_archive(path):
        pass


def test_a_name_that_comes_twice_is_refused(pack) -> None:
    with (
        pytest.raises(ValueError, match=r"'a//1' comes twice\. Pack the archive again, every file once"),
        open_archive(pack(("a/1", b"1"), ("a//1", b"2"))),
    ):
        pass


@pytest.mark.parametrize(("method", "declared"), [(zipfile.ZIP_STORED, 101), (zipfile.ZIP_DEFLATED, 10**6)])
def test_a_member_that_declares_the_impossible_is_refused(pack, method: int, declared: int) -> None:
    path = patched(pack(("a", b"1" * 100), method=method), 24, "<I", declared)
    with pytest.raises(ValueError, match=rf"'a' declares {declared:,} bytes, more than.* download"), open_archive(path):
        pass


def test_a_member_that_holds_more_than_it_declares_gives_no_more(pack) -> None:
    path = patched(pack(("a", b"1" * 5000), method=zipfile.ZIP_DEFLATED), 24, "<I", 10)
    with open_archive(path) as archive, pytest.raises(zipfile.BadZipFile, match="CRC"):
        archive.read("a")


def test_members_that_share_their_bytes_are_refused(pack) -> None:
    path = pack(("a", b"1" * 100), ("b", b"1" * 100))
    path = patched(path, 42, "<I", 0, n=1)
    with pytest.raises(ValueError, match=r"(overlaps what comes after it|cannot read)"), open_archive(path):
        pass


@pytest.mark.parametrize("content", [b"", b"PK no archive", b"PK\x05\x06" + bytes(10)])
def test_what_is_no_zip_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "some.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*some\.zip: "), open_archive(tmp_path / "some.zip"):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "some.zip")
    with pytest.raises(ValueError, match="it is no ordinary file"), open_archive(tmp_path / "some.zip"):
        pass
