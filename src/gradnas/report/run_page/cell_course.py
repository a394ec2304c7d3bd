"""The cells that a search would have ended with, epoch by epoch."""

from collections.abc import Mapping
from dataclasses import dataclass

from gradnas.arch import CellType
from gradnas.report.records.run_folder import RunFolder
from gradnas.report.records.would_be import WouldBe, changes, from_genotype


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A would-be cell and the epochs after which it is the one."""

    cell: WouldBe
    epochs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CellCourse:
    """The epochs of a search.

    Args:
        epochs: Epochs of which something is known, rising.
        shown: The one to show first: the last, or the one whose architecture an early stop returned.
        frames: The distinct would-be cells of each cell type, in the order in which they come up.
        changes: What changed, in a sentence, by epoch; epochs in which nothing did, or nothing is known, have none.
    """

    epochs: tuple[int, ...]
    shown: int
    frames: tuple[Frame, ...]
    changes: tuple[tuple[int, str], ...]

    def at(self, kind: str, epoch: int) -> WouldBe | None:
        """The would-be cell of a type after an epoch; None where it is not known."""
        return next((f.cell for f in self.frames if f.cell.kind == kind and epoch in f.epochs), None)


def cell_course(run: RunFolder) -> CellCourse | None:
    """The course of a run; None without ``alphas.jsonl``.

    An epoch that stands twice, because a run was resumed, counts with its last record.
    """
    by_epoch = {record.epoch: record for record in run.mixtures if record.returned is None}
    if not by_epoch:
        return None
    ops = {op for record in by_epoch.values() for cell in record.cells.values() for row in cell.edge_ops for op in row}
    cells = {
        epoch: by_epoch[epoch].would_be or from_genotype(by_epoch[epoch].genotype, run.found, ops)
        for epoch in sorted(by_epoch)
    }
    epochs = tuple(cells)
    returned = run.mixtures[-1].returned
    frames: dict[WouldBe, list[int]] = {}
    for kind in (kind.value for kind in CellType):
        for epoch in epochs:
            if kind in cells[epoch]:
                frames.setdefault(cells[epoch][kind], []).append(epoch)
    return CellCourse(
        epochs=epochs,
        shown=returned if returned in cells else epochs[-1],
        frames=tuple(Frame(cell=cell, epochs=tuple(shown)) for cell, shown in frames.items()),
        changes=_changes(cells),
    )


def _changes(cells: Mapping[int, Mapping[str, WouldBe]]) -> tuple[tuple[int, str], ...]:
    said = []
    last: dict[str, WouldBe] = {}
    for epoch, now in cells.items():
        parts = [
            f"{kind} cell: {', '.join(words)}"
            for kind, cell in now.items()
            if kind in last and (words := changes(last[kind], cell))
        ]
        if parts:
            said.append((epoch, f"{'; '.join(parts)}."))
        last |= now
    return tuple(said)
