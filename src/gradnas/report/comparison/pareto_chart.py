"""Test accuracy against what it costs: single runs, means with their spread, and the Pareto front of the means."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gradnas.costs import pareto_front
from gradnas.report.comparison.compared_run import Measurement
from gradnas.report.comparison.row_marks import Mark, mark_item
from gradnas.report.comparison.rows import Row, rounded_accuracy
from gradnas.report.comparison.run_statistics import Spread
from gradnas.report.drawing.label_places import Area, needs_line, place_labels
from gradnas.report.drawing.line_chart import tick_text, ticks
from gradnas.report.drawing.scene import Box, Group, Item, Label, Scene, line, text_width
from gradnas.report.records.quantities import millions, percent, time_text

_WIDTH, _HEIGHT = 580.0, 430.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 18.0, 62.0, 48.0
_LOG_FROM = 8.0  # ratio of the largest to the smallest cost from which the axis is logarithmic
_LONGEST_LABEL = 34
_SIZE = 11.5  # of labels
_EDGE = 0.04  # share of the range that is left free on both sides
_MEAN, _RUN = 6.0, 3.4  # radius of a mark


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the horizontal axis shows.

    Args:
        title: Heading of the chart.
        axis: Words of the axis; the unit follows.
        units: (size of the unit, its name), largest first.
        mean: The cost of a row.
        single: The cost of a run.
        text: A cost in words.
    """

    title: str
    axis: str
    units: tuple[tuple[float, str], ...]
    mean: Callable[[Row], Spread | None]
    single: Callable[[Measurement], float | None]
    text: Callable[[float], str]


