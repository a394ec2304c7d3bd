"""The mixing weights of one edge over the epochs: a heat map of candidates by epochs."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gradnas.report.drawing.line_chart import ticks
from gradnas.report.drawing.scene import Box, Command, Group, Item, Label, Path, Scene, line, shortened
from gradnas.report.drawing.shades import Bar, ground, shades
from gradnas.report.records.weight_history import WeightHistory

_MARGIN = 8.0
_TOP = 34.0
_ROW = 16.0
_NAMES = 100.0  # for the names of candidates
_PLOT = 168.0
_VALUE = 34.0  # for the weight of one epoch, right of the plot
_LONGEST_NAME = 16
_CROSS = 3.0  # half of its width


@dataclass(frozen=True, kw_only=True)
class _Plot:
    """Where the epochs stand.

    Args:
        left: Where the first epoch begins.
        first: The first epoch.
        step: Width of an epoch.
        epochs: Epochs of one column; several where an epoch would be narrower than a pixel, which nobody could see.
    """

    left: float
    first: int
    step: float
    epochs: int

    def x(self, epoch: float) -> float:
        """Where an epoch begins."""
        return self.left + (epoch - self.first) * self.step


def weight_panel(
    history: WeightHistory, edge: int, *, kept: Collection[int], shown: int, epochs: Sequence[int]
) -> Scene:
    """A row per candidate, a column per epoch; the stronger the color, the larger the weight.

    Rows of candidates that the cell keeps are bold and marked. The row of one that is wiped out ends in a cross and a
    line. A frame stands on one epoch, whose weights are written on the right. For a script that moves it, the frame is
    a group of class ``now`` with ``data-epoch`` and ``data-step``, the width of an epoch, and the weight of a row is
    one of class ``weight`` with ``data-values``, one for each epoch of ``epochs``, between spaces: the weight in
    hundredths, ``x`` for a candidate that is wiped out, ``-`` where nothing was recorded.

    Args:
        history: The weights of a cell type.
        edge: Which of its edges.
        kept: Candidates to mark.
        shown: The epoch to frame.
        epochs: The epochs to which the frame may move.
    """
    ops = history.ops[edge]
    names = [shortened(op, _LONGEST_NAME) for op in ops]
    left = _MARGIN + 10 + _NAMES
    right = left + _PLOT
    width = right + _VALUE + _MARGIN
    first, last = history.epochs[0], history.epochs[-1]
    step = _PLOT / (last + 1 - first)
    plot = _Plot(left=left, first=first, step=step, epochs=math.ceil(1 / step))
    places = {epoch: at for at, epoch in enumerate(history.epochs)}
    height = _TOP + len(ops) * _ROW + 26
    items: list[Item] = [Box(x=0, y=0, width=width, height=height, fill="paper")]
    items.append(Label(x=_MARGIN, y=16, text=history.edge_name(edge), size=13, bold=True))
    chosen = ", ".join(names[op] for op in sorted(kept))
    outcome = f"keeps {chosen}" if kept else "not in the cell"
    items.append(Label(x=width - _MARGIN, y=16, text=outcome, size=11, anchor="end", fill="ink" if kept else "muted"))
    strongest = history.strongest()
    rows = [_bars(history, edge, op, plot, strongest) for op in range(len(ops))]
    bars = [bar for row in rows for bar in row]
    items += [ground(bars, _ROW - 2), shades(bars, _ROW - 2)]
    for op, name in enumerate(names):
        y = _TOP + op * _ROW
        if op in kept:
            items.append(Box(x=_MARGIN, y=y + _ROW / 2 - 3, width=6, height=6, radius=3, fill="mark"))
        items.append(Label(x=_MARGIN + 10, y=y + _ROW / 2, text=name, size=11, bold=op in kept))
        items.append(_row(history, edge, op, plot))
        values = [_short(_value(history, edge, op, places.get(epoch))) for epoch in epochs]
        label = Label(
            x=width - _MARGIN,
            y=y + _ROW / 2,
            text=_value(history, edge, op, places.get(shown)),
            size=11,
            anchor="end",
            bold=op in kept,
        )
        items.append(Group(items=(label,), kind="weight", data=(("op", ops[op]), ("values", " ".join(values)))))
    bottom = _TOP + len(ops) * _ROW
    marked = [tick for tick in ticks(first, last, 5, whole=True) if first <= tick <= last]
    marks: list[Command] = []
    for tick in marked:
        x = plot.x(tick + 0.5)
        marks += [("M", (x, bottom + 2)), ("L", (x, bottom + 5))]
        items.append(Label(x=x, y=bottom + 13, text=f"{tick:g}", size=10.5, fill="muted", anchor="middle"))
    items.append(Path(commands=tuple(marks), stroke="wire", line=1))
    items.append(Label(x=width - _MARGIN, y=bottom + 13, text="epoch", size=10.5, fill="muted", anchor="end"))
    wide = max(step, 3.0)
    frame = Box(
        x=plot.x(shown + 0.5) - wide / 2,
        y=_TOP - 2,
        width=wide,
        height=bottom - _TOP + 4,
        radius=2,
        stroke="mark",
        line=1.5,
    )
    items.append(Group(items=(frame,), kind="now", data=(("epoch", str(shown)), ("step", f"{step:.4f}"))))
    title = f"{history.kind} cell, {history.edge_name(edge)}: mixing weights over the epochs; {outcome}"
    return Scene(width=width, height=height, items=tuple(items), title=title)


def _bars(history: WeightHistory, edge: int, op: int, plot: _Plot, strongest: float) -> list[Bar]:
    """One bar for each column in which the candidate lives, with its mean weight there."""
    fall = history.fall(edge, op)
    columns: dict[int, list[int]] = {}
    for at, epoch in enumerate(history.epochs[:fall]):
        columns.setdefault((epoch - plot.first) // plot.epochs, []).append(at)
    y = _TOP + (op + 0.5) * _ROW
    bars = []
    for column, places in columns.items():
        start = plot.first + column * plot.epochs
        end = min(start + plot.epochs, history.epochs[-1] + 1)
        share = sum(history.weights[at][edge][op] for at in places) / len(places) / strongest
        bars.append((plot.x(start), y, plot.x(end) - plot.x(start), share))
    return bars


def _row(history: WeightHistory, edge: int, op: int, plot: _Plot) -> Group:
    """What is said of a candidate when hovering over its row, and the cross where it is wiped out."""
    first, fall = history.epochs[0], history.fall(edge, op)
    y = _TOP + op * _ROW
    items: list[Item] = [Box(x=plot.left, y=y + 1, width=_PLOT, height=_ROW - 2)]
    words = f"{history.ops[edge][op]}: {history.weights[0][edge][op]:.3f} after epoch {first}"
    if fall is not None:
        middle, right = y + _ROW / 2, plot.left + _PLOT
        x = min(plot.x(history.epochs[fall]), right - 2 * _CROSS - 1) + _CROSS + 0.5
        if x + _CROSS + 1 < right - 1:
            items.append(line((x + _CROSS + 1, middle), (right, middle), stroke="faint", width=1))
        for slope in (-1, 1):
            ends = ((x - _CROSS, middle - slope * _CROSS), (x + _CROSS, middle + slope * _CROSS))
            items.append(line(*ends, stroke="ink", width=1.3))
        words += f", wiped out in epoch {history.epochs[fall]}"
    else:
        words += f", {history.weights[-1][edge][op]:.3f} after epoch {history.epochs[-1]}"
    return Group(items=tuple(items), kind="row", data=(("op", history.ops[edge][op]),), title=words)


def _value(history: WeightHistory, edge: int, op: int, at: int | None) -> str:
    """The weight with two decimals, ``out`` for a candidate that is wiped out, a dash where nothing was recorded."""
    if at is None:
        return "–"
    survivors = history.survivors[at]
    if survivors is not None and not survivors[edge][op]:
        return "out"
    return f"{history.weights[at][edge][op]:.2f}"


def _short(value: str) -> str:
    """A value as the script reads it."""
    return {"–": "-", "out": "x"}.get(value) or str(round(100 * float(value)))


def color_scale(strongest: float) -> Scene:
    """The colors of the panels from a weight of 0 to the largest."""
    steps, wide = 10, 14.0
    x = _MARGIN + 12
    items: list[Item] = [Box(x=0, y=0, width=x + steps * wide + 46, height=22, fill="paper")]
    items.append(Label(x=_MARGIN, y=11, text="0", size=11, fill="muted"))
    for i in range(steps):
        items.append(Box(x=x + i * wide, y=4, width=wide, height=14, fill="other"))
        items.append(Box(x=x + i * wide, y=4, width=wide, height=14, fill="heat", opacity=i / (steps - 1)))
    items.append(Label(x=x + steps * wide + 6, y=11, text=f"{strongest:.2f}", size=11, fill="muted"))
    return Scene(width=x + steps * wide + 46, height=22, items=tuple(items), title=f"weights from 0 to {strongest:.2f}")
