"""The combinations of a macro grid: validation accuracy against multiply-adds, and the Pareto front of both."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradnas.foundation.files import write_atomic
from gradnas.report.drawing.cost_plane import CostPlane, Place, along
from gradnas.report.drawing.scene import Box, Group, Item, Scene, line
from gradnas.report.drawing.svg import to_svg
from gradnas.report.records.grid import Grid, GridRow, read_grid
from gradnas.report.records.quantities import millions, percent

_RADIUS = 5.0
_MOST_NAMED = 40  # more names than that leave no room for any


def draw_grid(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path | None:
    """Write the chart of the grid of a run folder as SVG.

    Args:
        folder: The run folder.
        path: The file; its folder must exist.

    Returns:
        The path; None, and nothing is written, where no combination has been measured.
    """
    grid = read_grid(Path(folder), [])
    scene = None if grid is None else grid_chart(grid)
    if scene is None:
        return None
    write_atomic(path, to_svg(scene))
    return Path(path)


@dataclass(frozen=True)
class _Point:
    row: GridRow
    macs: float
    top1: float

    @property
    def words(self) -> str:
        said = [percent(self.top1), f"{millions(self.macs)} MACs"]
        said += ["on the Pareto front"] if self.row.on_front else []
        said += ["chosen"] if self.row.best else []
        return f"{self.row.combination}: {', '.join(said)}"


def grid_chart(grid: Grid) -> Scene | None:
    """The combinations, those on the front filled and joined, the chosen one in the color of marks; None without any.

    Each is a group of class ``point`` with ``data-name``, ``data-front`` and ``data-best``.
    """
    points = [
        _Point(row, row.macs, row.val_top1) for row in grid.rows if row.macs is not None and row.val_top1 is not None
    ]
    if not points:
        return None
    plane = CostPlane(
        [point.macs for point in points],
        [point.top1 for point in points],
        units=((1e6, "M"), (1e3, "k"), (1.0, "one by one")),
        title="Validation accuracy against multiply-adds",
        axis="MACs of one image",
        accuracy="validation accuracy, %",
        front="Pareto front",
    )
    front = sorted((point for point in points if point.row.on_front), key=lambda point: point.macs)
    corners = plane.steps([(point.macs, point.top1) for point in front]) if front else []
    items: list[Item] = plane.frame()
    items += [Group(items=(line(*corners, stroke="wire", width=2.4),), kind="front")] if front else []
    items += [_mark(point, plane) for point in sorted(points, key=lambda point: (point.row.on_front, point.row.best))]
    items += _names(points, plane, corners)
    best = "; ".join(point.words for point in front)
    title = f"Validation accuracy against multiply-adds: {best}"
    return Scene(width=plane.width, height=plane.height, items=tuple(items), title=title)


def _mark(point: _Point, plane: CostPlane) -> Group:
    x, y = plane.x(point.macs), plane.y(point.top1)
    color = "mark" if point.row.best else "first"
    box = Box(
        x=x - _RADIUS,
        y=y - _RADIUS,
        width=2 * _RADIUS,
        height=2 * _RADIUS,
        radius=_RADIUS,
        fill=color if point.row.on_front else "paper",
        stroke=color,
        line=1.6,
    )
    data = (
        ("name", str(point.row.combination)),
        ("front", str(point.row.on_front).lower()),
        ("best", str(point.row.best).lower()),
    )
    return Group(items=(box,), kind="point", data=data, title=point.words)


def _names(points: Sequence[_Point], plane: CostPlane, corners: Sequence[Place]) -> list[Group]:
    """``reductions·cells·nodes`` beside each mark; of many only those on the front have room."""
    named = points if len(points) <= _MOST_NAMED else [point for point in points if point.row.on_front]
    sizes = [point.row.combination for point in named]
    return plane.names(
        [(plane.x(point.macs), plane.y(point.top1)) for point in named],
        [f"{size.reductions}·{size.cells}·{size.nodes}" for size in sizes],
        [str(size) for size in sizes],
        radius=_RADIUS,
        avoided=along(corners),
    )
