"""What became of the experts of a search that wipes out: who was active when, and how far behind the leader."""

from dataclasses import dataclass

from gradnas.report.records.cell_history import CellHistory, Course, Survivors, alike, courses
from gradnas.report.records.run_log import MixtureRecord


@dataclass(frozen=True, kw_only=True)
class ExpertHistory(CellHistory):
    """The experts of one cell type over the epochs of which the survivors are known.

    Args:
        ops: Experts of each edge.
        log_weights: Log-weights, edges by ops, 0 for the leader of an edge; None where they could not be read.
        weights: Mixing weights after the last of the epochs.
    """

    survivors: tuple[Survivors, ...]
    ops: tuple[str, ...]
    log_weights: tuple[tuple[tuple[float, ...], ...] | None, ...]
    weights: tuple[tuple[float, ...], ...]

    def count(self, at: int, edge: int) -> int:
        """How many experts of an edge are active after ``epochs[at]``."""
        return sum(self.survivors[at][edge])

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
    histories = (_history(kind, course) for kind, course in courses(mixtures).items())
    return tuple(history for history in histories if history is not None)


def _history(kind: str, course: Course) -> ExpertHistory | None:
    known = [(epoch, cell) for epoch, cell in course if cell.survivors is not None]
    if not known:
        return None
    last = known[-1][1]
    told = alike(known, last)
    return ExpertHistory(
        kind=kind,
        edges=last.edges,
        ops=last.ops,
        epochs=tuple(epoch for epoch, _ in told),
        survivors=tuple(cell.survivors for _, cell in told if cell.survivors is not None),
        log_weights=tuple(cell.log_weights for _, cell in told),
        weights=last.weights,
    )
