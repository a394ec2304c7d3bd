"""Loss and accuracy of each phase as charts."""

from dataclasses import dataclass

from gradnas.report.drawing.line_chart import Series, line_chart
from gradnas.report.drawing.scene import Scene
from gradnas.report.records.combination import Combination, combination_of_phase
from gradnas.report.records.quantities import time_text
from gradnas.report.records.random_members import random_members
from gradnas.report.records.run_log import PHASES, SPLITS, EpochRecord

_TITLES = {
    "search": "Search",
    "retrain": "Retraining of the found network",
    "baseline_search": "Search of the baseline",
    "baseline_retrain": "Retraining of the random baseline",
}
_COLORS = {"train": "first", "val": "second", "test": "third"}


@dataclass(frozen=True, kw_only=True)
class PhaseCurves:
    """The charts of one phase and a sentence on it; ``secondary`` for one that is not of the found network."""

    phase: str
    title: str
    charts: tuple[Scene, ...]
    words: str
    secondary: bool


def phase_curves(metrics: tuple[EpochRecord, ...], size: Combination | None = None) -> tuple[PhaseCurves, ...]:
    """Phases in the order of :data:`PHASES`, unknown ones after them in the order of the file.

    An epoch that stands twice, because a run was resumed, counts with its last record.

    Args:
        metrics: The records.
        size: Of the found architecture: of the phases of a grid, those of other sizes are secondary.
    """
    found = list(dict.fromkeys(record.phase for record in metrics))
    order = sorted(found, key=_place)
    beaten = {member for members in random_members(metrics) for member in members if member is not members[0]}
    return tuple(
        _phase(
            phase,
            [record for record in metrics if record.phase == phase],
            secondary=phase.startswith("baseline_")
            or any(phase == member.phase for member in beaten)
            or _is_of_another_size(phase, size),
        )
        for phase in order
    )


def _place(phase: str) -> tuple[int, int, str]:
    """Where a phase is shown; those of random architectures stand with the search that has drawn them.

    Searches and brief trainings of a grid come in the order of the file.
    """
    if combination_of_phase(phase) is not None:
        return (PHASES.index("search"), 0, "")
    general = next((known for known in ("baseline_search", "search") if phase.startswith(known)), phase)
    return (PHASES.index(general), len(phase), phase) if general in PHASES else (len(PHASES), 0, "")


def _is_of_another_size(phase: str, size: Combination | None) -> bool:
    of_grid = combination_of_phase(phase)
    return of_grid is not None and size is not None and of_grid[0] != size


def _phase(phase: str, records: list[EpochRecord], *, secondary: bool) -> PhaseCurves:
    by_epoch = {record.epoch: record for record in records if record.is_epoch}
    epochs = [by_epoch[epoch] for epoch in sorted(by_epoch)]
    charts = []
    for name, title, unit in (("loss", "Loss", ""), ("top1", "Top-1 accuracy", " %")):
        series = [
            Series(
                name=split,
                color=_COLORS[split],
                points=tuple((record.epoch, record.values.get((split, name))) for record in epochs),
            )
            for split in SPLITS
            if split != "test" or len(_known(epochs, split, name)) > 1
        ]
        chart = line_chart(series, title=title, unit=unit)
        if chart is not None:
            charts.append(chart)
    return PhaseCurves(
        phase=phase,
        title=_title(phase),
        charts=tuple(charts),
        words=_words(records, epochs),
        secondary=secondary,
    )


def _title(phase: str) -> str:
    """The words for a phase; ``search_2`` and ``baseline_search_2`` are those of random architecture 2."""
    of_grid = combination_of_phase(phase)
    if of_grid is not None:
        combination, part = of_grid
        what = {"": "Search", "train": "Brief training of what was found"}.get(part)
        return f"{what or f'Short training of random architecture {part}'} with {combination}"
    start, _, sample = phase.rpartition("_")
    if start in ("search", "baseline_search") and sample.isdecimal():
        return f"Short training of random architecture {int(sample)}"
    return _TITLES.get(phase, phase)


def _known(records: list[EpochRecord], split: str, name: str) -> list[tuple[int, float]]:
    return [(r.epoch, v) for r in records if (v := r.values.get((split, name))) is not None]


def _words(records: list[EpochRecord], epochs: list[EpochRecord]) -> str:
    words = f"{len(epochs)} epoch{'' if len(epochs) == 1 else 's'}"
    times = [record.time_s for record in epochs if record.time_s is not None]
    if times:
        words += f", {time_text(sum(times))} in all, {time_text(sum(times) / len(times))} per epoch"
    validated = _known(epochs, "val", "top1")
    if validated:
        best = max(validated, key=lambda item: item[1])
        words += f". Best validation accuracy {best[1]:.2f} % in epoch {best[0]}"
    tested = _known(records, "test", "top1")
    if tested:
        words += f". Test accuracy {tested[-1][1]:.2f} %"
    missing = sum(
        1 for record in epochs if ("train", "loss") in record.values and record.values["train", "loss"] is None
    )
    if missing:
        epochs_words = "1 epoch has" if missing == 1 else f"{missing} epochs have"
        words += f". {epochs_words} a training loss that is not a finite number; the curve has a gap there"
    return words + "."
