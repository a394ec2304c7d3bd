"""How the mixing weights of the edges of a cell type developed."""

from dataclasses import dataclass

from gradnas.report.records.cell_history import CellHistory, alike, courses
from gradnas.report.records.run_log import CellMixture, MixtureRecord
from gradnas.report.records.would_be import WouldBe


@dataclass(frozen=True, kw_only=True)
class WeightHistory(CellHistory):
    """The mixing weights of one cell type over the epochs.

    Args:
        ops: Candidates of each edge.
        weights: Mixing weights, edges by candidates.
    """

    ops: tuple[tuple[str, ...], ...]
    weights: tuple[tuple[tuple[float, ...], ...], ...]

    def strongest(self) -> float:
        """The largest weight of all edges and epochs; 1 when all are zero."""
        return max((weight for table in self.weights for row in table for weight in row), default=0.0) or 1.0


def weight_histories(mixtures: tuple[MixtureRecord, ...]) -> tuple[WeightHistory, ...]:
    """One history per cell type of the last epoch.

    An epoch that stands twice counts with its last record; epochs with other edges or candidates than the last are left
    out.
    """
    histories = []
    for kind, course in courses(mixtures).items():
        last = mixtures[-1].cells[kind]
        told = alike(course, last)
        histories.append(
            WeightHistory(
                kind=kind,
                edges=last.edges,
                ops=last.edge_ops,
                epochs=tuple(epoch for epoch, _ in told),
                weights=tuple(cell.weights for _, cell in told),
                survivors=tuple(cell.survivors for _, cell in told),
            )
        )
    return tuple(histories)


def kept(mixture: CellMixture | WeightHistory, cell: WouldBe | None) -> frozenset[tuple[int, int]]:
    """(edge, candidate) that stand in a cell; none without one."""
    ops = mixture.edge_ops if isinstance(mixture, CellMixture) else mixture.ops
    wires = {
        (node, leaf.input_ids[0], leaf.op)
        for node, edges in enumerate(cell.nodes if cell is not None else ())
        for wire in edges
        for leaf in wire.parts or (wire,)
    }
    return frozenset(
        (e, o)
        for e, (node, source) in enumerate(mixture.edges)
        for o, op in enumerate(ops[e])
        if (node, source, op) in wires
    )
