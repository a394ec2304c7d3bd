"""An allocation that fails, explained: what the phase needs, what there is, and which settings shrink it."""

import gc
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from gradnas.arch import ModelDesc
from gradnas.costs import AvailableMemory, available_memory
from gradnas.data import DataFacts
from gradnas.foundation.sizes import size_text
from gradnas.pipeline.experiment import Experiment
from gradnas.pipeline.manual_experiment import AnyExperiment
from gradnas.pipeline.memory_advice import ways_to_shrink
from gradnas.pipeline.plan import PhasePlan, plan_phases

# What torch, oneDNN, cuDNN and cuBLAS say of it where they do not raise OutOfMemoryError.
_SAID = re.compile(
    r"DefaultCPUAllocator|can't allocate memory|out of memory|bad_alloc|_ALLOC_FAILED|OUT_OF_(HOST_)?MEMORY", re.I
)

# oneDNN has one text for whatever is wrong; with so little left it is memory.
_ONEDNN = re.compile(r"could not (create|execute) a ")
_SCARCE_BYTES = 512 * 2**20


class OutOfMemoryError(MemoryError):
    """A phase has run out of memory; the text says what to change."""


@contextmanager
def explained(experiment: AnyExperiment, phase: str) -> Iterator[None]:
    """Around a phase: if it runs out of memory, what it held is freed, and the error says what to do.

    The peak is predicted by a few tiny steps, see :mod:`gradnas.pipeline.memory_trial`, which cost nothing unless there
    is something to explain.

    Args:
        experiment: The run.
        phase: ``search``, ``retrain`` or ``baseline``.

    Raises:
        OutOfMemoryError: In place of whatever said that an allocation had failed.
    """
    before = available_memory(experiment.context.device)  # afterwards, allocators keep what was freed
    try:
        yield
    except OutOfMemoryError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        _let_go(error, experiment.context.device)
        failure = OutOfMemoryError(_explanation(experiment, phase, before, cause))
    else:
        return
    raise failure  # outside of the handler: the error that is explained would keep what it has held


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if not isinstance(error, RuntimeError):
        return False
    if _SAID.search(str(error)):
        return True
    left = available_memory("cpu").n_bytes if _ONEDNN.search(str(error)) else None
    return left is not None and left < _SCARCE_BYTES


def _let_go(error: BaseException, device: torch.device) -> None:
    """Free what the phase held: its frames are over, but the traceback keeps their variables."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _explanation(experiment: AnyExperiment, phase: str, before: AvailableMemory, cause: str) -> str:
    conf = experiment.conf.retrain if phase == "retrain" else experiment.conf.search
    what = f"out of memory in phase {phase!r} with batch_size={conf.batch_size}"
    what += f" and eval_batch_size={conf.eval_batch_size}"
    try:
        with _without_onednn():
            planned = _planned(experiment, phase, before)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return f"{what} ({cause}). Not even tiny batches fit: use a smaller network, or a machine with more memory."
    numbers = f"predicted peak {size_text(planned.peak_bytes)}"
    if planned.available_bytes is not None:
        numbers += f", available {size_text(planned.available_bytes)}"
        if planned.fits:  # and yet it did not: what is not predicted took more than the usual headroom
            numbers += ", of which kernels, allocators and the rest of the process take a part"
            planned = replace(planned, available_bytes=planned.peak_bytes)
    space = experiment.space if isinstance(experiment, Experiment) else None
    ways = ways_to_shrink(planned, experiment.conf, space)
    return (
        f"{what}: {numbers} ({cause}). What shrinks it, most effective first: {'; '.join(ways)}. `gradnas resume` "
        "would run out again; start a new run with one of these."
    )


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Compute without oneDNN, which maps pages for the code it makes: none may be left. Tensors are the same."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # a property, which torch's stub calls its class
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def _planned(experiment: AnyExperiment, phase: str, left: AvailableMemory) -> PhasePlan:
    context = experiment.context
    facts = replace(DataFacts.of(context.data), n_val=None if context.val_set is None else len(context.val_set))
    if left.n_bytes is not None and context.device.type == "cpu":
        loaded = facts.bytes_of(facts.n_train + (facts.n_test or 0))  # the plan counts it among what the run takes
        left = AvailableMemory(left.n_bytes + loaded, left.reason)
    return next(iter(plan_phases(experiment, facts, left, _found(experiment), only=phase)))


def _found(experiment: AnyExperiment) -> ModelDesc | None:
    folder = experiment.context.folder
    found = None if folder is None else folder / "arch.json"
    return None if found is None or not found.is_file() else ModelDesc.load(found)
