"""Mixing weights of the supergraph as heat maps, and their entropy over the epochs."""

import math

from gradnas.arch import CellType, ModelDesc
from gradnas.report.drawing.heat_map import heat_map
from gradnas.report.drawing.line_chart import Series, line_chart
from gradnas.report.drawing.scene import Scene
from gradnas.report.records.run_log import CellMixture, MixtureRecord
from gradnas.report.records.weight_history import edge_name, kept
from gradnas.report.records.would_be import of_cell


def weight_maps(mixtures: tuple[MixtureRecord, ...], found: ModelDesc | None) -> tuple[Scene, ...]:
    """A heat map per cell type of the last epoch, the operations of the found cell framed.

    None for a cell whose edges have different candidates, which have no columns in common.
    """
    cells = mixtures[-1].cells if mixtures else {}
    return tuple(_weight_map(cell, kind, found) for kind, cell in cells.items() if len(set(cell.edge_ops)) == 1)


def entropy_chart(mixtures: tuple[MixtureRecord, ...]) -> Scene | None:
    """Mean entropy over the epochs under its bound, ln(number of candidates)."""
    by_epoch = {record.epoch: record.entropy for record in mixtures}
    n_ops = max((len(cell.ops) for record in mixtures for cell in record.cells.values()), default=0)
    bound = (math.log(n_ops), f"undecided: ln {n_ops} = {math.log(n_ops):.2f}") if n_ops > 1 else None
    points = tuple(sorted(by_epoch.items()))
    series = Series(name="mean entropy", color="first", points=points)
    return line_chart([series], title="Entropy of the mixing weights", unit=" nats", bound=bound, zero=True)


def skips_chart(mixtures: tuple[MixtureRecord, ...]) -> Scene | None:
    """Skip connections that the regular cell would hold if the search ended after each epoch."""
    points = tuple(sorted({record.epoch: record.skips for record in mixtures}.items()))
    series = Series(name="skips", color="third", points=points)
    return line_chart([series], title="Skip connections in the would-be regular cell", zero=True, whole=True)


def drop_chart(mixtures: tuple[MixtureRecord, ...]) -> Scene | None:
    """What discretization would cost after each epoch, in points of validation accuracy."""
    points = tuple(sorted({record.epoch: record.drop for record in mixtures}.items()))
    series = Series(name="loss", color="second", points=points)
    return line_chart([series], title="Accuracy lost by discretization", unit=" points", zero=True)


def eigenvalue_chart(mixtures: tuple[MixtureRecord, ...]) -> Scene | None:
    """The dominant Hessian eigenvalue over the epochs."""
    points = tuple(sorted({record.epoch: record.eigenvalue for record in mixtures}.items()))
    series = Series(name="eigenvalue", color="first", points=points)
    return line_chart([series], title="Dominant Hessian eigenvalue of the validation loss", zero=True)


def _weight_map(cell: CellMixture, kind: str, found: ModelDesc | None) -> Scene:
    strongest = max(max(row) for row in cell.weights)
    rows = [edge_name(edge) for edge in cell.edges]
    shares = [[weight / strongest if strongest > 0 else 0.0 for weight in row] for row in cell.weights]
    texts = [[f"{weight:.2f}" for weight in row] for row in cell.weights]
    desc = next((d for t in CellType if t.value == kind and found is not None and (d := found.first_cell(t))), None)
    marked = kept(cell, None if desc is None else of_cell(desc))
    return heat_map(rows, cell.ops, shares, texts, title=f"{kind} cell: weight of each candidate", marked=marked)
