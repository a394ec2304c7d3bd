"""Texts of strangers as one line that neither a terminal nor a table minds."""

import unicodedata
from collections.abc import Sequence


def one_line(text: object) -> str:
    """The text on one line, with � for control characters.

    Among those are the ones that color or erase a terminal's lines, and the marks that turn the reading direction.
    """
    spaced = " ".join(str(text).split())
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") else c for c in spaced)


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )


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
