"""The mixing weights of one edge over the epochs: a heat map of candidates by epochs."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from gradnas.report.drawing.line_chart import ticks
from gradnas.report.drawing.scene import Box, Group, Item, Label, Scene, line, shortened
from gradnas.report.records.weight_history import WeightHistory

_MARGIN = 8.0
_TOP = 34.0
_ROW = 16.0
_NAMES = 100.0  # for the names of candidates
_PLOT = 168.0
_VALUE = 34.0  # for the weight of one epoch, right of the plot
_LONGEST_NAME = 16
_LEVELS = (
    20  # shades of the color; epochs that follow each other in one shade are one rectangle, so that pages stay small
)


def weight_panel(
    history: WeightHistory, edge: int, *, kept: Collection[int], shown: int, epochs: Sequence[int]
) -> Scene:
    """A row per candidate, a column per epoch; the stronger the color, the larger the weight.

    Rows of candidates that the cell keeps are bold and marked. The row of one that is wiped out ends in a cross and a
    line. A frame stands on one epoch, whose weights are written on the right. For a script that moves it, the frame is
    a group of class ``now`` with ``data-epoch`` and ``data-step``, the width of an epoch, and the weight of a row is
    one of class ``weight`` with ``data-values``, one for each epoch of ``epochs``, between spaces.

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
    places = {epoch: at for at, epoch in enumerate(history.epochs)}
    strongest = history.strongest()
    height = _TOP + len(ops) * _ROW + 26
    items: list[Item] = [Box(x=0, y=0, width=width, height=height, fill="paper")]
    items.append(Label(x=_MARGIN, y=16, text=history.edge_name(edge), size=13, bold=True))
    chosen = ", ".join(names[op] for op in sorted(kept))
    outcome = f"keeps {chosen}" if kept else "not in the cell"
    items.append(Label(x=width - _MARGIN, y=16, text=outcome, size=11, anchor="end", fill="ink" if kept else "muted"))
    for op, name in enumerate(names):
        y = _TOP + op * _ROW
        if op in kept:
            items.append(Box(x=_MARGIN, y=y + _ROW / 2 - 3, width=6, height=6, radius=3, fill="mark"))
        items.append(Label(x=_MARGIN + 10, y=y + _ROW / 2, text=name, size=11, bold=op in kept))
        items.append(_row(history, edge, op, strongest, left, y, step))
        values = [_value(history, edge, op, places.get(epoch)) for epoch in epochs]
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
    for tick in ticks(first, last, 5, whole=True):
        if first <= tick <= last:
            x = left + (tick + 0.5 - first) * step
            items.append(line((x, bottom + 2), (x, bottom + 5), stroke="wire", width=1))
            items.append(Label(x=x, y=bottom + 13, text=f"{tick:g}", size=10.5, fill="muted", anchor="middle"))
    items.append(Label(x=width - _MARGIN, y=bottom + 13, text="epoch", size=10.5, fill="muted", anchor="end"))
    wide = max(step, 3.0)
    frame = Box(
        x=left + (shown + 0.5 - first) * step - wide / 2,
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


def _row(history: WeightHistory, edge: int, op: int, strongest: float, left: float, y: float, step: float) -> Group:
    first, fall = history.epochs[0], history.fall(edge, op)
    alive = history.epochs if fall is None else history.epochs[:fall]
    levels = [round(_LEVELS * max(0.0, min(1.0, table[edge][op] / strongest))) for table in history.weights]

    def stretches(*, alike: bool) -> Iterator[tuple[int, Box]]:
        """(position, box) of the runs of epochs without a gap, where asked for also of one shade."""
        breaks = [
            at
            for at, (before, epoch) in enumerate(pairwise(alive), start=1)
            if epoch != before + 1 or (alike and levels[at] != levels[at - 1])
        ]
        for start, end in pairwise([0, *breaks, len(alive)]) if alive else ():
            x, width = left + (alive[start] - first) * step, (alive[end - 1] + 1 - alive[start]) * step
            yield start, Box(x=x, y=y + 1, width=width, height=_ROW - 2, fill="other")

    items: list[Item] = [box for _, box in stretches(alike=False)]
    items += [
        replace(box, fill="heat", opacity=levels[at] / _LEVELS) for at, box in stretches(alike=True) if levels[at]
    ]
    words = f"{history.ops[edge][op]}: {history.weights[0][edge][op]:.3f} after epoch {first}"
    if fall is not None:
        x, middle = left + (history.epochs[fall] - first) * step, y + _ROW / 2
        items.append(line((x + 8, middle), (left + _PLOT, middle), stroke="faint", width=1))
        for slope in (-1, 1):
            items.append(line((x + 1, middle - 3 * slope), (x + 7, middle + 3 * slope), stroke="ink", width=1.3))
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
