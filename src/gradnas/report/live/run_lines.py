"""A run as plain lines, for a log or a pipe."""

from collections.abc import Iterator

from gradnas.foundation.plain_text import one_line
from gradnas.report.live.look import Look, done_words, ending, entropy_words, phase_words, stop_words
from gradnas.report.records.quantities import percent, time_text
from gradnas.report.records.run_folder import RunFolder
from gradnas.report.records.run_log import EpochRecord

_LATE_S = 10.0  # how long a line of one log may lag behind that of the other


class Lines:
    """A run as plain lines: each epoch once, and what else a reader must know when it becomes true."""

    def __init__(self) -> None:
        self._told: set[tuple[object, ...]] = set()
        self._waiting: str | None = None
        self._warned = False

    def new(self, look: Look) -> list[str]:
        """The lines that this look adds."""
        lines = []
        for key, line in _events(look):
            if key not in self._told:
                self._told.add(key)
                lines.append(line)
        waiting, warning = look.waits_for(), look.warning()
        if waiting is not None and waiting != self._waiting:
            lines.append(waiting)
        if warning is not None and not self._warned:
            lines.append(warning)
        self._waiting, self._warned = waiting, warning is not None
        return [*lines, *ending(look)]


def epoch_line(run: RunFolder, record: EpochRecord) -> str:
    """One epoch as a plain line."""
    parts = [phase_words(record.phase, found=run.model is None)]
    if record.is_epoch:
        done = done_words(run, record)
        parts[0] += f" epoch {record.epoch}{f' ({done})' if done else ''}"
    for split in ("train", "val", "test"):
        loss, top1 = (record.values.get((split, name)) for name in ("loss", "top1"))
        shown = [f"loss {loss:.4f}"] if loss is not None else []
        shown += [f"accuracy {percent(top1)}"] if top1 is not None else []
        parts += [f"{split} {' '.join(shown)}"] if shown else []
    parts += [f"lr {record.lr:.3g}"] if record.lr is not None else []
    mixture = next((m for m in run.mixtures if m.epoch == record.epoch and record.phase == "search"), None)
    parts += [f"entropy {entropy}"] if mixture is not None and (entropy := entropy_words(mixture)) else []
    parts += [time_text(record.time_s)] if record.time_s is not None else []
    return ", ".join(parts)


def _events(look: Look) -> Iterator[tuple[tuple[object, ...], str]]:
    """All that a run has done so far, in order: what tells it from the rest, and its line."""
    run = look.run
    if run is None:
        return
    yield from ((("damage", problem), problem) for problem in look.damage())
    said = _said_of_search(run)
    for record in run.metrics[:-1] if _is_early(look) else run.metrics:
        yield (record.phase, record.epoch, record.is_epoch), epoch_line(run, record)
        if record.phase == "search":
            yield from (((record.epoch, line), line) for line in said.get(record.epoch, ()))


def _said_of_search(run: RunFolder) -> dict[int, list[str]]:
    """By epoch: what the search said against itself for the first time, and of its early stop."""
    before: tuple[str, ...] = ()
    lines: dict[int, list[str]] = {}
    for mixture in run.mixtures:
        here = lines.setdefault(mixture.epoch, [])
        if mixture.returned is not None:  # what it says was said of an epoch before
            here.append(f"the search was stopped {stop_words(mixture)}")
            continue
        new = [sentence for sentence in mixture.diagnosis if sentence not in before]
        here += [one_line(f"epoch {mixture.epoch} of the search: {sentence}") for sentence in new]
        before = mixture.diagnosis
    return lines


def _is_early(look: Look) -> bool:
    """Whether the last epoch is in one log and not yet in the other, which is written next."""
    run = look.run
    if run is None or not run.metrics or look.finished or look.silent_s > _LATE_S or run.metrics[-1].phase != "search":
        return False
    return (run.mixtures[-1].epoch if run.mixtures else -1) < run.metrics[-1].epoch
