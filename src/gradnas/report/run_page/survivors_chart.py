"""How many experts are left on each edge, as a heat map over the epochs."""

from dataclasses import replace
from itertools import pairwise

from gradnas.report.drawing.heat_map import DARK_ENOUGH
from gradnas.report.drawing.line_chart import ticks
from gradnas.report.drawing.scene import Box, Group, Item, Label, Scene, line, shortened, text_width
from gradnas.report.records.expert_history import ExpertHistory

_EPOCH = 13.0  # width of an epoch that still holds a digit
_PLOT = (390.0, 1000.0)  # least and largest width of all epochs together
_ROW = 22.0
_NODE_GAP = 6.0  # between the edges of two nodes
_TOP = 52.0
_MARGIN = 12.0
_LONGEST_NAME = 18


def survivors_chart(history: ExpertHistory) -> Scene:
    """A row per edge; the epochs between two falls are one field with its number of active experts.

    One field for all epochs with the same number keeps the numbers legible however many epochs there are. Each field
    is a group of class ``field`` with ``data-edge``, ``data-from``, ``data-to`` (epochs) and ``data-active``.
    """
    n_edges, n_ops = len(history.edges), len(history.ops)
    ends = [_end(history, edge) for edge in range(n_edges)]
    left = _MARGIN + max((text_width(history.edge_name(e), 11) for e in range(n_edges)), default=0.0) + 8
    first, last = history.epochs[0], history.epochs[-1]
    plot = min(_PLOT[1], max(_PLOT[0], _EPOCH * min(1000, last + 1 - first)))
    right = left + plot
    title = f"{history.kind} cell: active experts of each edge"
    width = max(right + 8 + max((text_width(text, 11) for text in ends), default=0.0), text_width(title, 13) + _MARGIN)
    width += _MARGIN

    def px(epoch: float) -> float:
        """Where an epoch begins; it is as wide as every other."""
        return left + (epoch - first) / (last + 1 - first) * plot

    items: list[Item] = [Label(x=_MARGIN, y=16, text=title, size=13, bold=True)]
    items.append(Label(x=right + 8, y=_TOP - 12, text="in the end", size=11, fill="muted"))
    width = max(width, right + 8 + text_width("in the end", 11) + _MARGIN)
    y = _TOP
    for edge in range(n_edges):
        y += _NODE_GAP if edge and history.edges[edge][0] != history.edges[edge - 1][0] else 0.0
        middle = y + _ROW / 2
        items.append(Label(x=left - 7, y=middle, text=history.edge_name(edge), size=11, anchor="end"))
        items += [_field(history, edge, run, (px(run[1]), px(run[2] + 1)), y, n_ops) for run in _runs(history, edge)]
        items.append(Label(x=right + 8, y=middle, text=ends[edge], size=11))
        y += _ROW
    for tick in ticks(first, last, 6, whole=True):
        if first <= tick <= last:
            x = (px(tick) + px(tick + 1)) / 2
            items.append(line((x, y + 2), (x, y + 6), stroke="wire", width=1))
            items.append(Label(x=x, y=y + 15, text=f"{tick:g}", size=11, fill="muted", anchor="middle"))
    items.append(Label(x=right + 8, y=y + 15, text="epoch", size=11, fill="muted"))
    height = y + 24 + _MARGIN
    counts = ", ".join(f"{history.edge_name(e)} {history.count(-1, e)}" for e in range(n_edges))
    paper = Box(x=0, y=0, width=width, height=height, fill="paper")
    return Scene(width=width, height=height, items=(paper, *items), title=f"{title}, in the end: {counts}")


def _end(history: ExpertHistory, edge: int) -> str:
    """The op that alone is left, else how many are."""
    left = [op for op, active in zip(history.ops, history.survivors[-1][edge], strict=True) if active]
    return shortened(left[0], _LONGEST_NAME) if len(left) == 1 else f"{len(left)} left"


def _runs(history: ExpertHistory, edge: int) -> list[tuple[int, int, int]]:
    """(position, first epoch, last epoch) of the runs of epochs without a gap and without a fall."""
    starts = [0]
    for at, (before, epoch) in enumerate(pairwise(history.epochs), start=1):
        if epoch != before + 1 or history.survivors[at][edge] != history.survivors[at - 1][edge]:
            starts.append(at)
    return [
        (start, history.epochs[start], history.epochs[end - 1])
        for start, end in zip(starts, [*starts[1:], len(history.epochs)], strict=True)
    ]


def _field(
    history: ExpertHistory, edge: int, run: tuple[int, int, int], x: tuple[float, float], y: float, n_ops: int
) -> Group:
    at, first, last = run
    active = history.count(at, edge)
    share = active / n_ops
    gap = min(1.0, (x[1] - x[0]) / 4)
    width = x[1] - x[0] - gap
    square = Box(x=x[0] + gap / 2, y=y + 0.5, width=width, height=_ROW - 1, radius=min(3.0, width / 3), fill="other")
    items: list[Item] = [square, replace(square, fill="heat", opacity=round(share, 3))]
    if text_width(str(active), 10.5) + 2 < width:
        color = "on-heat" if share >= DARK_ENOUGH else "ink"
        middle = ((x[0] + x[1]) / 2, y + _ROW / 2)
        items.append(Label(x=middle[0], y=middle[1], text=str(active), size=10.5, anchor="middle", fill=color))
    fallen = [op for i, op in enumerate(history.ops) if history.fall(edge, i) == at]
    when = f"epoch {first}" if first == last else f"epochs {first}–{last}"
    words = f"{history.edge_name(edge)}, {when}: {active} of {n_ops} active"
    words += f"; fell in epoch {first}: {', '.join(fallen)}" if fallen else ""
    data = (
        ("edge", history.edge_name(edge)),
        ("from", str(first)),
        ("to", str(last)),
        ("active", str(active)),
    )
    return Group(items=tuple(items), kind="field", data=data, title=words)
