"""The mark of each row of a comparison: a color and a shape, so that it is found again without seeing colors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gradnas.report.comparison.rows import Row
from gradnas.report.drawing.scene import Box, Item, Path, Scene

Shape = Literal["circle", "square", "diamond", "up", "down", "cross"]

_COLORS = ("first", "second", "third", "dil-line", "mixed-line", "pool-line", "state-line")
_SHAPES: tuple[Shape, ...] = ("circle", "square", "diamond", "up", "down")
_SWATCH = 14.0


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Color role and shape."""

    color: str
    shape: Shape


def row_marks(rows: Sequence[Row]) -> dict[str, Mark]:
    """Name of a row to its mark. 35 methods differ; random baselines are crosses."""
    marks: dict[str, Mark] = {}
    methods = [row for row in rows if row.kind == "method"]
    for k, row in enumerate(methods):
        marks[row.name] = Mark(color=_COLORS[k % len(_COLORS)], shape=_SHAPES[k % len(_SHAPES)])
    marks.update({row.name: Mark(color="ink", shape="cross") for row in rows if row.kind == "baseline"})
    return marks


def mark_item(mark: Mark, x: float, y: float, radius: float, *, hollow: bool = False) -> Item:
    """The mark around (x, y); a hollow one is smaller news: a single run."""
    if mark.shape == "cross":
        r = radius * 0.85
        strokes = (("M", (x - r, y - r)), ("L", (x + r, y + r)), ("M", (x - r, y + r)), ("L", (x + r, y - r)))
        return Path(commands=strokes, stroke=mark.color, line=1.3 if hollow else 2.8)
    fill, stroke, line = ("paper", mark.color, 1.3) if hollow else (mark.color, "paper", 1.2)
    if mark.shape in ("circle", "square"):
        r = radius if mark.shape == "circle" else radius * 0.88
        corner = radius if mark.shape == "circle" else 1.0
        return Box(x=x - r, y=y - r, width=2 * r, height=2 * r, radius=corner, fill=fill, stroke=stroke, line=line)
    turns = {"diamond": (4, 0.0), "up": (3, 0.0), "down": (3, 60.0)}
    corners, turn = turns[mark.shape]
    places = []
    for k in range(corners):
        angle = math.radians(-90 + turn + 360 * k / corners)
        places.append((x + 1.22 * radius * math.cos(angle), y + 1.22 * radius * math.sin(angle)))
    steps = tuple(("M" if k == 0 else "L", place) for k, place in enumerate(places))
    return Path(commands=(*steps, ("Z", ())), fill=fill, stroke=stroke, line=line)


def swatch(mark: Mark, name: str) -> Scene:
    """The mark alone, for a table."""
    item = mark_item(mark, _SWATCH / 2, _SWATCH / 2, 5.2)
    return Scene(width=_SWATCH, height=_SWATCH, items=(item,), title=f"mark of {name}")
