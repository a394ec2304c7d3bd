"""Tests of ``src/gradnas/data/npy.py``: against numpy's own writer, and against what it would never write."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gradnas.data.npy import read_header, read_values

VALUES = np.arange(24).reshape(2, 3, 4)


def read(content: bytes, tmp_path: Path, method: int = zipfile.ZIP_DEFLATED) -> np.ndarray:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("a.npy", content)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        member = archive.getinfo("a.npy")
        return read_values(archive, member, read_header(archive, member))


def written(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=version)
    return buffer.getvalue()


def with_header(text: str, data: bytes, version: int = 1) -> bytes:
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes((version, 0)) + size + text.encode() + data


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "array",
    [
        *(VALUES.astype(kind) for kind in ("u1", "<i8", ">i4", "<f2", ">f8", "?", "c8")),
        *(np.asfortranarray(VALUES), np.array(["a", "bc"]), np.array([b"a"]), np.array(3), np.zeros((0, 5))),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_what_numpy_writes_is_read_equal(array: np.ndarray, version: tuple[int, int], tmp_path: Path) -> None:
    found = read(written(array, version), tmp_path)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.flags.writeable


HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_header(HEADER.replace("3", "10**12"), b"abc"), "its header cannot be read"),
        (with_header(HEADER.replace("3", "1000000000000"), b"abc"), "1,000,000,000,000 bytes, but 3 follow"),
        (with_header(HEADER, b"ab"), "3 bytes, but 2 follow"),
        (with_header(HEADER, b"abcd"), "3 bytes, but 4 follow"),
        (with_header(HEADER.replace("3", "-3"), b"abc"), "no tuple of sizes"),
        (with_header(HEADER.replace("3", "True"), b"a"), "no tuple of sizes"),
        (with_header(HEADER.replace("(3,)", "[3]"), b"abc"), "no tuple of sizes"),
        (with_header(HEADER.replace("(3,)", f"({2**40}, {2**40}, 0)"), b""), "larger than any array"),
        (with_header(HEADER.replace("False", "1"), b"abc"), "fortran_order is neither"),
        (with_header(HEADER.replace("|u1", "|O"), b"abc"), "Python objects, which are not loaded"),
        (with_header(HEADER.replace("'|u1'", "[('a', '|u1')]"), b"abc"), "neither plain numbers nor text"),
        (with_header(HEADER.replace("|u1", "|V1"), b"abc"), "neither plain numbers nor text"),
        (with_header(HEADER.replace("|u1", "<U0"), b""), "neither plain numbers nor text"),
        (with_header(HEADER.replace("'shape'", "'form'"), b"abc"), "does not name descr"),
        (with_header("__import__('os').getcwd()", b""), "its header cannot be read"),
        (with_header("(" * 5000, b""), "its header cannot be read"),
        (with_header(" " * 70_000, b"", version=2), "its header has 70,000 bytes"),
        (with_header(HEADER, b"abc", version=4), "no .npy array of version 1, 2 or 3"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "ends within its header"),
        (b"nothing like it", "no .npy array"),
        (b"", "ends within its header"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(content, tmp_path)


def test_damaged_values_are_found_by_the_checksum_of_the_member(tmp_path: Path) -> None:
    content = written(np.arange(100_000, dtype=np.uint32))  # longer than what zipfile reads ahead
    read(content, tmp_path, zipfile.ZIP_STORED)
    path = tmp_path / "a.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("a.npy")
        header = read_header(archive, member)
        with pytest.raises(zipfile.BadZipFile, match="CRC"):
            read_values(archive, member, header)
