"""The limit on what a source may hold in memory."""

import math
import re

ADVICE = (
    "Pass a smaller image_size, use fewer images, or raise max_bytes (data.max_memory) if the machine has the memory."
)

_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(I?)B|B)")


def check_memory(what: str, n_bytes: int, max_bytes: int, advice: str = ADVICE) -> None:
    """Refuse a source that does not fit, before it is read.

    Args:
        what: Subject of the error, e.g. ``"60000 images of 3x32x32"``.
        n_bytes: Bytes needed.
        max_bytes: Bytes allowed.
        advice: What to do.

    Raises:
        ValueError: If more is needed than allowed; both numbers and the ways out are named.
    """
    if n_bytes > max_bytes:
        raise ValueError(f"{what}: {n_bytes:,} bytes needed in memory, {max_bytes:,} allowed (max_bytes). {advice}")


def bytes_of(amount: str, what: str = "an amount of memory") -> int:
    """An amount of memory in bytes.

    Args:
        amount: A number with a unit: ``4GB`` (1 GB = 1000³ bytes), ``512MiB`` (1 MiB = 1024² bytes), ``2000B``; in
            any case.
        what: Its name, for messages.

    Raises:
        ValueError: For another form, or less than one byte.
    """
    match = _FORM.fullmatch(amount.strip().upper()) if isinstance(amount, str) else None
    if match is None:
        raise ValueError(f"{what} must be an amount such as 4GB or 512MiB, got {amount!r}.")
    number, unit, binary = match.groups()
    base = 1024 if binary else 1000
    n_bytes = math.floor(float(number) * base ** (" KMGT".index(unit) if unit else 0))
    if n_bytes < 1:
        raise ValueError(f"{what} must be at least one byte, got {amount!r}.")
    return n_bytes
