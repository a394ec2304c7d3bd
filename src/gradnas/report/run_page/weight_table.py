"""The mixing weights of all edges in the end, as tables."""

from dataclasses import dataclass

from gradnas.arch import ModelDesc
from gradnas.report.drawing.shades import LEVELS, level
from gradnas.report.records.cell_history import edge_name
from gradnas.report.records.run_log import CellMixture, MixtureRecord
from gradnas.report.records.weight_history import kept
from gradnas.report.records.would_be import of_cell
from gradnas.report.run_page.first_cells import first_cells


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A weight: its words, its share of the largest one of the table in percent, whether the found cell keeps it."""

    text: str
    share: int
    kept: bool


@dataclass(frozen=True, kw_only=True)
class WeightTable:
    """The weights of a cell type: candidates, and the name and the weights of each edge."""

    kind: str
    ops: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Weight, ...]], ...]


def weight_tables(mixtures: tuple[MixtureRecord, ...], found: ModelDesc | None) -> tuple[WeightTable, ...]:
    """A table per cell type of the last record.

    None for a cell whose edges have different candidates, which have no columns in common.
    """
    cells = mixtures[-1].cells if mixtures else {}
    return tuple(_table(cell, kind, found) for kind, cell in cells.items() if len(set(cell.edge_ops)) == 1)


def _table(cell: CellMixture, kind: str, found: ModelDesc | None) -> WeightTable:
    strongest = max(max(row) for row in cell.weights)
    desc = next((each for each in first_cells(found) if each.cell_type.value == kind), None)
    marked = kept(cell, None if desc is None else of_cell(desc))
    rows = (
        tuple(
            Weight(
                text=f"{weight:.2f}",
                share=100 * level(weight / strongest if strongest > 0 else 0.0) // LEVELS,
                kept=(e, o) in marked,
            )
            for o, weight in enumerate(row)
        )
        for e, row in enumerate(cell.weights)
    )
    return WeightTable(kind=kind, ops=cell.ops, rows=tuple(zip(map(edge_name, cell.edges), rows, strict=True)))
