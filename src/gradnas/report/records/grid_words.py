"""A macro grid in words and in the cells of a table."""

from gradnas.foundation.sizes import size_text
from gradnas.report.records.grid import Grid, GridRow
from gradnas.report.records.quantities import millions, percent, time_text

SIZES = ("reductions", "cells", "nodes")
COLUMNS = ("validation", "epoch", "training", "MACs", "parameters", "peak memory", "time")
"""The columns behind those of the size."""

UNKNOWN = "–"


def sizes_of(row: GridRow) -> tuple[str, ...]:
    """What :data:`SIZES` name."""
    return tuple(str(getattr(row.combination, name)) for name in SIZES)


def cells_of(row: GridRow) -> tuple[str, ...]:
    """What :data:`COLUMNS` name; a dash for what is not known."""
    shown = (
        None if row.val_top1 is None else percent(row.val_top1),
        None if row.val_epoch is None else f"{row.val_epoch:g}",
        None if row.train_top1 is None else percent(row.train_top1),
        None if row.macs is None else millions(row.macs),
        None if row.params is None else millions(row.params),
        None if row.peak_memory_bytes is None else size_text(row.peak_memory_bytes),
        None if row.time_s is None else time_text(row.time_s),
    )
    return tuple(UNKNOWN if text is None else text for text in shown)


def marks_of(row: GridRow) -> str:
    """What a row is among the others: the best, on the Pareto front."""
    return ", ".join([*(["best"] if row.best else []), *(["Pareto front"] if row.on_front else [])])


def grid_sentence(grid: Grid) -> str:
    """How many sizes were searched, and which is the best."""
    counts = f"Of {grid.total} size{'' if grid.total == 1 else 's'} of the network {len(grid.rows)}"
    words = f"{counts} {'was' if len(grid.rows) == 1 else 'were'} searched, and what was found was trained briefly."
    best = next((row for row in grid.rows if row.best), None)
    if best is None or best.val_top1 is None:
        return words
    return f"{words} The best validation accuracy, {percent(best.val_top1)}, has the one with {best.combination}."