MACS = Cost(
    title="Test accuracy against multiply-adds",
    axis="MACs of one image",
    units=((1e6, "M"),),
    mean=lambda row: row.macs,
    single=lambda result: result.macs,
    text=millions,
)
SEARCH_TIME = Cost(
    title="Test accuracy against search time",
    axis="time of the search",
    units=((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s")),
    mean=lambda row: row.search_s,
    single=lambda result: result.search_s,
    text=time_text,
)


def pareto_chart(rows: Sequence[Row], marks: dict[str, Mark], cost: Cost) -> Scene | None:
    """The chart of one data set; None when no row has both an accuracy and the cost.

    Each row is a group of class ``row`` with ``data-name``, ``data-kind`` and ``data-front``; its single runs are
    groups of class ``run`` with ``data-name`` and ``data-seed``; labels are groups of class ``name``.

    Args:
        rows: The rows.
        marks: Name of a row to its mark.
        cost: What the horizontal axis shows.
    """
    drawn = [row for row in rows if row.accuracy is not None and cost.mean(row) is not None]
    if not drawn:
        return None
    plane = _Plane(drawn, cost)
    front = [drawn[k] for k in pareto_front([(_mean(cost, row), rounded_accuracy(row)) for row in drawn])]
    items: list[Item] = [Box(x=0, y=0, width=_WIDTH, height=_HEIGHT, fill="paper")]
    items += plane.frame()
    items += [_level(row, plane) for row in drawn if row.kind == "baseline"]
    items.append(_front_line(front, plane, cost))
    items += [_spread_bars(row, plane, marks[row.name], cost) for row in drawn]
    items += [run for row in drawn for run in _runs(row, plane, marks[row.name], cost)]
    items += [_mean_mark(row, plane, marks[row.name], cost, row in front) for row in drawn]
    items += _labels(drawn, front, plane, cost)
    best = ", ".join(f"{row.name} {percent(_accuracy(row))}" for row in front)
    return Scene(width=_WIDTH, height=_HEIGHT, items=tuple(items), title=f"{cost.title}. On the Pareto front: {best}")


def _accuracy(row: Row) -> float:
    assert row.accuracy is not None
    return row.accuracy.mean


def _mean(cost: Cost, row: Row) -> float:
    found = cost.mean(row)
    assert found is not None
    return found.mean


def _bar(found: Spread, most: float = math.inf) -> tuple[float, float]:
    """Mean − and + standard deviation, not beyond what can be."""
    reach = found.std or 0.0
    return max(0.0, found.mean - reach), min(most, found.mean + reach)


class _Plane:
    """The axes: what is where."""

    def __init__(self, rows: Sequence[Row], cost: Cost) -> None:
        self.cost = cost
        costs = [value for row in rows for r in row.tested if (value := cost.single(r)) is not None]
        costs += [_mean(cost, row) for row in rows]
        accuracies = [result.accuracy for row in rows for result in row.tested if result.accuracy is not None]
        accuracies += [end for row in rows if row.accuracy is not None for end in _bar(row.accuracy, 100.0)]
        low, high = min(costs), max(costs)
        self.unit, self.unit_name = next(((size, name) for size, name in cost.units if high >= size), cost.units[-1])
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
        """Heading, grid, ticks and what the axes show."""
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        items: list[Item] = [Label(x=12, y=16, text=self.cost.title, size=13, bold=True)]
        items.append(Label(x=12, y=40, text="test accuracy, %", size=11, fill="muted"))
        start = 12 + text_width("test accuracy, %", 11) + 24  # at the left: what a phone shows before one scrolls
        items.append(line((start, 40), (start + 20, 40), stroke="wire", width=2.4))
        items.append(Label(x=start + 26, y=40, text="Pareto front of the means", size=11, fill="muted"))
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
        words = f"{self.cost.axis}, {self.unit_name}{scale}"
        items.append(Label(x=_LEFT, y=_HEIGHT - 11, text=words, size=11, fill="muted"))
        return items


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


def _level(row: Row, plane: _Plane) -> Group:
    y = plane.y(_accuracy(row))
    words = f"{row.name}: {percent(_accuracy(row))}"
    dashed = line((_LEFT, y), (_WIDTH - _RIGHT, y), stroke="muted", width=1.2, dashed=True)
    return Group(items=(dashed,), kind="level", data=(("name", row.name),), title=words)


def _front_line(front: Sequence[Row], plane: _Plane, cost: Cost) -> Group:
    names = "; ".join(row.name for row in front)
    path = line(*_steps(front, plane, cost), stroke="wire", width=2.4)
    return Group(items=(path,), kind="front", data=(("rows", names),), title=f"Pareto front: {names}")


def _steps(front: Sequence[Row], plane: _Plane, cost: Cost) -> list[tuple[float, float]]:
    """Corners of the front: what lies below and to the right of it is beaten by one of its rows."""
    places = [(plane.x(_mean(cost, row)), plane.y(_accuracy(row))) for row in front]
    steps = places[:1]
    for (_, before), (x, y) in pairwise(places):
        steps += [(x, before), (x, y)]
    return [*steps, (_WIDTH - _RIGHT, places[-1][1])]


def _spread_bars(row: Row, plane: _Plane, mark: Mark, cost: Cost) -> Group:
    assert row.accuracy is not None
    x = plane.x(_mean(cost, row))
    bars: list[Item] = []
    if row.accuracy.std:
        low, high = (plane.y(end) for end in _bar(row.accuracy, 100.0))
        bars.append(line((x, low), (x, high), stroke=mark.color, width=1.6))
        bars += [line((x - 4, end), (x + 4, end), stroke=mark.color, width=1.6) for end in (low, high)]
    return Group(items=tuple(bars), kind="spread", data=(("name", row.name),))


def _runs(row: Row, plane: _Plane, mark: Mark, cost: Cost) -> list[Group]:
    if len(row.tested) < 2:
        return []  # the mean is the run
    groups = []
    for result in row.tested:
        value = cost.single(result)
        if value is None or result.accuracy is None:
            continue
        item = mark_item(mark, plane.x(value), plane.y(result.accuracy), _RUN, hollow=True)
        words = f"{row.name}, seed {result.seed}: {percent(result.accuracy)}, {cost.text(value)}"
        data = (("name", row.name), ("seed", str(result.seed)))
        groups.append(Group(items=(item,), kind="run", data=data, title=words))
    return groups


def _mean_mark(row: Row, plane: _Plane, mark: Mark, cost: Cost, on_front: bool) -> Group:
    x, y = plane.x(_mean(cost, row)), plane.y(_accuracy(row))
    n = len(row.tested)
    words = (
        f"{row.name}: {percent(_accuracy(row))}, {cost.text(_mean(cost, row))}, "
        f"{n} {'run' if n == 1 else 'runs'}{', on the Pareto front' if on_front else ''}"
    )
    data = (("name", row.name), ("kind", row.kind), ("front", str(on_front).lower()))
    return Group(items=(mark_item(mark, x, y, _MEAN),), kind="row", data=data, title=words)


def _labels(rows: Sequence[Row], front: Sequence[Row], plane: _Plane, cost: Cost) -> list[Item]:
    """The name beside each mean, from the top downwards; one without room is left to the table and the tooltip."""
    ordered = sorted(rows, key=lambda row: plane.y(_accuracy(row)))
    points = [(plane.x(_mean(cost, row)), plane.y(_accuracy(row))) for row in ordered]
    texts = short_labels([row.label for row in ordered])
    singles = [
        (plane.x(value), plane.y(result.accuracy))
        for row in rows
        for result in row.tested
        if result.accuracy is not None and (value := cost.single(result)) is not None
    ]
    bars = [
        Area(left=x - 4, top=plane.y(_bar(row.accuracy, 100.0)[1]), right=x + 4, bottom=plane.y(_bar(row.accuracy)[0]))
        for row, (x, _) in zip(ordered, points, strict=True)
        if row.accuracy is not None
    ]
    lines = [
        Area(left=min(x, x_next) - 2, top=min(y, y_next) - 3, right=max(x, x_next) + 2, bottom=max(y, y_next) + 3)
        for (x, y), (x_next, y_next) in pairwise(_steps(front, plane, cost))
    ]
    levels = [plane.y(_accuracy(row)) for row in rows if row.kind == "baseline"]
    lines += [Area(left=_LEFT, top=y - 3, right=_WIDTH - _RIGHT, bottom=y + 3) for y in levels]
    places = place_labels(
        points,
        [(text_width(text, _SIZE), _SIZE + 3) for text in texts],
        room=Area(left=_LEFT + 2, top=_TOP - 8, right=_WIDTH - 4, bottom=_HEIGHT - _BOTTOM - 2),
        marks=[_around(point, _MEAN + 1) for point in points],
        avoided=[*bars, *lines, *(_around(point, _RUN) for point in singles)],
    )
    items: list[Item] = []
    for row, text, point, place in zip(ordered, texts, points, places, strict=True):
        if place is None:
            continue
        parts: list[Item] = []
        end = needs_line(point, place)
        if end is not None:
            parts.append(line(point, end, stroke="wire", width=0.9))
        width, height = place.right - place.left, place.bottom - place.top
        parts.append(Box(x=place.left, y=place.top, width=width, height=height, fill="paper", opacity=0.75))
        parts.append(Label(x=place.left, y=(place.top + place.bottom) / 2, text=text, size=_SIZE))
        items.append(Group(items=tuple(parts), kind="name", data=(("name", row.name),), title=row.name))
    return items


def short_labels(labels: Sequence[str]) -> list[str]:
    """The labels with an ellipsis in place of what is too long, where it leaves different ones different.

    That is in the middle, for names of methods begin and settings end with what tells them apart; else further forward
    or back.
    """
    room = _LONGEST_LABEL - 1
    offered = []
    for share in (0.5, 0.3, 0.7, 0.1, 0.9):
        kept = round(share * room)
        offered.append(
            [
                text if len(text) <= _LONGEST_LABEL else f"{text[:kept]}…{text[len(text) - room + kept :]}"
                for text in labels
            ]
        )
    return max(offered, key=lambda texts: len(set(texts)))  # of equally good ones the first


def _around(point: tuple[float, float], radius: float) -> Area:
    return Area(left=point[0] - radius, top=point[1] - radius, right=point[0] + radius, bottom=point[1] + radius)
