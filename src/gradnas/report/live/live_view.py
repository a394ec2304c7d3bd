"""A run in the terminal while it goes on: one frame, or one line per epoch, of what its folder says.

Everything here is a function of what was read and of the time that was given, so that a frame can be tested.
"""

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from gradnas.arch import wiring
from gradnas.report.records.headline import headline
from gradnas.report.records.plain_text import one_line
from gradnas.report.records.plain_values import member, number, words
from gradnas.report.records.quantities import percent, time_text
from gradnas.report.records.run_folder import RunFolder
from gradnas.report.records.run_log import EpochRecord, MixtureRecord
from gradnas.report.records.run_status import unfinished

if TYPE_CHECKING:
    from rich.console import RenderableType

_BLOCKS = "▁▂▃▄▅▆▇█"
_LATEST = 5  # epochs whose time says how long the next ones take
_PATIENCE = 3.0  # epochs without a line that are no reason to worry
_SHORTEST_SILENCE_S, _FIRST_EPOCH_S = 120.0, 600.0
_MOST_COLUMNS = 100  # beyond that lines are hard to follow
_CURVES = (
    ("train loss", "train", "loss"),
    ("train accuracy", "train", "top1"),
    ("val loss", "val", "loss"),
    ("val accuracy", "val", "top1"),
)


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

    def warning(self) -> str | None:
        """A sentence when no line came for longer than the epochs of the run explain; None else."""
        if self.run is None or self.finished:
            return None
        typical = _epoch_time_s(_of_phase(self.run))
        limit = _FIRST_EPOCH_S if typical is None else max(_SHORTEST_SILENCE_S, _PATIENCE * typical)
        if self.silent_s <= limit:
            return None
        return (
            f"no new line for {time_text(self.silent_s)}; the run may have stopped: "
            f"gradnas resume {shlex.quote(self.name)}"
        )


