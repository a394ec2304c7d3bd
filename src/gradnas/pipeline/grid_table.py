"""What the combinations of a macro grid have given: a row for each, the best, and those that no other one beats."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gradnas.costs import pareto_front
from gradnas.report.records.combination import Combination
from gradnas.training import Metrics, Score

_MIB = 2**20
COLUMNS = (
    *("reductions", "cells", "nodes", "train_top1", "train_epoch", "val_top1", "val_epoch"),
    *("macs", "params", "peak_memory_mib", "seconds"),
)
FRONT_COLUMNS = ("reductions", "cells", "nodes", "macs", "error")


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """What one combination has given.

    Args:
        reductions: Its cells that halve the map.
        cells: Its cells.
        nodes: Nodes of a cell.
        train_top1: Best training accuracy of the brief training in percent; None where none is a number.
        train_epoch: The epoch of it, counted from 0.
        val_top1: Best validation accuracy of the brief training, by which combinations are compared, likewise.
        val_epoch: The epoch of it.
        macs: Multiply-adds of the found network for one image.
        params: Its parameters.
        peak_memory_bytes: The most memory in use at once during search and training, see
            :class:`gradnas.costs.PeakMemory`; after an interruption since the run went on. None where it is not known.
        seconds: Time of search and training, over all processes that worked on them.
    """

    reductions: int
    cells: int
    nodes: int
    train_top1: float | None
    train_epoch: int | None
    val_top1: float | None
    val_epoch: int | None
    macs: int
    params: int
    peak_memory_bytes: int | None
    seconds: float

    @staticmethod
    def of(
        combination: Combination,
        trained: Metrics,
        *,
        macs: int,
        params: int,
        peak_memory_bytes: int | None,
        seconds: float,
    ) -> "GridRow":
        """The row of a combination whose found network was trained."""
        train_top1, train_epoch = _best((record.train, record.epoch) for record in trained)
        val_top1, val_epoch = _best((record.val, record.epoch) for record in trained)
        return GridRow(
            **asdict(combination),
            train_top1=train_top1,
            train_epoch=train_epoch,
            val_top1=val_top1,
            val_epoch=val_epoch,
            macs=macs,
            params=params,
            peak_memory_bytes=peak_memory_bytes,
            seconds=seconds,
        )

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "GridRow":
        """The row of :meth:`to_dict`."""
        return GridRow(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def combination(self) -> Combination:
        """Whose row it is."""
        return Combination(self.reductions, self.cells, self.nodes)

    @property
    def error(self) -> float | None:
        """Share of the validation images that are not recognized, from 0 to 1; None where it is not known."""
        return None if self.val_top1 is None else 1 - self.val_top1 / 100


def _best(scores: Iterable[tuple[Score | None, int]]) -> tuple[float | None, int | None]:
    """The highest accuracy and its epoch, of equal ones the earliest; what is no number does not count."""
    known = [(score.top1, epoch) for score, epoch in scores if score is not None and math.isfinite(score.top1)]
    return max(known, key=lambda score: score[0], default=(None, None))


def best_row(rows: Sequence[GridRow]) -> int:
    """The row with the highest validation accuracy; of equal ones the one with fewer multiply-adds, then the earlier.

    One without an accuracy is behind all others. ValueError for no row.
    """

    def rank(index: int) -> tuple[float, int, int]:
        error = rows[index].error
        return (math.inf if error is None else error, rows[index].macs, index)

    return min(range(len(rows)), key=rank)


def front_rows(rows: Sequence[GridRow]) -> tuple[int, ...]:
    """The rows that none beats in both error and multiply-adds, by rising multiply-adds; of equal ones the first."""
    points = [(float(row.macs), None if row.error is None else -row.error) for row in rows]
    return pareto_front(points, duplicates=False)


def table_text(rows: Sequence[GridRow]) -> str:
    """The rows as tab-separated values below the names of the columns; what is not known is empty."""
    return _tsv(
        COLUMNS,
        [
            (
                *(row.reductions, row.cells, row.nodes),
                *(_number(row.train_top1, 4), row.train_epoch, _number(row.val_top1, 4), row.val_epoch),
                *(row.macs, row.params),
                _number(None if row.peak_memory_bytes is None else row.peak_memory_bytes / _MIB, 1),
                _number(row.seconds, 3),
            )
            for row in rows
        ],
    )


def front_text(rows: Sequence[GridRow]) -> str:
    """The rows of the Pareto front as tab-separated values; errors are shares, from 0 to 1."""
    front = [rows[index] for index in front_rows(rows)]
    return _tsv(FRONT_COLUMNS, [(r.reductions, r.cells, r.nodes, r.macs, _number(r.error, 6)) for r in front])


def _tsv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, *([("" if cell is None else str(cell)) for cell in row] for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


def _number(value: float | None, decimals: int) -> str | None:
    return None if value is None else f"{value:.{decimals}f}"
