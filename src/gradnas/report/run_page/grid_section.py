"""The part of the page on a macro grid: what each size has given."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradnas.report.records.grid import Grid
from gradnas.report.records.grid_words import COLUMNS, SIZES, cells_of, grid_sentence, marks_of, sizes_of
from gradnas.report.run_page.grid_chart import grid_chart
from gradnas.report.web_page import figure

if TYPE_CHECKING:
    from markupsafe import Markup


_BETWEEN = " · "


@dataclass(frozen=True, kw_only=True)
class GridSection:
    """What the page shows of a grid.

    Args:
        words: A sentence on it.
        chart: Accuracy against multiply-adds; None while nothing is measured.
        columns: Names of the columns.
        rows: (size, other cells, what it is among the others) of each complete combination.
        skipped: (combination, reason) of each that cannot be built.
    """

    words: str
    chart: "Markup | None"
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...], str], ...]
    skipped: tuple[tuple[str, str], ...]


def grid_section(grid: Grid | None) -> GridSection | None:
    """The section of a grid; None for a run without one."""
    if grid is None:
        return None
    scene = grid_chart(grid)
    return GridSection(
        words=grid_sentence(grid),
        chart=None if scene is None else figure(scene),
        columns=(_BETWEEN.join(SIZES), *COLUMNS),
        rows=tuple((_BETWEEN.join(sizes_of(row)), cells_of(row), marks_of(row)) for row in grid.rows),
        skipped=tuple((str(combination), reason) for combination, reason in grid.skipped),
    )
