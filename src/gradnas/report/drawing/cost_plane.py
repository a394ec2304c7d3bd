"""The plane of accuracy against a cost: axes, the line of a Pareto front, and the names of points."""

import math
from collections.abc import Sequence
from itertools import pairwise

from gradnas.report.drawing.label_places import Area, needs_line, place_labels
from gradnas.report.drawing.line_chart import tick_text, ticks
from gradnas.report.drawing.scene import Box, Group, Item, Label, line, text_width

Place = tuple[float, float]
"""x and y in pixels of the drawing."""

_WIDTH, _HEIGHT = 580.0, 430.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 18.0, 62.0, 48.0
_LOG_FROM = 8.0  # ratio of the largest to the smallest cost from which the axis is logarithmic
_EDGE = 0.04  # share of the range that is left free on both sides
_SIZE = 11.5  # of names


class CostPlane:
    """What is where.

    Args:
        costs: What must have room on the horizontal axis, at least one.
        accuracies: What must have room on the vertical axis, in percent.
        units: (size of the unit, its name) for costs, largest first.
        title: Heading of the chart.
        axis: Words of the horizontal axis; the unit follows.
        accuracy: Words of the vertical axis.
        front: Words for the line of the front.
    """

    width, height = _WIDTH, _HEIGHT
    room = Area(left=_LEFT, top=_TOP, right=_WIDTH - _RIGHT, bottom=_HEIGHT - _BOTTOM)

    def __init__(
        self,
        costs: Sequence[float],
        accuracies: Sequence[float],
        *,
        units: Sequence[tuple[float, str]],
        title: str,
        axis: str,
        accuracy: str,
        front: str,
    ) -> None:
        self._title, self._axis, self._accuracy, self._front = title, axis, accuracy, front
        low, high = min(costs), max(costs)
        self.unit, self.unit_name = next(((size, name) for size, name in units if high >= size), units[-1])
        self.log = low > 0 and high / low >= _LOG_FROM
        edge = _EDGE * (high - low)  # no mark on the frame
        low, high = (low * (1 - _EDGE), high * (1 + _EDGE)) if self.log else (max(0.0, low - edge), high + edge)
        low, high = low / self.unit, high / self.unit
        self.x_ticks = log_ticks(low, high) if self.log else ticks(low, high, 6)
        margin = _EDGE * (max(accuracies) - min(accuracies))
        self.y_ticks = ticks(max(0.0, min(accuracies) - margin), min(100.0, max(accuracies) + margin), 6)
        ends = (self.x_ticks[0], self.x_ticks[-1])
        self.x_low, self.x_high = (math.log(end) for end in ends) if self.log else ends

    def x(self, cost: float) -> float:
        """Pixels of a cost."""
        value = cost / self.unit
        at = math.log(value) if self.log else value
        return _LEFT + (at - self.x_low) / (self.x_high - self.x_low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, accuracy: float) -> float:
        """Pixels of an accuracy."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return _HEIGHT - _BOTTOM - (accuracy - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def frame(self) -> list[Item]:
        """Paper, heading, grid, ticks and what the axes show."""
        right, bottom = self.room.right, self.room.bottom
        items: list[Item] = [Box(x=0, y=0, width=_WIDTH, height=_HEIGHT, fill="paper")]
        items.append(Label(x=12, y=16, text=self._title, size=13, bold=True))
        items.append(Label(x=12, y=40, text=self._accuracy, size=11, fill="muted"))
        start = 12 + text_width(self._accuracy, 11) + 24  # at the left: what a phone shows before one scrolls
        items.append(line((start, 40), (start + 20, 40), stroke="wire", width=2.4))
        items.append(Label(x=start + 26, y=40, text=self._front, size=11, fill="muted"))
        for tick in self.y_ticks:
            y = self.y(tick)
            items.append(line((_LEFT, y), (right, y), stroke="faint", width=1))
            text = tick_text(tick, self.y_ticks)
            items.append(Label(x=_LEFT - 7, y=y, text=text, size=11, fill="muted", anchor="end"))
        for tick in self.x_ticks:
            x = self.x(tick * self.unit)
            items.append(line((x, bottom), (x, bottom + 4), stroke="wire", width=1))
            text = f"{tick:g}" if self.log else tick_text(tick, self.x_ticks)
            items.append(Label(x=x, y=bottom + 14, text=text, size=11, fill="muted", anchor="middle"))
        scale = ", logarithmic" if self.log else ""
        words = f"{self._axis}, {self.unit_name}{scale}"
        items.append(Label(x=_LEFT, y=_HEIGHT - 11, text=words, size=11, fill="muted"))
        return items

    def steps(self, front: Sequence[tuple[float, float]]) -> list[Place]:
        """Corners of the line of a front: what lies below and to the right of it is beaten by one of its points.

        Args:
            front: (cost, accuracy) of its points, costs rising.
        """
        places = [(self.x(cost), self.y(accuracy)) for cost, accuracy in front]
        corners = places[:1]
        for (_, before), (x, y) in pairwise(places):
            corners += [(x, before), (x, y)]
        return [*corners, (self.room.right, places[-1][1])]

    def names(
        self,
        points: Sequence[Place],
        texts: Sequence[str],
        names: Sequence[str],
        *,
        radius: float,
        avoided: Sequence[Area],
    ) -> list[Group]:
        """The text beside each point, those from the top downwards first; one without room is left out.

        Args:
            points: Marks that no text may cover.
            texts: What stands beside each.
            names: What each is, as ``data-name`` and title of its group.
            radius: Of the marks.
            avoided: What a text should rather not cover.
        """
        order = sorted(range(len(points)), key=lambda k: points[k][1])
        places = place_labels(
            [points[k] for k in order],
            [(text_width(texts[k], _SIZE), _SIZE + 3) for k in order],
            room=Area(left=_LEFT + 2, top=_TOP - 8, right=_WIDTH - 4, bottom=_HEIGHT - _BOTTOM - 2),
            marks=[around(points[k], radius + 1) for k in order],
            avoided=avoided,
        )
        groups = []
        for k, place in zip(order, places, strict=True):
            if place is None:
                continue
            parts: list[Item] = []
            end = needs_line(points[k], place)
            if end is not None:
                parts.append(line(points[k], end, stroke="wire", width=0.9))
            width, height = place.right - place.left, place.bottom - place.top
            parts.append(Box(x=place.left, y=place.top, width=width, height=height, fill="paper", opacity=0.75))
            parts.append(Label(x=place.left, y=(place.top + place.bottom) / 2, text=texts[k], size=_SIZE))
            groups.append(Group(items=tuple(parts), kind="name", data=(("name", names[k]),), title=names[k]))
        return groups


def around(point: Place, radius: float) -> Area:
    """The square about a round mark."""
    return Area(left=point[0] - radius, top=point[1] - radius, right=point[0] + radius, bottom=point[1] + radius)


def along(corners: Sequence[Place]) -> list[Area]:
    """What a line through these corners covers."""
    return [
        Area(left=min(x, x_next) - 2, top=min(y, y_next) - 3, right=max(x, x_next) + 2, bottom=max(y, y_next) + 3)
        for (x, y), (x_next, y_next) in pairwise(corners)
    ]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, or powers alone over many of them.

    The first is at most ``low``, the last at least ``high``; both are positive.
    """
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    factors = (1, 2, 5) if high / low < 1000 else (1,)
    places = [factor * 10.0**power for power in powers for factor in factors]
    first = max(k for k, place in enumerate(places) if place <= low * (1 + 1e-9))
    last = min(k for k, place in enumerate(places) if place >= high * (1 - 1e-9))
    return places[first : max(last, first + 1) + 1]
