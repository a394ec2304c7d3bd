"""What of a run is there, what is missing, and how to go on."""

import shlex

from gradnas.report.records.plain_values import member, number, words
from gradnas.report.records.run_folder import RunFolder


def unfinished(run: RunFolder) -> tuple[str, ...]:
    """Sentences on a run that has not done all its configuration asks for; none for one that has, or has none."""
    if not run.settings:
        return ()
    summary, settings = run.summary, run.settings
    wanted = [
        ("search", "search", _epochs(run, "search"), run.found is not None),
        ("retraining", "retrain", _epochs(run, "retrain"), number(summary.get("retrain_seconds")) is not None),
        ("random baseline", "baseline", None, _baseline_done(run)),
    ]
    asked = {
        "retraining": bool(_epochs(run, "retrain")),
        "random baseline": bool(number(member(member(settings, "baseline"), "samples"))),
    }
    parts = [part for part in wanted if asked.get(part[0], True)]
    missing = [part for part in parts if not part[3]]
    if not missing:
        return ()
    done = [name for name, _, _, finished in parts if finished]
    sentences = [f"This run is not finished. Done: the {_and(done)}." if done else "This run is not finished."]
    name, phase, planned, _ = missing[0]
    ran = len({(record.phase, record.epoch) for record in run.metrics if record.phase.startswith(phase)})
    begun = f"has run {ran} of {planned:g} epochs" if planned else "has begun"
    sentences.append(f"The {name} {begun if ran else 'has not begun'}.")
    later = [name for name, *_ in missing[1:]]
    sentences += [f"After it comes the {_and(later)}."] if later else []
    if words(member(member(settings, "data"), "source")) is None:
        sentences.append("Its data set was given in Python: call gradnas.search again with it, out and resume=True.")
    else:
        sentences.append(f"To go on: gradnas resume {shlex.quote(str(run.path))}")
    return tuple(sentences)


def other_version(run: RunFolder, version: str) -> str | None:
    """A sentence on a run that another version of the library made."""
    made = run.environment.get("gradnas")
    if made is None or made == version:
        return None
    return f"The run was made by gradnas {made}, this page by gradnas {version}."


def _epochs(run: RunFolder, part: str) -> float | None:
    return number(member(member(run.settings, part), "epochs"))


def _baseline_done(run: RunFolder) -> bool:
    trained = number(run.summary.get("random_baseline_accuracy")) is not None
    return trained or (not _epochs(run, "retrain") and run.baseline is not None)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
