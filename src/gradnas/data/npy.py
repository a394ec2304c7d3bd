"""The ``.npy`` format: headers that are believed only as far as the bytes behind them go.

Source: the specification in ``numpy.lib.format``, versions 1.0, 2.0 and 3.0. Unlike numpy's reader this one compares
the shape with the size of the member before anything of that shape is made, and knows no Python objects at all.
"""

import ast
import re
import struct
import zipfile
from dataclasses import dataclass
from math import prod
from typing import IO

import numpy as np
import numpy.typing as npt

_MAGIC = b"\x93NUMPY"
_LENGTH = {1: "<H", 2: "<I", 3: "<I"}
_LARGEST_HEADER_BYTES = 2**16  # numpy writes less than 200 for arrays of numbers
_MOST_DIMENSIONS = 32
_CHUNK_BYTES = 2**22
# Numbers, truth values, times and text of a given width; no records, no objects, no types without bytes.
_PLAIN_DTYPE = re.compile(r"[<>|=]?(?:[biufcSUmM][1-9]\d{0,7}|\?)(?:\[[^\]]*\])?")


class NotPlainError(ValueError):
    """An array of Python objects or of anything else than numbers and text."""


@dataclass(frozen=True, kw_only=True)
class NpyHeader:
    """What a member says of its array.

    Attributes:
        dtype: Plain numbers or text, in either byte order.
        shape: Sizes, none negative.
        fortran_order: Whether the first index runs fastest.
        offset: Bytes before the values.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    fortran_order: bool
    offset: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return prod(self.shape) * self.dtype.itemsize


def read_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NpyHeader:
    """Read what stands before the values, and check that these can be there.

    Raises:
        NotPlainError: If its values are neither numbers nor text.
        ValueError: If it is no array, or its shape does not fit the size of the member.
    """
    with archive.open(member) as stream:
        magic = _exactly(stream, 8)
        version = magic[6]
        if magic[:6] != _MAGIC or version not in _LENGTH:
            raise ValueError("it is no .npy array of version 1, 2 or 3")
        form = _LENGTH[version]
        (length,) = struct.unpack(form, _exactly(stream, struct.calcsize(form)))
        if length > _LARGEST_HEADER_BYTES:
            raise ValueError(f"its header has {length:,} bytes, at most {_LARGEST_HEADER_BYTES:,} are read")
        text = _exactly(stream, length).decode("utf-8" if version == 3 else "latin-1")
    header = _parsed(text, 8 + struct.calcsize(form) + length)
    held = member.file_size - header.offset
    if header.n_bytes != held:
        raise ValueError(
            f"its header says {header.dtype} of shape {header.shape}, {header.n_bytes:,} bytes, but {held:,} follow"
        )
    return header


def read_values(archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: NpyHeader) -> npt.NDArray[np.generic]:
    """The array behind a header, writable, in the byte order of the machine.

    Raises:
        ValueError: If the values end early.
        zipfile.BadZipFile: If they are damaged, and whatever else :mod:`zipfile` raises.
    """
    values = np.empty(prod(header.shape), dtype=header.dtype)
    room = values.view(np.uint8)
    with archive.open(member) as stream:
        _exactly(stream, header.offset)
        filled = 0
        while filled < len(room):
            chunk = stream.read(min(_CHUNK_BYTES, len(room) - filled))
            if not chunk:
                raise ValueError(f"its values end after {filled:,} of {len(room):,} bytes")
            room[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
            filled += len(chunk)
    shaped = values.reshape(header.shape, order="F" if header.fortran_order else "C")
    return shaped.astype(header.dtype.newbyteorder("="), copy=False)


def _exactly(stream: IO[bytes], n_bytes: int) -> bytes:
    data = stream.read(n_bytes)
    if len(data) != n_bytes:
        raise ValueError("it ends within its header")
    return data


def _parsed(text: str, offset: int) -> NpyHeader:
    try:
        fields = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("its header cannot be read") from error
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header does not name descr, fortran_order and shape")
    descr, order, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if isinstance(descr, str) and descr.lstrip("<>|=").startswith("O"):
        raise NotPlainError("it holds Python objects, which are not loaded")
    if not isinstance(descr, str) or not _PLAIN_DTYPE.fullmatch(descr):
        raise NotPlainError("its values are neither plain numbers nor text")
    if not isinstance(order, bool):
        raise ValueError("its fortran_order is neither True nor False")
    sizes = shape if isinstance(shape, tuple) else ()
    if sizes != shape or not all(type(size) is int and 0 <= size < 2**63 for size in sizes):
        raise ValueError("its shape is no tuple of sizes")
    if len(sizes) > _MOST_DIMENSIONS or prod(max(size, 1) for size in sizes) >= 2**63:
        raise ValueError("its shape is larger than any array")
    try:
        dtype = np.dtype(descr)
    except (TypeError, ValueError) as error:
        raise NotPlainError("its values are neither plain numbers nor text") from error
    return NpyHeader(dtype=dtype, shape=sizes, fortran_order=order, offset=offset)
