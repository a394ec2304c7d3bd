"""A run in the terminal while it goes on: one frame of what its folder says.

Everything here is a function of what was read and of the time that was given, so that a frame can be tested.
"""

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from gradnas.arch import wiring
from gradnas.foundation.plain_text import one_line
from gradnas.report.live.look import (
    Look,
    done_words,
    ending,
    entropy_words,
    epoch_time_s,
    epochs_of_phase,
    grid_words,
    phase_words,
    planned_epochs,
    stop_words,
)
from gradnas.report.records.plain_values import member, number, words
from gradnas.report.records.quantities import percent, time_text
from gradnas.report.records.run_folder import RunFolder
from gradnas.report.records.run_log import EpochRecord

if TYPE_CHECKING:
    from rich.console import RenderableType

_BLOCKS = "▁▂▃▄▅▆▇█"
_MOST_COLUMNS = 100  # beyond that lines are hard to follow
_CURVES = (
    ("train loss", "train", "loss"),
    ("train accuracy", "train", "top1"),
    ("val loss", "val", "loss"),
    ("val accuracy", "val", "top1"),
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
    lines += [Text(problem, style="red") for problem in look.damage()]
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
    strategy = look.run.model or look.run.arch or words(member(member(settings, "strategy"), "name"))
    data = words(summary.get("dataset")) or words(member(member(settings, "data"), "source"))
    seed = number(member(settings, "seed"))
    said = [strategy or "", f"on {data}" if data else ""]
    about = " ".join(part for part in said if part) + (f", seed {seed:g}" if seed is not None else "")
    return one_line(f"{look.name}: {about}" if about else look.name)


def _progress_rows(look: Look) -> list[tuple[str, str]]:
    run = look.run
    assert run is not None
    records = epochs_of_phase(run)
    last = records[-1] if records else run.metrics[-1]
    planned = planned_epochs(run, last.phase)
    done = f" ({done_words(run, last)}, {(last.epoch + 1) / planned:.0%})" if planned else ""
    rows = [("phase", phase_words(last.phase, found=run.model is None)), ("epoch", f"{last.epoch}{done}")]
    rows += [("grid", grid_words(run.grid))] if run.grid is not None else []
    elapsed = sum(record.time_s or 0.0 for record in run.metrics)
    if look.finished:
        return [*rows, ("elapsed", time_text(elapsed))]
    each, stopped = epoch_time_s(records), look.warning() is not None
    rows.append(("elapsed", time_text(elapsed + (0.0 if stopped else look.silent_s))))
    if planned and each is not None and not stopped:
        left = max(0.0, (planned - last.epoch - 1) * each - look.silent_s)
        rows.append(("left", f"about {time_text(left)} of this phase, {time_text(each)} per epoch{_later(run, last)}"))
    return [*rows, ("last line", f"{time_text(look.silent_s)} ago")]


def _later(run: RunFolder, last: EpochRecord) -> str:
    """The phases that follow, as far as the configuration asks for them."""
    epochs = planned_epochs(run, "retrain")
    samples = number(member(member(run.settings, "baseline"), "samples"))
    later = [f"retraining for {epochs} epochs"] if epochs and last.phase.startswith("search") else []
    later += ["the random baseline"] if samples and not last.phase.startswith("baseline") else []
    return f"; then {' and '.join(later)}" if later else ""


def _curve_rows(run: RunFolder, columns: int) -> list[tuple[str, str]]:
    records, room = epochs_of_phase(run), max(6, columns - 44)
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
    rows = [("entropy", f"{entropy}  {sparkline(_entropies(run), room)}")] if (entropy := entropy_words(last)) else []
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
        rows.append(("stopped early", stop_words(last)))
    return rows


def _entropies(run: RunFolder) -> list[float | None]:
    return [record.entropy for record in run.mixtures if record.returned is None]
