"""Many colored squares as few paths: one for each shade, so that a page of large heat maps stays small."""

import math
from collections.abc import Iterable

from gradnas.report.drawing.scene import Command, Group, Path

LEVELS = 20
"""Shades of the color from nothing to the whole."""

Bar = tuple[float, float, float, float]
"""x of its left end, y of its middle, width, and the share of the full color, 0 to 1."""


def level(share: float) -> int:
    """The shade of a share, 0 for none; shares beyond 0 and 1 are clipped."""
    return round(LEVELS * max(0.0, min(1.0, share)))


def shades(bars: Iterable[Bar], height: float) -> Group:
    """The bars as lines as thick as they are high. A bar that goes on where the last one of its shade ended joins it.

    The group has class ``shades`` and one path for each shade that is there.
    """
    lines: dict[int, list[Bar]] = {}
    for bar in bars:
        lines.setdefault(level(bar[3]), []).append(bar)
    paths = [
        Path(
            commands=_lines(lines[shade]),
            stroke="heat",
            opacity=shade / LEVELS,
            line=height,
            ends="butt",
        )
        for shade in sorted(lines)
        if shade
    ]
    return Group(items=tuple(paths), kind="shades")


def ground(bars: Iterable[Bar], height: float) -> Path:
    """What is behind the bars: the color of a share of nothing."""
    return Path(commands=_lines(bars), stroke="other", line=height, ends="butt")


def _lines(bars: Iterable[Bar]) -> tuple[Command, ...]:
    """The bars as lines; one that begins where the last one ended goes on with it."""
    steps: list[Command] = []
    end = (math.nan, math.nan)
    for x, y, width, _ in bars:
        if y == end[1] and abs(x - end[0]) < 1e-6:
            steps.pop()
        else:
            steps.append(("M", (x, y)))
        end = (x + width, y)
        steps.append(("L", end))
    return tuple(steps)
