"""What one look at the folder of a run saw, and what may be said of it in words.

An epoch has the number of the files, which begins with 0; what is counted of them is an amount, ``7 of 9 epochs done``.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gradnas.foundation.plain_text import one_line
from gradnas.report.records.combination import combination_of_phase
from gradnas.report.records.entropy import most_entropy
from gradnas.report.records.grid import Grid
from gradnas.report.records.headline import headline
from gradnas.report.records.plain_values import member, number
from gradnas.report.records.quantities import percent, time_text
from gradnas.report.records.run_folder import RunFolder
from gradnas.report.records.run_log import UNFINISHED, EpochRecord, MixtureRecord
from gradnas.report.records.run_status import how_to_go_on, unfinished

_LATEST = 5  # epochs whose time says how long the next ones take
_PATIENCE = 3.0  # epochs without a line that are no reason to worry
_SHORTEST_SILENCE_S, _FIRST_EPOCH_S = 120.0, 600.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look at a run folder saw.

    Args:
        name: The folder as the user wrote it.
        run: What it holds; None while there is nothing to read.
        silent_s: Seconds since one of its files changed.
    """

    name: str
    run: RunFolder | None
    silent_s: float = 0.0

    @property
    def finished(self) -> bool:
        """True when all phases that the configuration asks for are done."""
        return self.run is not None and bool(self.run.summary) and not unfinished(self.run)

    def waits_for(self) -> str | None:
        """What has to happen before there is something to show, in words; None when there is."""
        if self.run is None:
            return f"waiting for {self.name}: there is no run folder yet"
        if not self.run.metrics and not self.finished:
            return f"waiting for the first epoch in {self.name}"
        return None

    def damage(self) -> tuple[str, ...]:
        """Sentences on files and lines that are damaged; a last line that is just being written is not."""
        return () if self.run is None else tuple(one_line(p) for p in self.run.problems if UNFINISHED not in p)

    def warning(self) -> str | None:
        """A sentence when no line came for longer than the epochs of the run explain; None else."""
        if self.run is None or self.finished:
            return None
        typical = epoch_time_s(epochs_of_phase(self.run))
        limit = _FIRST_EPOCH_S if typical is None else max(_SHORTEST_SILENCE_S, _PATIENCE * typical)
        if self.silent_s <= limit:
            return None
        on = how_to_go_on(self.run)
        return f"no new line for {time_text(self.silent_s)}; the run may have stopped.{f' {on}' if on else ''}"


def ending(look: Look) -> list[str]:
    """What to say when the run is over; empty while it is not."""
    if not look.finished or look.run is None:
        return []
    names = {figure: figure.name if figure.name == "MACs" else figure.name.lower() for figure in headline(look.run)}
    figures = [f"{name}: {figure.value}" for figure, name in names.items()]
    return ["the run is finished", *map(one_line, figures)]


def phase_words(phase: str, *, found: bool = True) -> str:
    """A phase of the log in the words of a person: ``retrain`` is ``retraining``, of a network not found ``training``.

    Args:
        phase: Its name.
        found: Whether the network was found; no for a model that was designed by hand.
    """
    of_grid = combination_of_phase(phase)
    if of_grid is not None:
        combination, part = of_grid
        what = {"": "search", "train": "brief training"}.get(part, f"random architecture {part}")
        return f"{what} with {combination}"
    known = {"retrain": "retraining" if found else "training", "baseline_retrain": "random baseline, retraining"}
    start, _, number_ = phase.rpartition("_")
    if start in ("search", "baseline_search") and number_.isdecimal():
        return f"{'random baseline, ' if start.startswith('baseline') else ''}random architecture {number_}"
    return known.get(phase, one_line(phase))


def epochs_of_phase(run: RunFolder) -> list[EpochRecord]:
    """The epochs of the phase in progress."""
    phase = run.metrics[-1].phase if run.metrics else ""
    return [record for record in run.metrics if record.phase == phase and record.is_epoch]


def planned_epochs(run: RunFolder, phase: str) -> int | None:
    """Epochs of a phase; None where the configuration does not say."""
    of_grid = combination_of_phase(phase)
    parts = {"search": "search", "retrain": "retrain", "baseline_retrain": "retrain"}
    part = parts.get(phase) if of_grid is None else {"": "search", "train": "grid"}.get(of_grid[1])
    epochs = number(member(member(run.settings, part), "epochs")) if part else None
    return int(epochs) if epochs else None


def done_words(run: RunFolder, last: EpochRecord) -> str:
    """How many epochs of its phase are done with this one, ``7 of 9 epochs done``; empty where no plan is known."""
    planned = planned_epochs(run, last.phase)
    return f"{last.epoch + 1} of {planned} epoch{'' if planned == 1 else 's'} done" if planned else ""


def grid_words(grid: Grid) -> str:
    """How far a macro grid is, and its best so far: ``3 of 8 combinations done, best 90.00 % with 1 reduction, …``."""
    words = f"{len(grid.rows)} of {grid.total} combinations done"
    best = next((row for row in grid.rows if row.best), None)
    if best is None or best.val_top1 is None:
        return words
    return f"{words}, best {percent(best.val_top1)} with {best.combination}"


def epoch_time_s(records: Sequence[EpochRecord]) -> float | None:
    """What the latest epochs took, in the middle; None where no time was recorded."""
    times = [record.time_s for record in records[-_LATEST:] if record.time_s is not None]
    return statistics.median(times) if times else None


def entropy_words(mixture: MixtureRecord) -> str:
    """The entropy of the mixing weights and what it could be at most; empty where it was not recorded."""
    if mixture.entropy is None:
        return ""
    most = most_entropy(cell.weights for cell in mixture.cells.values())
    return f"{mixture.entropy:.2f}{f' of at most {most:.2f}' if most is not None else ''} nats"


def stop_words(mixture: MixtureRecord) -> str:
    """Where an early stop came and what it gave: ``after epoch 6; the architecture is that of epoch 5``."""
    return f"after epoch {mixture.epoch}; the architecture is that of epoch {mixture.returned}"
