"""Everything that a configuration asks for, and reading what a run left."""

import os
from pathlib import Path

from gradnas.api.folders import entered, free_folder
from gradnas.config import RunConf
from gradnas.data import DataSource
from gradnas.pipeline import RunContext, load_source, prepare_run, refuse_early, resolve_device
from gradnas.result import Result


def run(
    conf: RunConf, *, out: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool | None = None
) -> Result:
    """Everything a configuration asks for: search, retraining, random baseline, summary, report; or a model, trained.

    Args:
        conf: The configuration, e.g. ``gradnas.config.load_preset("demo")``.
        out: The run folder; None takes the next free ``runs/run-N``.
        resume: Continue the run in ``out`` if there is one.
        progress: Show a progress bar; None shows one in a terminal.

    Raises:
        FileExistsError: When ``out`` holds something and ``resume`` is off.
        FloatingPointError: When a loss or gradient is not finite, naming step, images and the last checkpoint.
        OSError: When the folder cannot be written, or another process works in it.
        ValueError: For data or settings that do not fit, saying what to do.
        KeyboardInterrupt, SystemExit: After Ctrl-C or SIGTERM, when the step in progress is done and saved.
    """
    path = Path(out) if out is not None else free_folder("run")
    return run_with(conf, load_source(conf), path, resume=resume, progress=progress)


def run_with(conf: RunConf, data: DataSource, path: Path, *, resume: bool, progress: bool | None) -> Result:
    """Everything a configuration asks for, with its data loaded."""
    device = resolve_device(conf.device)
    context = RunContext(data=data, seed=conf.seed, device=device, resume=resume, tensorboard=conf.tensorboard)
    experiment = prepare_run(conf, context)
    refuse_early(experiment)
    with entered(experiment, path, progress) as going:
        going.run()
    return Result(path, data=data)


def load(folder: str | os.PathLike[str]) -> Result:
    """The result of an earlier run, here or on another machine. FileNotFoundError when there is none."""
    return Result(folder)
