"""Test accuracy against what it costs: single runs, means with their spread, and the Pareto front of the means."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradnas.costs import pareto_front
from gradnas.report.comparison.compared_run import Measurement
from gradnas.report.comparison.row_marks import Mark, mark_item
from gradnas.report.comparison.rows import Row, rounded_accuracy
from gradnas.report.comparison.run_statistics import Spread
from gradnas.report.drawing.cost_plane import CostPlane, along, around
from gradnas.report.drawing.label_places import Area
from gradnas.report.drawing.scene import Group, Item, Scene, line
from gradnas.report.records.quantities import millions, percent, time_text

_LONGEST_LABEL = 34
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
    plane = _plane(drawn, cost)
    front = [drawn[k] for k in pareto_front([(_mean(cost, row), rounded_accuracy(row)) for row in drawn])]
    items: list[Item] = plane.frame()
    items += [_level(row, plane) for row in drawn if row.kind == "baseline"]
    items.append(_front_line(front, plane, cost))
    items += [_spread_bars(row, plane, marks[row.name], cost) for row in drawn]
    items += [run for row in drawn for run in _runs(row, plane, marks[row.name], cost)]
    items += [_mean_mark(row, plane, marks[row.name], cost, row in front) for row in drawn]
    items += _labels(drawn, front, plane, cost)
    best = ", ".join(f"{row.name} {percent(_accuracy(row))}" for row in front)
    return Scene(
        width=plane.width, height=plane.height, items=tuple(items), title=f"{cost.title}. On the Pareto front: {best}"
    )


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


def _plane(rows: Sequence[Row], cost: Cost) -> CostPlane:
    """The axes, with room for all single runs and all spreads."""
    costs = [value for row in rows for r in row.tested if (value := cost.single(r)) is not None]
    accuracies = [result.accuracy for row in rows for result in row.tested if result.accuracy is not None]
    return CostPlane(
        [*costs, *(_mean(cost, row) for row in rows)],
        [*accuracies, *(end for row in rows if row.accuracy is not None for end in _bar(row.accuracy, 100.0))],
        units=cost.units,
        title=cost.title,
        axis=cost.axis,
        accuracy="test accuracy, %",
        front="Pareto front of the means",
    )


def _level(row: Row, plane: CostPlane) -> Group:
    y = plane.y(_accuracy(row))
    words = f"{row.name}: {percent(_accuracy(row))}"
    dashed = line((plane.room.left, y), (plane.room.right, y), stroke="muted", width=1.2, dashed=True)
    return Group(items=(dashed,), kind="level", data=(("name", row.name),), title=words)


def _front_line(front: Sequence[Row], plane: CostPlane, cost: Cost) -> Group:
    names = "; ".join(row.name for row in front)
    path = line(*_steps(front, plane, cost), stroke="wire", width=2.4)
    return Group(items=(path,), kind="front", data=(("rows", names),), title=f"Pareto front: {names}")


def _steps(front: Sequence[Row], plane: CostPlane, cost: Cost) -> list[tuple[float, float]]:
    return plane.steps([(_mean(cost, row), _accuracy(row)) for row in front])


def _spread_bars(row: Row, plane: CostPlane, mark: Mark, cost: Cost) -> Group:
    assert row.accuracy is not None
    x = plane.x(_mean(cost, row))
    bars: list[Item] = []
    if row.accuracy.std:
        low, high = (plane.y(end) for end in _bar(row.accuracy, 100.0))
        bars.append(line((x, low), (x, high), stroke=mark.color, width=1.6))
        bars += [line((x - 4, end), (x + 4, end), stroke=mark.color, width=1.6) for end in (low, high)]
    return Group(items=tuple(bars), kind="spread", data=(("name", row.name),))


def _runs(row: Row, plane: CostPlane, mark: Mark, cost: Cost) -> list[Group]:
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


def _mean_mark(row: Row, plane: CostPlane, mark: Mark, cost: Cost, on_front: bool) -> Group:
    x, y = plane.x(_mean(cost, row)), plane.y(_accuracy(row))
    n = len(row.tested)
    words = (
        f"{row.name}: {percent(_accuracy(row))}, {cost.text(_mean(cost, row))}, "
        f"{n} {'run' if n == 1 else 'runs'}{', on the Pareto front' if on_front else ''}"
    )
    data = (("name", row.name), ("kind", row.kind), ("front", str(on_front).lower()))
    return Group(items=(mark_item(mark, x, y, _MEAN),), kind="row", data=data, title=words)


def _labels(rows: Sequence[Row], front: Sequence[Row], plane: CostPlane, cost: Cost) -> list[Group]:
    """The name beside each mean; one without room is left to the table and the tooltip."""
    ordered = sorted(rows, key=lambda row: plane.y(_accuracy(row)))
    points = [(plane.x(_mean(cost, row)), plane.y(_accuracy(row))) for row in ordered]
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
    lines = along(_steps(front, plane, cost))
    levels = [plane.y(_accuracy(row)) for row in rows if row.kind == "baseline"]
    lines += [Area(left=plane.room.left, top=y - 3, right=plane.room.right, bottom=y + 3) for y in levels]
    return plane.names(
        points,
        short_labels([row.label for row in ordered]),
        [row.name for row in ordered],
        radius=_MEAN,
        avoided=[*bars, *lines, *(around(point, _RUN) for point in singles)],
    )


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
