"""The surroundings of a run that is going on: its folder is locked, signals are taken, its time counts."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from gradnas.config import RunConf
from gradnas.foundation.durations import seconds_of
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.run_folder import METRICS, RunFolder
from gradnas.training import CheckPoint, Stop, deterministic_algorithms, read_checkpoint

_NOT_DETERMINISTIC = "does not have a deterministic implementation"  # in the error of torch


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

    Raises:
        ValueError: When algorithms must be deterministic, and an operation has none.
    """
    max_time_s = None if conf.max_time is None else seconds_of(conf.max_time)
    with entered as folder, Stop(max_time_s) as stop, deterministic_algorithms(conf.deterministic):
        if goes_on:
            for doubt in folder.record_continuation(deterministic=conf.deterministic):
                if context.resume:
                    warnings.warn(doubt, stacklevel=3)
        try:
            yield replace(context, folder=folder, stop=stop)
        except RuntimeError as error:
            if not (conf.deterministic and _NOT_DETERMINISTIC in str(error)):
                raise
            operation = str(error).partition(_NOT_DETERMINISTIC)[0].strip()
            raise ValueError(
                f"{operation} has no deterministic algorithm on {context.device}. Leave --deterministic out "
                "(in Python: deterministic=False), or do without the operation."
            ) from error


def is_settled(folder: RunFolder) -> bool:
    """Whether the search in a folder is over for good: its retraining was made, or begun, from what it had found.

    More time then goes on with the retraining; another architecture would make it worthless.
    """
    if not (retraining_has_begun(folder) and (folder / "arch.json").is_file()):
        return False
    return "arch_hash" in (folder.read_json("summary.json") or {})


def retraining_has_begun(folder: RunFolder) -> bool:
    """Whether the retraining of a folder has left a file."""
    return (folder / "full_arch.json").is_file() or bool(CheckPoint(folder.checkpoint("retrain")).files())


def search_seconds(folder: RunFolder) -> float:
    """Time that the search in a folder has taken as far as it is saved; 0 where none was made there."""
    return sum(float(saved["seconds"]["phase"]) for _, saved in _saved_search(folder))


def restore_search_log(folder: RunFolder) -> None:
    """Write again from the checkpoints of a search what ``metrics.jsonl`` has lost of it, with a warning.

    Before other phases add lines: afterwards the log is as long as it was, and nobody misses any.
    """
    if len(folder.read_lines(METRICS)) >= folder.lines_known(METRICS):
        return
    for phase, saved in _saved_search(folder):
        folder.restore(METRICS, phase, saved["metrics"])


def _saved_search(folder: RunFolder) -> Iterator[tuple[str, dict[str, Any]]]:
    """Phase and newest readable checkpoint of each part of the search in a folder, in the order in which they ran."""
    found = {path.name.partition(".pt")[0] for path in (folder / "checkpoints").glob("search*.pt*")}
    for phase in sorted(found, key=lambda phase: (len(phase), phase)):  # search_2 before search_10
        for path in CheckPoint(folder.checkpoint(phase)).files():
            try:
                saved = read_checkpoint(path)
            except ValueError:  # damaged: the one before knows almost as much
                continue
            yield phase, saved
            break
