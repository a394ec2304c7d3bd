"""Texts as columns of a table in a terminal, and names as part of a sentence."""

import unicodedata
from collections.abc import Sequence


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )


def listed(names: Sequence[str], most: int | None = None) -> str:
    """``a, b and c``; of more names than ``most``, which is 1 or larger, only those: ``a, b and 2 more``."""
    shown = list(names[:most])
    if len(shown) < len(names):
        shown.append(f"{len(names) - len(shown)} more")
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """The rows as lines, their cells padded to columns.

    Args:
        rows: Equally many cells each.
        right: For each column whether its cells end at the same place, as numbers should.
    """
    widths = [max((columns_of(row[k]) for row in rows), default=0) for k in range(len(right))]

    def padded(cell: str, width: int, to_the_right: bool) -> str:
        room = " " * (width - columns_of(cell))
        return room + cell if to_the_right else cell + room

    return ["  ".join(map(padded, row, widths, right)).rstrip() for row in rows]