def frame(look: Look, width: int) -> "RenderableType":
    """The whole view for a terminal of ``width`` columns."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    lines: list[RenderableType] = [Text(_title(look), style="bold")]
    if (waiting := look.waits_for()) is not None:
        lines.append(Text(waiting))
    run = look.run
    if (warning := look.warning()) is not None:  # first: a low terminal shows the beginning
        lines.append(Text(warning, style="bold yellow"))
    said = run.mixtures[-1].diagnosis if run is not None and run.mixtures else ()
    lines += [Text(one_line(sentence), style="yellow") for sentence in said]
    if run is not None and run.metrics:
        columns = min(width, _MOST_COLUMNS)
        rows = [*_progress_rows(look), *_curve_rows(run, columns), *_mixture_rows(run, columns)]
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="cyan", no_wrap=width >= 60)
        table.add_column(overflow="fold")
        for name, text in rows:
            table.add_row(Text(name), Text(text))
        lines.append(table)
    lines += [Text(line, style="green") for line in ending(look)]
    return Padding(Group(*lines), (0, max(0, width - _MOST_COLUMNS), 0, 0))


def epoch_line(run: RunFolder, record: EpochRecord) -> str:
    """One epoch as a plain line, for a log or a pipe."""
    parts = [phase_words(record.phase)]
    if record.lr is not None or ("train", "loss") in record.values:
        parts[0] += f" epoch {_epoch_of(run, record)}"
    for split in ("train", "val", "test"):
        loss, top1 = (record.values.get((split, name)) for name in ("loss", "top1"))
        shown = [f"loss {loss:.4f}"] if loss is not None else []
        shown += [f"accuracy {percent(top1)}"] if top1 is not None else []
        parts += [f"{split} {' '.join(shown)}"] if shown else []
    parts += [f"lr {record.lr:.3g}"] if record.lr is not None else []
    mixture = next((m for m in run.mixtures if m.epoch == record.epoch and record.phase == "search"), None)
    parts += [f"entropy {entropy}"] if mixture is not None and (entropy := _entropy(mixture)) else []
    parts += [time_text(record.time_s)] if record.time_s is not None else []
    return ", ".join(parts)


def ending(look: Look) -> list[str]:
    """What to say when the run is over; empty while it is not."""
    if not look.finished or look.run is None:
        return []
    names = {figure: figure.name if figure.name == "MACs" else figure.name.lower() for figure in headline(look.run)}
    figures = [f"{name}: {figure.value}" for figure, name in names.items()]
    return ["the run is finished", *map(one_line, figures)]


def phase_words(phase: str) -> str:
    """A phase of the log in the words of a person: ``retrain`` is ``retraining``."""
    known = {"retrain": "retraining", "baseline_retrain": "random baseline, retraining"}
    start, _, number_ = phase.rpartition("_")
    if start in ("search", "baseline_search") and number_.isdecimal():
        return f"{'random baseline, ' if start.startswith('baseline') else ''}random architecture {number_}"
    return known.get(phase, one_line(phase))


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The course of a number in at most ``width`` characters; a gap where it is missing.

    Longer courses are shown as the means of equally long pieces.
    """
    pieces = min(width, len(values))
    bounds = [round(i * len(values) / pieces) for i in range(pieces + 1)] if pieces else []
    means = []
    for start, stop in pairwise(bounds):
        known = [value for value in values[start:stop] if value is not None]
        means.append(statistics.fmean(known) if known else None)
    present = [mean for mean in means if mean is not None]
    if not present:
        return ""
    low, span = min(present), max(present) - min(present)
    last = len(_BLOCKS) - 1
    return "".join(
        " " if mean is None else _BLOCKS[round((mean - low) / span * last) if span > 0 else last // 2] for mean in means
    )


def _title(look: Look) -> str:
    if look.run is None:
        return one_line(look.name)
    settings, summary = look.run.settings, look.run.summary
    strategy = words(member(member(settings, "strategy"), "name"))
    data = words(summary.get("dataset")) or words(member(member(settings, "data"), "source"))
    seed = number(member(settings, "seed"))
    said = [strategy or "", f"on {data}" if data else ""]
    about = " ".join(part for part in said if part) + (f", seed {seed:g}" if seed is not None else "")
    return one_line(f"{look.name}: {about}" if about else look.name)


def _of_phase(run: RunFolder) -> list[EpochRecord]:
    """The training epochs of the phase in progress."""
    phase = run.metrics[-1].phase if run.metrics else ""
    return [record for record in run.metrics if record.phase == phase and ("train", "loss") in record.values]


def _planned(run: RunFolder, phase: str) -> int | None:
    """Epochs of a phase; None where the configuration does not say."""
    part = {"search": "search", "retrain": "retrain", "baseline_retrain": "retrain"}.get(phase)
    epochs = number(member(member(run.settings, part), "epochs")) if part else None
    return int(epochs) if epochs else None


def _epoch_of(run: RunFolder, record: EpochRecord) -> str:
    planned = _planned(run, record.phase)
    return f"{record.epoch + 1}{f' of {planned}' if planned else ''}"


def _epoch_time_s(records: Sequence[EpochRecord]) -> float | None:
    times = [record.time_s for record in records[-_LATEST:] if record.time_s is not None]
    return statistics.median(times) if times else None


def _progress_rows(look: Look) -> list[tuple[str, str]]:
    run = look.run
    assert run is not None
    records = _of_phase(run)
    last = records[-1] if records else run.metrics[-1]
    planned = _planned(run, last.phase)
    share = f" ({(last.epoch + 1) / planned:.0%})" if planned else ""
    rows = [("phase", phase_words(last.phase)), ("epoch", f"{_epoch_of(run, last)}{share}")]
    elapsed = sum(record.time_s or 0.0 for record in run.metrics)
    if look.finished:
        return [*rows, ("elapsed", time_text(elapsed))]
    each, stopped = _epoch_time_s(records), look.warning() is not None
    rows.append(("elapsed", time_text(elapsed + (0.0 if stopped else look.silent_s))))
    if planned and each is not None and not stopped:
        left = max(0.0, (planned - last.epoch - 1) * each - look.silent_s)
        rows.append(("left", f"about {time_text(left)} of this phase, {time_text(each)} per epoch{_later(run, last)}"))
    return [*rows, ("last line", f"{time_text(look.silent_s)} ago")]


def _later(run: RunFolder, last: EpochRecord) -> str:
    """The phases that follow, as far as the configuration asks for them."""
    epochs = _planned(run, "retrain")
    samples = number(member(member(run.settings, "baseline"), "samples"))
    later = [f"retraining for {epochs} epochs"] if epochs and last.phase.startswith("search") else []
    later += ["the random baseline"] if samples and not last.phase.startswith("baseline") else []
    return f"; then {' and '.join(later)}" if later else ""


def _curve_rows(run: RunFolder, columns: int) -> list[tuple[str, str]]:
    records, room = _of_phase(run), max(6, columns - 44)
    rows = []
    for name, split, what in _CURVES:
        values = [record.values.get((split, what)) for record in records]
        if (last := next((value for value in reversed(values) if value is not None), None)) is not None:
            shown = percent(last) if what == "top1" else f"{last:.4f}"
            rows.append((name, f"{shown:>8s}  {sparkline(values, room)}"))
    test = run.metrics[-1].values.get(("test", "top1"))
    rows += [("test accuracy", f"{percent(test):>8s}")] if test is not None else []
    if records and records[-1].lr is not None:
        rates = [record.lr for record in records]
        rows.append(("learning rate", f"{records[-1].lr:8.3g}  {sparkline(rates, room)}"))
    return rows


def _mixture_rows(run: RunFolder, columns: int) -> list[tuple[str, str]]:
    if not run.mixtures or not run.metrics[-1].phase.startswith("search"):
        return []
    last, room = run.mixtures[-1], max(6, columns - 52)
    rows = [("entropy", f"{entropy}  {sparkline(_entropies(run), room)}")] if (entropy := _entropy(last)) else []
    rows += [("lead", f"{last.gap:.1%} of an edge, of the first candidate over the second")] if last.gap else []
    if last.drop is not None:
        rows.append(("choosing now", f"would cost {last.drop:.1f} points of validation accuracy"))
    for kind, cell in last.cells.items():
        if cell.survivors is not None:
            left, all_ = sum(map(sum, cell.survivors)), sum(map(len, cell.survivors))
            rows.append(("survivors", f"{left} of {all_} candidates of the {one_line(kind)} cell"))
    if last.changed_edges is not None:
        edges = f"{last.changed_edges} edge{'' if last.changed_edges == 1 else 's'}"
        rows.append(("would-be", f"{edges} changed in the last epoch"))
    for kind, would_be in last.would_be.items():
        lines = [one_line(line) for line in wiring(would_be.cell())]
        rows += [(one_line(kind) if i == 0 else "", line) for i, line in enumerate(lines)]
    if not last.would_be and last.genotype:
        rows.append(("genotype", one_line(last.genotype)))
    if last.returned is not None:
        rows.append(("stopped early", f"the architecture of epoch {last.returned + 1} is returned"))
    return rows


def _entropies(run: RunFolder) -> list[float | None]:
    return [record.entropy for record in run.mixtures if record.returned is None]


def _entropy(mixture: MixtureRecord) -> str:
    """The entropy and what it could be at most: the mean over the edges of the logarithm of their candidates."""
    if mixture.entropy is None:
        return ""
    counts = [len(row) for cell in mixture.cells.values() for row in cell.weights]
    most = statistics.fmean(math.log(count) for count in counts) if counts else None
    return f"{mixture.entropy:.2f}{f' of at most {most:.2f}' if most is not None else ''} nats"
