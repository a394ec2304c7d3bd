"""What the histories of weights and of experts have in common: a cell type over the epochs of a search."""

from collections.abc import Iterable
from dataclasses import dataclass

from gradnas.arch import state_name
from gradnas.report.records.run_log import CellMixture, MixtureRecord

Survivors = tuple[tuple[bool, ...], ...]
"""Which candidates are active, edges by candidates."""

Course = list[tuple[int, CellMixture]]
"""(epoch, mixture) of one cell type, epochs rising."""


@dataclass(frozen=True, kw_only=True)
class CellHistory:
    """One cell type over the epochs.

    Args:
        kind: Cell type.
        edges: (node, state it reads) of each edge.
        epochs: Epochs, rising; each table has one entry for each.
        survivors: Which candidates are active; None where nothing is wiped out.
    """

    kind: str
    edges: tuple[tuple[int, int], ...]
    epochs: tuple[int, ...]
    survivors: tuple[Survivors | None, ...]

    def edge_name(self, edge: int) -> str:
        """An edge by its states: ``s0 → n1``."""
        return edge_name(self.edges[edge])

    def fall(self, edge: int, op: int) -> int | None:
        """The position in ``epochs`` from which on the candidate is active no more; None for one that survived."""
        out = [table is not None and not table[edge][op] for table in self.survivors]
        fall = len(out)
        while fall and out[fall - 1]:
            fall -= 1
        return fall if fall < len(out) else None


def edge_name(edge: tuple[int, int]) -> str:
    """(node, state it reads) as ``s0 → n1``."""
    node, source = edge
    return f"{state_name(source)} → n{node}"


def courses(mixtures: tuple[MixtureRecord, ...]) -> dict[str, Course]:
    """The course of each cell type of the last record; an epoch that stands twice counts with its last record."""
    by_epoch = {record.epoch: record.cells for record in mixtures}
    return {
        kind: [(epoch, by_epoch[epoch][kind]) for epoch in sorted(by_epoch) if kind in by_epoch[epoch]]
        for kind in (mixtures[-1].cells if mixtures else ())
    }


def alike(course: Iterable[tuple[int, CellMixture]], last: CellMixture) -> Course:
    """The epochs with the edges and candidates of the last one; tables of others cannot stand beside them."""
    return [(epoch, cell) for epoch, cell in course if (cell.edges, cell.edge_ops) == (last.edges, last.edge_ops)]
