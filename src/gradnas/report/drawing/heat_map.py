"""A square table of counts by two sorts of the same names, as colored squares."""

import math
from collections.abc import Sequence
from dataclasses import replace

from gradnas.report.drawing.scene import Box, Group, Item, Label, Scene, line, shortened, text_width
from gradnas.report.drawing.shades import Bar, ground, shades

_LONGEST_NAME = 18
_HEAD = 34.0
_MARGIN = 12.0
_AXIS = 20.0  # for the name of an axis
_EVERY = 5  # of the names of a large table, one in so many is written

DARK_ENOUGH = 0.55
"""Share of the full color from which white letters read better."""


def heat_map(
    names: Sequence[str],
    shares: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]],
    *,
    title: str,
    axes: tuple[str, str],
    cell: tuple[float, float],
    dense: bool = False,
) -> Scene:
    """A heat map with the text in each square.

    Args:
        names: Names of the rows and of the columns.
        shares: Strength of each square's color, 0 to 1, one row per name; others are clipped.
        texts: What stands in each square.
        title: Heading.
        axes: What rows and columns are.
        cell: Width and height of a square, in pixels.
        dense: Squares touch, hold no texts, and of the names every fifth is written, so that a hundred have room.
    """
    named = range(0, len(names), _EVERY if dense else 1)
    short = [shortened(name, _LONGEST_NAME) for name in names]
    longest = max((text_width(short[k], 11) for k in named), default=0.0)
    slant = longest * math.sqrt(0.5)
    left, top = _MARGIN + _AXIS + longest + 10, _HEAD + _AXIS + slant + 12
    plot = (len(names) * cell[0], len(names) * cell[1])
    width = max(
        left + plot[0] + max(_MARGIN, slant - cell[0] / 2 + 10),
        text_width(title, 13) + 2 * _MARGIN,
        left + text_width(axes[1], 11) + _MARGIN,
    )
    height = max(top + plot[1], top + plot[1] / 2 + text_width(axes[0], 11) / 2) + _MARGIN
    items: list[Item] = [
        Box(x=0, y=0, width=width, height=height, fill="paper"),
        Label(x=_MARGIN, y=16, text=title, size=13, bold=True),
        Label(x=left, y=_HEAD + 6, text=axes[1], size=11, fill="muted"),
        Label(x=_MARGIN + 6, y=top + plot[1] / 2, text=axes[0], size=11, fill="muted", anchor="middle", rotation=-90),
    ]
    for k in named:
        x, y = left + (k + 0.5) * cell[0], top + (k + 0.5) * cell[1]
        items.append(Label(x=x, y=top - 9, text=short[k], size=11, rotation=-45))
        items.append(Label(x=left - 8, y=y, text=short[k], size=11, anchor="end"))
    if dense:
        items += [
            line((left + (k + 0.5) * cell[0], top - 5), (left + (k + 0.5) * cell[0], top - 1), stroke="wire", width=1)
            for k in named
        ]
        items += [
            line((left - 5, top + (k + 0.5) * cell[1]), (left - 1, top + (k + 0.5) * cell[1]), stroke="wire", width=1)
            for k in named
        ]
        items += _field(shares, left, top, cell)
    else:
        items += _squares(names, shares, texts, left, top, cell)
    return Scene(width=width, height=height, items=tuple(items), title=title)


def _field(shares: Sequence[Sequence[float]], left: float, top: float, cell: tuple[float, float]) -> list[Item]:
    """All squares as few paths in a frame."""
    size = len(shares)
    bars: list[Bar] = [
        (left + c * cell[0], top + (r + 0.5) * cell[1], cell[0], share)
        for r, row in enumerate(shares)
        for c, share in enumerate(row)
    ]
    frame = Box(x=left - 0.5, y=top - 0.5, width=size * cell[0] + 1, height=size * cell[1] + 1, stroke="wire", line=1.0)
    return [ground(bars, cell[1]), shades(bars, cell[1]), frame]


def _squares(
    names: Sequence[str],
    shares: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]],
    left: float,
    top: float,
    cell: tuple[float, float],
) -> list[Item]:
    """A group of class ``square`` for each."""
    items: list[Item] = []
    for r, row_name in enumerate(names):
        for c, column_name in enumerate(names):
            share = min(1.0, max(0.0, shares[r][c]))
            x, y = left + c * cell[0], top + r * cell[1]
            empty = Box(
                x=x + 0.5,
                y=y + 0.5,
                width=cell[0] - 1,
                height=cell[1] - 1,
                radius=min(3, cell[0] / 6),
                fill="other",
            )
            square: list[Item] = [empty, replace(empty, fill="heat", opacity=round(share, 3))]
            if texts[r][c]:
                color = "on-heat" if share >= DARK_ENOUGH else "ink"
                middle = (x + cell[0] / 2, y + cell[1] / 2)
                square.append(Label(x=middle[0], y=middle[1], text=texts[r][c], size=10.5, anchor="middle", fill=color))
            tooltip = f"{row_name}, {column_name}: {texts[r][c]}"
            items.append(Group(items=tuple(square), kind="square", title=tooltip))
    return items
