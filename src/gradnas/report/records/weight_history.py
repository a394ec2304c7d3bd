"""How the mixing weights of the edges of a cell type developed."""

from dataclasses import dataclass

from gradnas.arch import state_name
from gradnas.report.records.run_log import CellMixture, MixtureRecord
from gradnas.report.records.would_be import WouldBe


@dataclass(frozen=True, kw_only=True)
class WeightHistory:
    """The mixing weights of one cell type over the epochs.

    Args:
        kind: Cell type.
        edges: (node, state it reads) of each edge.
        ops: Candidates of each edge.
        epochs: Epochs, rising; ``weights`` and ``survivors`` have one entry for each.
        weights: Mixing weights, edges by candidates.
        survivors: Which candidates are active, edges by candidates; None where nothing is wiped out.
    """

    kind: str
    edges: tuple[tuple[int, int], ...]
    ops: tuple[tuple[str, ...], ...]
    epochs: tuple[int, ...]
    weights: tuple[tuple[tuple[float, ...], ...], ...]
    survivors: tuple[tuple[tuple[bool, ...], ...] | None, ...]

    def edge_name(self, edge: int) -> str:
        """An edge by its states: ``s0 → n1``."""
        return edge_name(self.edges[edge])

    def strongest(self) -> float:
        """The largest weight of all edges and epochs; 1 when all are zero."""
        return max((weight for table in self.weights for row in table for weight in row), default=0.0) or 1.0

    def fall(self, edge: int, op: int) -> int | None:
        """The position in ``epochs`` from which on the candidate is wiped out; None for one that never was."""
        out = [table is not None and not table[edge][op] for table in self.survivors]
        fall = len(out)
        while fall and out[fall - 1]:
            fall -= 1
        return fall if fall < len(out) else None


def edge_name(edge: tuple[int, int]) -> str:
    """(node, state it reads) as ``s0 → n1``."""
    node, source = edge
    return f"{state_name(source)} → n{node}"


def weight_histories(mixtures: tuple[MixtureRecord, ...]) -> tuple[WeightHistory, ...]:
    """One history per cell type of the last epoch.

    An epoch that stands twice counts with its last record; epochs with other edges or candidates than the last are left
    out.
    """
    by_epoch = {record.epoch: record.cells for record in mixtures}
    histories = []
    for kind, last in mixtures[-1].cells.items() if mixtures else ():
        alike = [
            (epoch, cell)
            for epoch in sorted(by_epoch)
            if (cell := by_epoch[epoch].get(kind)) is not None
            and (cell.edges, cell.edge_ops) == (last.edges, last.edge_ops)
        ]
        histories.append(_history(kind, last, alike))
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


def _history(kind: str, last: CellMixture, alike: list[tuple[int, CellMixture]]) -> WeightHistory:
    return WeightHistory(
        kind=kind,
        edges=last.edges,
        ops=last.edge_ops,
        epochs=tuple(epoch for epoch, _ in alike),
        weights=tuple(cell.weights for _, cell in alike),
        survivors=tuple(cell.survivors for _, cell in alike),
    )
