"""Run folders: which one is free, and entering one with everything that a run in progress needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from gradnas.pipeline import AnyExperiment, RunFolder, progress_listener, running


def free_folder(kind: str) -> Path:
    """The next free ``runs/<kind>-N``."""
    taken = 1
    while (Path("runs") / f"{kind}-{taken}").exists():
        taken += 1
    return Path("runs") / f"{kind}-{taken}"


AnyRun = TypeVar("AnyRun", bound=AnyExperiment)


@contextmanager
def entered(experiment: AnyRun, path: Path, progress: bool | None) -> Iterator[AnyRun]:
    """The experiment in its folder, which is locked, with everything that a run in progress needs."""
    conf, context = experiment.conf, experiment.context
    folder = RunFolder.entered(path, conf, resume=context.resume)
    goes_on = context.resume and RunFolder(path).is_run()
    with running(context, folder, conf, goes_on=goes_on) as going, progress_listener(progress) as listener:
        yield replace(experiment, context=replace(going, listener=listener))
