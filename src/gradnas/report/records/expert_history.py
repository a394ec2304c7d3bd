"""What became of the experts of a search that wipes out: who was active when, and how far behind the leader."""

from dataclasses import dataclass

from gradnas.arch import state_name
from gradnas.report.records.run_log import CellMixture, MixtureRecord


@dataclass(frozen=True, kw_only=True)
class ExpertHistory:
    """The experts of one cell type over the epochs of which the survivors are known.

    Args:
        kind: Cell type.
        edges: (node, state it reads) of each edge.
        ops: Experts of each edge.
        epochs: Epochs, rising; the tables below have one entry for each.
        survivors: Which experts are active, edges by ops.
        log_weights: Log-weights, edges by ops, 0 for the leader of an edge; None where they could not be read.
        weights: Mixing weights after the last of the epochs.
    """

    kind: str
    edges: tuple[tuple[int, int], ...]
    ops: tuple[str, ...]
    epochs: tuple[int, ...]
    survivors: tuple[tuple[tuple[bool, ...], ...], ...]
    log_weights: tuple[tuple[tuple[float, ...], ...] | None, ...]
    weights: tuple[tuple[float, ...], ...]

    def edge_name(self, edge: int) -> str:
        """An edge as in the weight maps: ``s0 → n1``."""
        node, source = self.edges[edge]
        return f"{state_name(source)} → n{node}"

    def count(self, at: int, edge: int) -> int:
        """How many experts of an edge are active after ``epochs[at]``."""
        return sum(self.survivors[at][edge])

    def fall(self, edge: int, op: int) -> int | None:
        """The position in ``epochs`` from which on the expert is active no more; None for one that survived."""
        active = [at for at, table in enumerate(self.survivors) if table[edge][op]]
        after = active[-1] + 1 if active else 0
        return after if after < len(self.epochs) else None

    def first_fall(self) -> int | None:
        """The position in ``epochs`` of the first fall of all."""
        falls = [self.fall(e, i) for e in range(len(self.edges)) for i in range(len(self.ops))]
        return min((fall for fall in falls if fall is not None), default=None)

    def leader(self, edge: int) -> int:
        """The expert with the largest weight in the end, of equal ones the first."""
        return max(range(len(self.ops)), key=lambda op: self.weights[edge][op])


def expert_histories(mixtures: tuple[MixtureRecord, ...]) -> tuple[ExpertHistory, ...]:
    """One history per cell type of the last epoch whose experts were recorded; none for other strategies.

    An epoch that stands twice counts with its last record; epochs with other edges or ops than the last are left out.
    """
    by_epoch = {record.epoch: record.cells for record in mixtures}
    histories = []
    for kind in mixtures[-1].cells if mixtures else ():
        cells = [(epoch, by_epoch[epoch][kind]) for epoch in sorted(by_epoch) if kind in by_epoch[epoch]]
        history = _history(kind, cells)
        if history is not None:
            histories.append(history)
    return tuple(histories)


def _history(kind: str, cells: list[tuple[int, CellMixture]]) -> ExpertHistory | None:
    known = [(epoch, cell, cell.survivors) for epoch, cell in cells if cell.survivors is not None]
    if not known:
        return None
    last = known[-1][1]
    alike = [item for item in known if item[1].edges == last.edges and item[1].ops == last.ops]
    return ExpertHistory(
        kind=kind,
        edges=last.edges,
        ops=last.ops,
        epochs=tuple(epoch for epoch, _, _ in alike),
        survivors=tuple(survivors for _, _, survivors in alike),
        log_weights=tuple(cell.log_weights for _, cell, _ in alike),
        weights=last.weights,
    )
