"""Reading values of files that anybody may have edited: what is not of the expected kind is None."""

import math
from collections.abc import Mapping


def number(value: object) -> float | None:
    """A finite number as float; None for anything else, also for a bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        result = float(value)
    except OverflowError:  # an integer of four hundred digits
        return None
    return result if math.isfinite(result) else None


def numbers(value: object) -> tuple[float, ...] | None:
    """A list of finite numbers; None for anything else."""
    if not isinstance(value, list):
        return None
    read = [number(item) for item in value]
    return tuple(item for item in read if item is not None) if None not in read else None


def table(
    value: object, n_rows: int | None = None, n_columns: int | None = None
) -> tuple[tuple[float, ...], ...] | None:
    """A list of equally long lists of finite numbers, of the given size; None for anything else."""
    if not isinstance(value, list) or not value:
        return None
    rows = [row for row in map(numbers, value) if row is not None]
    expected = (
        n_rows if n_rows is not None else len(value),
        n_columns if n_columns is not None else len(rows[0]) if rows else 0,
    )
    if len(rows) != len(value) or len(rows) != expected[0] or any(len(row) != expected[1] for row in rows):
        return None
    return tuple(rows)


def flags(value: object, n_rows: int, n_columns: int) -> tuple[tuple[bool, ...], ...] | None:
    """A list of lists of true and false, of the given size; None for anything else."""
    if not isinstance(value, list):
        return None
    rows = [tuple(row) for row in value if isinstance(row, list) and len(row) == n_columns]
    whole = len(rows) == len(value) == n_rows and all(isinstance(item, bool) for row in rows for item in row)
    return tuple(rows) if whole else None


def words(value: object) -> str | None:
    """A text that is not empty; None for anything else."""
    return value if isinstance(value, str) and value.strip() else None


def names(value: object) -> tuple[str, ...] | None:
    """A list as texts; None for anything else."""
    return tuple(str(item) for item in value) if isinstance(value, list) else None


def member(value: object, name: str) -> object:
    """``value[name]`` when ``value`` is a mapping that has it, else None."""
    return value.get(name) if isinstance(value, Mapping) else None
