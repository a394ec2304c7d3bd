"""Where labels of points go, so that they cover neither each other nor the points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_NEAR = 11.0  # from the middle of a mark to a label beside it, in pixels
_DISTANCES = (_NEAR, 20.0, 32.0, 46.0, 62.0, 80.0, 100.0, 124.0)
_ANGLES = (0, 180, 270, 90, 315, 45, 225, 135, 338, 22, 202, 158, 292, 68, 248, 112)  # right, left, up, down first
_GAP = 2.0  # between labels


@dataclass(frozen=True, kw_only=True)
class Area:
    """A rectangle of the drawing, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Area") -> float:
        """The area that two rectangles share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def inside(self, other: "Area") -> bool:
        """True when this one lies in the other."""
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    *,
    room: Area,
    marks: Sequence[Area],
    avoided: Sequence[Area] = (),
) -> list[Area | None]:
    """A rectangle for each label near its point; None where there is no place that covers nothing.

    Labels are placed in the order given; each takes the nearest free place.

    Args:
        points: What each label names.
        sizes: Width and height of each label.
        room: Where labels may be.
        marks: What no label may cover.
        avoided: What a label should rather not cover.
    """
    placed: list[Area] = []
    result: list[Area | None] = []
    for point, size in zip(points, sizes, strict=True):
        best: tuple[float, Area] | None = None
        for distance in _DISTANCES:
            for rank, angle in enumerate(_ANGLES):
                label = _at(point, size, distance, angle)
                if not label.inside(room) or any(label.overlap(other) > 0 for other in (*marks, *placed)):
                    continue
                cost = distance + 0.05 * rank + 0.4 * sum(label.overlap(other) for other in avoided)
                if best is None or cost < best[0]:
                    best = (cost, label)
        result.append(best[1] if best is not None else None)
        if best is not None:
            area = best[1]
            placed.append(
                Area(left=area.left - _GAP, top=area.top - _GAP, right=area.right + _GAP, bottom=area.bottom + _GAP)
            )
    return result


def _at(point: tuple[float, float], size: tuple[float, float], distance: float, angle: int) -> Area:
    """The label beside the point in a direction, 0 to the right, 90 downwards."""
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = point[0] + distance * dx, point[1] + distance * dy
    left = x - size[0] * (0.5 - 0.5 * max(-1.0, min(1.0, 2 * dx)))
    top = y - size[1] * (0.5 - 0.5 * max(-1.0, min(1.0, 2 * dy)))
    return Area(left=left, top=top, right=left + size[0], bottom=top + size[1])


def needs_line(point: tuple[float, float], label: Area) -> tuple[float, float] | None:
    """The end of a line from a point to its label; None when the label is right beside it."""
    x = max(label.left, min(label.right, point[0]))
    y = max(label.top, min(label.bottom, point[1]))
    return (x, y) if math.hypot(x - point[0], y - point[1]) > _NEAR + 5 else None
