"""The rows of a comparison as text: for a terminal, a page and a spreadsheet."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from gradnas.report.comparison.rows import Row
from gradnas.report.comparison.run_statistics import Difference, Spread
from gradnas.report.records.plain_text import columns_of
from gradnas.report.records.quantities import millions, percent, time_text

NONE = "–"
"""Stands for what is not known."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Texts in columns; ``right`` says which columns hold numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[bool, ...]

    def width(self) -> int:
        """Columns of a terminal that it takes with a frame around each cell."""
        widths = [max(map(columns_of, column)) for column in zip(self.header, *self.rows, strict=True)]
        return sum(width + 3 for width in widths) + 1


def comparison_table(rows: Sequence[Row], *, brief: bool = False) -> Table:
    """One line per row: mean ± sample standard deviation over the runs.

    Columns that no row has a value for are left out.

    Args:
        rows: The rows.
        brief: For a narrow terminal: fewer columns, and means without their range.
    """
    columns: list[tuple[str, bool, Callable[[Row], str]]] = [
        ("method", False, lambda row: row.name),
        ("test accuracy, %", True, accuracy_text),
        ("runs", True, runs_text),
        ("seeds", False, lambda row: seeds_text(row.seeds)),
        ("vs random, points", True, lambda row: gain_text(row.gain)),
        ("parameters", True, lambda row: count_text(row.params)),
        ("MACs", True, lambda row: count_text(row.macs)),
        ("search", True, lambda row: duration_text(row.search_s)),
        ("retraining", True, lambda row: duration_text(row.retrain_s)),
        ("Pareto", False, lambda row: "front" if row.on_front else ""),
    ]
    if brief:
        short = ("method", "test accuracy, %", "runs", "vs random, points", "search")
        columns = [column for column in columns if column[0] in short]
        columns.insert(-1, ("MACs", True, lambda row: NONE if row.macs is None else millions(row.macs.mean)))
    elif len({machine for row in rows for machine in row.machines}) > 1:
        columns.append(("machine", False, lambda row: "; ".join(row.machines)))
    texts = [tuple(text(row) for _, _, text in columns) for row in rows]
    kept = [k for k in range(len(columns)) if any(line[k] not in ("", NONE) for line in texts)]
    return Table(
        header=tuple(columns[k][0] for k in kept),
        rows=tuple(tuple(line[k] for k in kept) for line in texts),
        right=tuple(columns[k][1] for k in kept),
    )


def accuracy_text(row: Row) -> str:
    """``98.33 ± 0.79``; a single run says so, a row without any says how far its runs are."""
    accuracy = row.accuracy
    if accuracy is None:
        return "; ".join(dict.fromkeys(result.state for result in row.results))
    return f"{accuracy.mean:.2f} {'(one run)' if accuracy.std is None else f'± {accuracy.std:.2f}'}"


def runs_text(row: Row) -> str:
    """How many runs the mean is of, and how many there are if that is another number."""
    n = len(row.tested)
    return str(n) if n == len(row.results) else f"{n} of {len(row.results)}"


def seeds_text(seeds: Sequence[int]) -> str:
    """``0–2, 7``: three and more in a row are written as a range."""
    parts: list[str] = []
    for _, streak in groupby(enumerate(sorted(set(seeds))), key=lambda pair: pair[1] - pair[0]):
        run = [seed for _, seed in streak]
        parts += [f"{run[0]}–{run[-1]}"] if len(run) > 2 else list(map(str, run))
    return ", ".join(parts)


def gain_text(gain: Difference | None, *, interval: bool = False) -> str:
    """``+0.35``, with its 95 % interval where asked for and known."""
    if gain is None:
        return NONE
    text = _signed(gain.points)
    ends = interval_text(gain.low, gain.high) if interval else NONE
    return text if ends == NONE else f"{text} ({ends})"


def interval_text(low: float | None, high: float | None) -> str:
    """``−0.20 to +0.90``, in points."""
    return NONE if low is None or high is None else f"{_signed(low)} to {_signed(high)}"


def _signed(points: float) -> str:
    return percent(round(points, 2) + 0.0, signed=True)  # + 0.0 makes −0.00 positive


def count_text(count: Spread | None) -> str:
    """The mean in millions, and the range when the runs differ."""
    if count is None:
        return NONE
    mean, low, high = millions(count.mean), millions(count.low), millions(count.high)
    if low == high:
        return mean
    unit = "".join(mean.partition(" ")[1:])  # said once where all three have it
    if low.endswith(unit) and high.endswith(unit):
        low, high = low.removesuffix(unit), high.removesuffix(unit)
    return f"{mean} ({low}–{high})"


def duration_text(time_s: Spread | None) -> str:
    """The mean time."""
    return NONE if time_s is None else time_text(time_s.mean)


def comparison_csv(rows: Sequence[Row]) -> str:
    """The rows as CSV with full precision; what is not known is empty.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    quantities = ("accuracy", "params", "macs", "search_s", "retrain_s")
    units = ("test_accuracy_percent", "params", "macs", "search_s", "retrain_s")
    header = ["method", "kind", "data_set", "runs", "tested", "seeds"]
    header += [f"{unit}_{what}" for unit in units for what in ("mean", "std", "min", "max")]
    header += ["gain_over_random_points", "gain_low95", "gain_high95", "on_pareto_front"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        values: list[object] = [_harmless(row.name), row.kind, _harmless(row.dataset), len(row.results)]
        values += [len(row.tested), " ".join(map(str, row.seeds))]
        for name in quantities:
            found: Spread | None = getattr(row, name)
            values += [None] * 4 if found is None else [found.mean, found.std, found.low, found.high]
        gain = row.gain
        values += [None] * 3 if gain is None else [gain.points, gain.low, gain.high]
        writer.writerow([*values, str(row.on_front).lower()])
    return text.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
