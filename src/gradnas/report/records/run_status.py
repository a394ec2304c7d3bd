"""What of a run is there, what is missing, and how to go on."""

import shlex
from dataclasses import dataclass

from gradnas.foundation.plain_text import one_line
from gradnas.report.records.plain_text import listed
from gradnas.report.records.plain_values import member, names, number, words
from gradnas.report.records.quantities import time_text
from gradnas.report.records.restoring import how_to_restore
from gradnas.report.records.run_folder import RunFolder

_PARTS = {"search": "search", "retrain": "retraining", "baseline": "random baseline"}


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of a run that its configuration asks for; ``epochs`` is None where it is not counted in epochs."""

    name: str
    phase: str
    epochs: float | None
    done: bool


def unfinished(run: RunFolder) -> tuple[str, ...]:
    """Sentences on a run that has not done all its configuration asks for; none for one that has.

    A run without a configuration says nothing of what is missing; one whose configuration is damaged is never taken for
    finished.
    """
    on = how_to_go_on(run)
    if on is None:
        return ()
    parts = _parts(run)
    if not parts or _is_uncertain(run):
        return ("Whether this run is finished is not known.", on)
    if (cut := cut_short(run)) and _can_go_on(run):
        return (cut, on)
    done = [part.name for part in parts if part.done]
    missing = [part for part in parts if not part.done]
    sentences = [f"This run is not finished. Done: the {listed(done)}." if done else "This run is not finished."]
    first, *later = missing
    sentences.append(f"The {first.name} {_progress(run, first)}.")
    sentences += [f"After it comes the {listed([part.name for part in later])}."] if later else []
    return (*sentences, on)


def how_to_go_on(run: RunFolder) -> str | None:
    """What continues an unfinished run, as a sentence with the command, or why no command can.

    None for a finished run, and for one without a configuration, of which nothing is known to be missing.
    """
    parts = _parts(run)
    if not parts and run.config is not None:
        return "Its config.yaml cannot be read: put the right one back before going on."
    missing = [part for part in parts if not part.done]
    cut = _can_go_on(run)
    if not (missing or cut):
        return None
    if "arch.json" in run.unreadable:
        restore = how_to_restore(run.path, "arch.json") or "Put the right one back before going on."
        return f"Its arch.json cannot be read. {restore}"
    if words(member(member(run.settings, "data"), "source")) is not None:
        if _is_uncertain(run):
            return f"To go on: delete its summary.json, which cannot be read, then gradnas resume {_place(run)}"
        longer = " --max-time TIME, longer than before" if cut else ""
        return f"To go on: gradnas resume {_place(run)}{longer}"
    if run.model is not None:
        return "Its data set was given in Python: call gradnas.train again with it, out and resume=True."
    if run.arch is None and not _has_found(run):
        return "Its data set was given in Python: call gradnas.search again with it, out and resume=True."
    return "Its data set was given in Python: call gradnas.retrain again with it, as before, and resume=True."


def _place(run: RunFolder) -> str:
    return one_line(shlex.quote(str(run.path)))


def _is_uncertain(run: RunFolder) -> bool:
    """Whether the summary, which alone says that a training is through, is there and cannot be read."""
    return "summary.json" in run.unreadable and not all(part.done for part in _parts(run))


def cut_short(run: RunFolder) -> str | None:
    """What the limit of time has ended early, or kept from beginning; None where it has done neither."""
    phases = _out_of_time(run)
    if not phases:
        return None
    limit = _limit(run.settings.get("max_time"))
    begun = {_part_names(run).get(record.phase.split("_")[0]) for record in run.metrics}
    ended = list(dict.fromkeys(part for part in phases if part in begun))
    kept = list(dict.fromkeys(part for part in phases if part not in begun))
    told = [f"ended the {listed(ended)} early"] if ended else []
    told += [f"kept the {listed(kept)} from beginning"] if kept else []
    return f"The limit of time{f' ({one_line(limit)})' if limit else ''} {' and '.join(told)}."


def _out_of_time(run: RunFolder) -> list[str]:
    """Names of the parts of the phases that the summary says were out of time."""
    stopped = names(run.summary.get("out_of_time")) or ()
    known = _part_names(run)
    return [known[phase.split("_")[0]] for phase in stopped if phase.split("_")[0] in known]


def _part_names(run: RunFolder) -> dict[str, str]:
    return _PARTS if run.model is None else {"retrain": "training"}


def _can_go_on(run: RunFolder) -> bool:
    """Whether more time goes on with what was out of time; not with a search of which a retraining was made."""
    settled = run.full is not None or any(record.phase == "retrain" for record in run.metrics)
    return any(not (settled and part == "search") for part in _out_of_time(run))


def _limit(max_time: object) -> str | None:
    """A limit of time in words, as the user wrote it or from seconds."""
    seconds = number(max_time)
    return words(max_time) if seconds is None else time_text(seconds)


def other_version(run: RunFolder, version: str) -> str | None:
    """A sentence on a run that another version of the library made."""
    made = run.environment.get("gradnas")
    if made is None or made == version:
        return None
    return f"The run was made by gradnas {made}, this page by gradnas {version}."


def _parts(run: RunFolder) -> list[_Part]:
    """What the configuration asks for, in the order in which it runs; nothing where the configuration is not known."""
    if not run.settings:
        return []
    retraining = _epochs(run, "retrain")
    trained = number(run.summary.get("retrain_seconds")) is not None
    if run.model is not None:
        return [_Part(name="training", phase="retrain", epochs=retraining, done=trained)]
    parts = []
    if run.arch is None:
        parts.append(_Part(name="search", phase="search", epochs=_epochs(run, "search"), done=_has_found(run)))
    if retraining:
        parts.append(_Part(name="retraining", phase="retrain", epochs=retraining, done=trained))
    if number(member(member(run.settings, "baseline"), "samples")):
        tested = number(run.summary.get("random_baseline_accuracy")) is not None
        made = run.baseline is not None or "baseline/arch.json" in run.unreadable
        done = tested or (not retraining and made)
        parts.append(_Part(name="random baseline", phase="baseline", epochs=None, done=done))
    return parts


def _has_found(run: RunFolder) -> bool:
    """Whether the search is over: its architecture is there, also one that cannot be read."""
    return run.found is not None or "arch.json" in run.unreadable


def _progress(run: RunFolder, part: _Part) -> str:
    """How far a part is; random architectures, each of which has epochs of its own, are not counted."""
    if part.phase == "search" and run.grid is not None:
        return f"has completed {len(run.grid.rows)} of {run.grid.total} combinations of its grid"
    begun = [record for record in run.metrics if record.phase.startswith(part.phase)]
    ran = {record.epoch for record in begun if record.phase == part.phase and record.is_epoch}
    if ran and part.epochs:
        return f"has run {len(ran)} of {part.epochs:g} epochs"
    return "has begun" if begun else "has not begun"


def _epochs(run: RunFolder, part: str) -> float | None:
    return number(member(member(run.settings, part), "epochs"))
