"""A table of numbers as colored squares."""

import math
from collections.abc import Collection, Sequence

from gradnas.report.drawing.scene import Box, Group, Item, Label, Scene, shortened, text_width

_LONGEST_NAME = 18
_HEAD = 34.0
_MARGIN = 12.0
_MOST_NAMED = 40  # columns up to which names and tooltips are worth their room

DARK_ENOUGH = 0.55
"""Share of the full color from which white letters read better."""


def heat_map(
    row_names: Sequence[str],
    column_names: Sequence[str],
    shares: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]],
    *,
    title: str,
    marked: Collection[tuple[int, int]] = (),
    cell: tuple[float, float] = (46.0, 22.0),
) -> Scene:
    """A heat map with the number in each square.

    Args:
        row_names: Names left of the rows.
        column_names: Names above the columns.
        shares: Strength of each square's color, 0 to 1, one row per name; others are clipped, NaN is empty.
        texts: What stands in each square.
        title: Heading.
        marked: (row, column) of squares to frame.
        cell: Width and height of a square, in pixels.
    """
    named = len(column_names) <= _MOST_NAMED
    rows = [shortened(name, _LONGEST_NAME) for name in row_names]
    columns = [shortened(name, _LONGEST_NAME) for name in column_names]
    left = _MARGIN + (max((text_width(name, 11) for name in rows), default=0) + 8 if named else 0)
    slant = max((text_width(name, 11) for name in columns), default=0) * math.sqrt(0.5) if named else 0.0
    top = _HEAD + slant + (10 if named else 0)
    width = left + len(columns) * cell[0] + max(_MARGIN, slant - cell[0] / 2 + 10)
    width = max(width, text_width(title, 13) + 2 * _MARGIN)
    height = top + len(rows) * cell[1] + _MARGIN
    items: list[Item] = [Box(x=0, y=0, width=width, height=height, fill="paper")]
    items.append(Label(x=_MARGIN, y=16, text=title, size=13, bold=True))
    if named:
        items += [
            Label(x=left + (c + 0.5) * cell[0], y=top - 8, text=name, size=11, rotation=-45)
            for c, name in enumerate(columns)
        ]
        items += [
            Label(x=left - 7, y=top + (r + 0.5) * cell[1], text=name, size=11, anchor="end")
            for r, name in enumerate(rows)
        ]
    frames: list[Item] = []
    for r, row_name in enumerate(row_names):
        for c, column_name in enumerate(column_names):
            share = shares[r][c]
            share = min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0
            if not named and share == 0:
                continue  # keeps the page of a hundred classes small
            x, y = left + c * cell[0], top + r * cell[1]
            square: list[Item] = [
                Box(
                    x=x + 0.5,
                    y=y + 0.5,
                    width=cell[0] - 1,
                    height=cell[1] - 1,
                    radius=min(3, cell[0] / 6),
                    fill="other",
                ),
                Box(
                    x=x + 0.5,
                    y=y + 0.5,
                    width=cell[0] - 1,
                    height=cell[1] - 1,
                    radius=min(3, cell[0] / 6),
                    fill="heat",
                    opacity=round(share, 3),
                ),
            ]
            if named:
                color = "on-heat" if share >= DARK_ENOUGH else "ink"
                middle = (x + cell[0] / 2, y + cell[1] / 2)
                square.append(Label(x=middle[0], y=middle[1], text=texts[r][c], size=10.5, anchor="middle", fill=color))
            tooltip = f"{row_name}, {column_name}: {texts[r][c]}" if named else ""
            items.append(Group(items=tuple(square), kind="square", title=tooltip))
            if (r, c) in marked:
                frames.append(
                    Box(x=x + 1, y=y + 1, width=cell[0] - 2, height=cell[1] - 2, radius=3, stroke="mark", line=2.4)
                )
    return Scene(width=width, height=height, items=(*items, *frames), title=title)
