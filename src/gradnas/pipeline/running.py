"""The surroundings of a run that is going on: its folder is locked, signals are taken, its time counts."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from gradnas.config import RunConf
from gradnas.foundation.durations import seconds_of
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.run_folder import RunFolder
from gradnas.training import Stop, deterministic_algorithms


@contextmanager
def running(
    context: RunContext, entered: AbstractContextManager[RunFolder], conf: RunConf, *, goes_on: bool
) -> Iterator[RunContext]:
    """What the phases of a run need, until the end of the block.

    Args:
        context: Data, seed, device.
        entered: Gives the folder, locked.
        conf: Limit of time, and whether algorithms must be deterministic.
        goes_on: Whether the folder holds a run already; then its environment file says that it is continued, and where
            bits may differ from those of a run without a break, a warning says why.
    """
    max_time_s = None if conf.max_time is None else seconds_of(conf.max_time)
    with entered as folder, Stop(max_time_s) as stop, deterministic_algorithms(conf.deterministic):
        if goes_on:
            for doubt in folder.record_continuation(deterministic=conf.deterministic):
                if context.resume:
                    warnings.warn(doubt, stacklevel=3)
        yield replace(context, folder=folder, stop=stop)
