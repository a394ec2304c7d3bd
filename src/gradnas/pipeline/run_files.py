"""Values as the JSON files of a run folder."""

import json
import math
from pathlib import Path
from typing import Any

from gradnas.foundation.checksums import damaged, seal, unseal
from gradnas.foundation.files import read_text, write_atomic
from gradnas.foundation.strict_json import MAX_CHARACTERS, read_json


def write_value(path: Path, value: Any) -> None:
    """Store a value as indented JSON, in one step; an object gets a checksum.

    Raises:
        OSError: When the file cannot be written; what was there before is unchanged.
    """
    plain = finite(value)
    stored = seal(plain) if isinstance(plain, dict) else plain
    write_atomic(path, json.dumps(stored, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_object(path: Path, advice: str) -> Any:
    """Read :func:`write_value`; None when there is no such file.

    Args:
        path: The file.
        advice: What to do where it is damaged and the original is not at hand.

    Raises:
        ValueError: When it is damaged.
    """
    if not path.is_file():
        return None
    try:
        value = read_json(read_text(path, 4 * MAX_CHARACTERS))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Put the original back. {advice}") from error
    try:
        return unseal(value) if isinstance(value, dict) else value
    except ValueError as error:
        raise damaged(path, advice) from error


def finite(value: Any) -> Any:
    """A copy of plain values in which numbers that are not finite, which JSON does not have, are None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
