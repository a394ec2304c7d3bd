"""The log-weights of the experts over the epochs, one small panel per edge."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from gradnas.report.drawing.line_chart import tick_text, ticks, value_text
from gradnas.report.drawing.palette import line_styles
from gradnas.report.drawing.scene import Box, Command, Group, Item, Label, Path, Scene, line, shortened, text_width
from gradnas.report.records.expert_history import ExpertHistory

_PLOT = (208.0, 124.0)
_PANEL_GAP = 20.0
_PANEL_HEAD = 26.0
_PITCH = _PANEL_HEAD + _PLOT[1] + 28.0  # from the top of one row of panels to that of the next
_PER_ROW = 5
_HEAD = 34.0
_MARGIN = 12.0
_LONGEST_NAME = 18
_MOST_POINTS = 100  # of a curve; more cannot be seen in a panel and only make the page heavy
_CROSS = 3.2


@dataclass(frozen=True, kw_only=True)
class _Scales:
    """The axes that all panels of a cell type share; pixels from the upper left corner of a plot."""

    x: Callable[[float], float]
    y: Callable[[float], float]
    x_ticks: list[float]
    y_ticks: list[float]


def log_weight_chart(history: ExpertHistory) -> Scene | None:
    """A panel per edge with a curve per expert; None when there is nothing to draw.

    A curve ends in a cross where its expert falls. Each is a group of class ``expert`` with ``data-edge``, ``data-op``
    and ``data-falls``, the epoch, empty for a survivor.
    """
    scales = _scales(history)
    if scales is None:
        return None
    left = _MARGIN + max(text_width(_minus(tick_text(t, scales.y_ticks)), 10.5) for t in scales.y_ticks) + 8
    n_edges = len(history.edges)
    columns = min(n_edges, _PER_ROW)
    title = f"{history.kind} cell: log-weight of each expert over the epochs, 0 for the leader of its edge"
    width = max(left + columns * (_PLOT[0] + _PANEL_GAP) - _PANEL_GAP, text_width(title, 13) + _MARGIN) + _MARGIN
    legend, legend_height = _legend(history, width)
    items: list[Item] = [Label(x=_MARGIN, y=16, text=title, size=13, bold=True), *legend]
    top = _HEAD + legend_height
    for edge in range(n_edges):
        row, column = divmod(edge, _PER_ROW)
        x, y = left + column * (_PLOT[0] + _PANEL_GAP), top + row * _PITCH + _PANEL_HEAD
        items.append(_panel(history, edge, scales, x, y, named=column == 0))
    height = top + math.ceil(n_edges / _PER_ROW) * _PITCH + _MARGIN - 6
    paper = Box(x=0, y=0, width=width, height=height, fill="paper")
    leaders = ", ".join(f"{history.edge_name(e)} {history.ops[history.leader(e)]}" for e in range(n_edges))
    return Scene(width=width, height=height, items=(paper, *items), title=f"{title}. In the end lead: {leaders}")


def _scales(history: ExpertHistory) -> _Scales | None:
    edges, ops = range(len(history.edges)), range(len(history.ops))
    values = [value for edge in edges for op in ops for _, value in _points(history, edge, op)]
    if not values:
        return None
    low, high = min(-1.0, min(values)), max(0.0, max(values))
    if not math.isfinite(high - low):
        return None
    y_ticks = ticks(low, high, 4)
    first, last = history.epochs[0], history.epochs[-1]

    def px(epoch: float) -> float:
        return _PLOT[0] * ((epoch - first) / (last - first) if last > first else 0.5)

    def py(value: float) -> float:
        return _PLOT[1] * (y_ticks[-1] - value) / (y_ticks[-1] - y_ticks[0])

    x_ticks = [tick for tick in ticks(first, last, 4, whole=True) if first <= tick <= last]
    return _Scales(x=px, y=py, x_ticks=x_ticks, y_ticks=y_ticks)


def _points(history: ExpertHistory, edge: int, op: int) -> list[tuple[int, float]]:
    """(position in ``epochs``, log-weight) up to the fall, thinned."""
    fall = history.fall(edge, op)
    end = len(history.epochs) - 1 if fall is None else fall
    step = math.ceil(len(history.epochs) / _MOST_POINTS)
    tables = enumerate(history.log_weights[: end + 1])
    return [(at, known[edge][op]) for at, known in tables if known is not None and (at % step == 0 or at == end)]


def _panel(history: ExpertHistory, edge: int, scales: _Scales, x: float, y: float, *, named: bool) -> Group:
    name, leader = history.edge_name(edge), history.ops[history.leader(edge)]
    width, height = _PLOT
    items: list[Item] = [
        Label(x=x, y=y - 12, text=name, size=11, bold=True),
        Label(x=x + width, y=y - 12, text=shortened(leader, _LONGEST_NAME), size=10.5, fill="muted", anchor="end"),
    ]
    for tick in scales.y_ticks:
        tick_y = y + scales.y(tick)
        items.append(line((x, tick_y), (x + width, tick_y), stroke="faint", width=1))
        if named:
            text = _minus(tick_text(tick, scales.y_ticks))
            items.append(Label(x=x - 7, y=tick_y, text=text, size=10.5, fill="muted", anchor="end"))
    for tick in scales.x_ticks:
        tick_x = x + scales.x(tick)
        items.append(line((tick_x, y + height), (tick_x, y + height + 4), stroke="wire", width=1))
        items.append(
            Label(x=tick_x, y=y + height + 12, text=f"{tick:g}", size=10.5, fill="muted", anchor="middle"),
        )
    drawn = [_curve(history, edge, op, scales, x, y) for op in range(len(history.ops))]
    curves = [curve for curve in drawn if curve is not None]
    items += [curve for curve in curves if not _survives(curve)]
    items += [curve for curve in curves if _survives(curve)]  # on top
    return Group(items=tuple(items), kind="panel", data=(("edge", name),))


def _survives(curve: Group) -> bool:
    return ("falls", "") in curve.data


def _curve(history: ExpertHistory, edge: int, op: int, scales: _Scales, x: float, y: float) -> Group | None:
    points = _points(history, edge, op)
    if not points:
        return None
    color, dashed = line_styles(history.ops)[op]
    fall = history.fall(edge, op)
    commands: list[Command] = []
    before: int | None = None
    for at, value in points:
        unbroken = before is not None and None not in history.log_weights[before:at]
        place = (x + scales.x(history.epochs[at]), y + scales.y(value))
        commands.append(("L" if unbroken else "M", place))
        before = at
    items: list[Item] = [
        Path(commands=tuple(commands), stroke=color, line=1.3 if fall is not None else 2.2, dashed=dashed)
    ]
    words = f"{history.edge_name(edge)}, {history.ops[op]}: "
    if fall is None:
        words += f"{_minus(value_text(points[-1][1]))} in the end, weight {history.weights[edge][op]:.2f}"
    else:
        epoch = history.epochs[fall]
        items.append(_cross(x + scales.x(epoch), y + scales.y(points[-1][1]), color))
        words += f"falls in epoch {epoch} at {_minus(value_text(points[-1][1]))}"
    data = (
        ("edge", history.edge_name(edge)),
        ("op", history.ops[op]),
        ("falls", "" if fall is None else str(history.epochs[fall])),
    )
    return Group(items=tuple(items), kind="expert", data=data, title=words)


def _cross(x: float, y: float, color: str) -> Path:
    r = _CROSS
    commands: tuple[Command, ...] = (
        ("M", (x - r, y - r)),
        ("L", (x + r, y + r)),
        ("M", (x - r, y + r)),
        ("L", (x + r, y - r)),
    )
    return Path(commands=commands, stroke=color, line=1.8)


def _legend(history: ExpertHistory, width: float) -> tuple[list[Item], float]:
    """The experts and the cross, wrapped to the width, and the height this takes."""
    items: list[Item] = []
    x, y = _MARGIN, _HEAD + 4
    styles = line_styles(history.ops)
    entries = [
        (shortened(op, _LONGEST_NAME), role, dashed) for op, (role, dashed) in zip(history.ops, styles, strict=True)
    ]
    for name, role, dashed in [*entries, ("falls", "", False)]:
        wide = 32 + text_width(name, 11.5) + 14
        if x > _MARGIN and x + wide > width - _MARGIN:
            x, y = _MARGIN, y + 18
        sample = line((x, y), (x + 26, y), stroke=role, width=2.2, dashed=dashed) if role else _cross(x + 20, y, "ink")
        items.append(sample)
        items.append(Label(x=x + 32, y=y, text=name, size=11.5))
        x += wide
    return items, y - _HEAD + 10


def _minus(text: str) -> str:
    return f"−{text[1:]}" if text.startswith("-") else text
