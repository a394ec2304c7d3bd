"""Checksums that tell whether files are still what was written. They are no protection against an attacker.

What carries its own checksum is *sealed*: a JSON object by a last member, a text by a last comment line, a safetensors
file by its metadata. What has no seal, as files that somebody wrote by hand, is taken as it is.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHECKSUM = "checksum"
"""Name of the member, and of the metadata of a safetensors file."""

LINE_DIGITS = 8  # of a line of a log: enough for few bytes
_FEWEST_DIGITS = 8
_COMMENT = f"# {CHECKSUM}: "


def checksum(data: bytes | memoryview) -> str:
    """BLAKE2b of the bytes, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def damaged(what: object, advice: str) -> ValueError:
    """The error for a file whose checksum does not fit.

    Args:
        what: The file.
        advice: What to do where the original is not at hand, or the change is meant.
    """
    return ValueError(
        f"{what} was changed or damaged since it was written: its checksum does not fit. Put the original back. "
        f"{advice}"
    )


def seal(values: Mapping[str, Any], digits: int = 32) -> dict[str, Any]:
    """A JSON object with its checksum as last member.

    The checksum is that of the values: other spaces, or another order of members, are no damage.

    Args:
        values: What JSON can hold.
        digits: Length of the checksum, 8 or more.
    """
    return {**values, CHECKSUM: _of_values(values)[:digits]}


def unseal(values: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`seal` was given; an object without a checksum as it is.

    Raises:
        ValueError: When the checksum does not fit, with the cause alone: who knows the file adds it and what to do.
    """
    if CHECKSUM in values:
        content = {name: value for name, value in values.items() if name != CHECKSUM}
        if not _fits(values[CHECKSUM], content):
            raise ValueError("its checksum does not fit")
        return content
    if values:
        *others, (last, value) = values.items()
        if _fits(value, dict(others)):
            raise ValueError(f"its checksum is named {last!r}")  # the damage lies in the name
    return dict(values)


def _of_values(values: Mapping[str, Any]) -> str:
    try:
        plain = json.loads(json.dumps(values))  # a name that is a number is sorted as the text that it becomes
        return checksum(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def _fits(found: object, content: Mapping[str, Any]) -> bool:
    return isinstance(found, str) and len(found) >= _FEWEST_DIGITS and _of_values(content).startswith(found)


def seal_text(text: str) -> str:
    """A text, of whole lines, with its checksum in a comment line behind it."""
    return f"{text}{_COMMENT}{checksum(text.encode())}\n"


def is_sealed(text: str) -> bool:
    """True when the last line of a text has a checksum, right or wrong."""
    return _COMMENT.rstrip() in text.rstrip("\n").rpartition("\n")[2]


def unseal_text(text: str) -> str:
    """What :func:`seal_text` was given; a text without a checksum as it is. ValueError, the cause alone, for damage."""
    if not is_sealed(text):
        return text
    content, _, found = text.rpartition(_COMMENT.rstrip())
    if found.strip() != checksum(content.encode()):
        raise ValueError("its checksum does not fit")
    return content


def seal_tensors(data: bytes) -> bytes:
    """The bytes of a safetensors file with the checksum of everything else in its metadata."""
    header, tensors = _parts(data)
    header["__metadata__"][CHECKSUM] = _of_tensors(header, tensors)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the tensors
    return len(text).to_bytes(8, "little") + text + bytes(tensors)


def tensors_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file, after its checksum was found to fit; of one without a checksum as it is.

    Raises:
        ValueError: When the checksum does not fit, or there is no header, with the cause alone.
    """
    header, tensors = _parts(data)
    found = header["__metadata__"].pop(CHECKSUM, None)
    if found is not None and found != _of_tensors(header, tensors):
        raise ValueError("its checksum does not fit")
    metadata: dict[str, str] = header["__metadata__"]
    return metadata


def _parts(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and tensors of a safetensors file: eight bytes of length, JSON, and the bytes of the tensors."""
    begin = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:begin])
    except (ValueError, RecursionError) as error:
        raise ValueError("its header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise ValueError("its header is not an object of tensors")
    return {"__metadata__": {}, **header}, memoryview(data)[begin:]


def _of_tensors(header: Mapping[str, Any], tensors: memoryview) -> str:
    return checksum(b"".join((json.dumps(header, sort_keys=True).encode(), tensors)))
