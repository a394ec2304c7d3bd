"""Going on with a run that was interrupted."""

import os
import warnings
from dataclasses import fields, replace
from typing import Any

from gradnas.api.retraining import retrain
from gradnas.api.running import run
from gradnas.api.searching import search_is_over
from gradnas.config import RunConf
from gradnas.pipeline import RunFolder
from gradnas.result import Result


def resume(
    folder: str | os.PathLike[str],
    *,
    max_time: str | float | None = None,
    on_nonfinite: str | None = None,
    progress: bool | None = None,
) -> Result:
    """Continue the run in a folder with the configuration stored there; a finished run gives its result.

    On a CPU the result is bit for bit that of a run that was never interrupted, whatever interrupted it.

    Args:
        folder: The run folder.
        max_time: Time that all phases in the folder may take together, what they have taken included; None keeps the
            limit. It does not go on with a search whose retraining has begun.
        on_nonfinite: The answer to numbers that are not finite from now on, see :class:`gradnas.config.SearchConf`;
            None keeps it.
        progress: Show a progress bar; None shows one in a terminal.

    Raises:
        FileNotFoundError: When there is no run.
        ValueError: When the run used a data set object that only Python can give again, or no checkpoint is readable.
        FloatingPointError, OSError, KeyboardInterrupt, SystemExit: As :func:`search`.
    """
    stored = RunFolder.open(folder)
    conf = stored.read_config()
    if max_time is not None:
        conf = replace(conf, max_time=max_time)
    if on_nonfinite is not None:
        conf = _answering(conf, on_nonfinite, search_is_over=search_is_over(stored))
    if (stored / "arch.json").is_file() and not any((stored / "checkpoints").glob("search*")):
        if conf.retrain.epochs > 0:
            # a retraining into a folder of its own: what was found elsewhere must not be searched again
            settings = {field.name: getattr(conf.retrain, field.name) for field in fields(conf.retrain)}
            return retrain(folder, resume=True, max_time=conf.max_time, progress=progress, **settings)
        if not conf.grid.enabled and search_is_over(stored):  # its checkpoints were removed
            return Result(folder)
    return run(conf, out=folder, resume=True, progress=progress)


def _answering(conf: RunConf, on_nonfinite: str, *, search_is_over: bool) -> RunConf:
    """The configuration with another answer to numbers that are not finite; a search that is over may keep its own."""
    answer: Any = {"on_nonfinite": on_nonfinite}
    conf = replace(conf, retrain=replace(conf.retrain, **answer))
    if conf.model.name is not None:
        return conf
    try:
        return replace(conf, search=replace(conf.search, **answer))
    except ValueError as refused:
        if not search_is_over:
            raise
        if conf.baseline.samples > 0:
            kept = f"the brief trainings of the random baseline keep on_nonfinite={conf.search.on_nonfinite}"
            warnings.warn(f"{kept}, as they take the settings of the search: {refused}", stacklevel=3)
        return conf
