"""Tests of ``src/gradnas/pipeline/out_of_memory.py``: real processes that run out of the memory they may have."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from gradnas.costs import AvailableMemory
from gradnas.foundation.sizes import size_text
from gradnas.pipeline import prepare
from gradnas.pipeline.out_of_memory import OutOfMemoryError, explained, is_out_of_memory

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs limits of memory that hold")

SCRIPT = """
import pathlib, re, resource, sys
import torch
torch.set_num_threads(1)
from gradnas.config import ComponentConf, DataConf, RunConf, SearchConf
from gradnas.pipeline import RunContext, load_source, prepare
from gradnas.pipeline.out_of_memory import explained
from gradnas.pipeline.plan import plan

settings, room = eval(sys.argv[1]), int(sys.argv[2])
options = {"channels": 32, "cells": 3, "nodes": 1, "reductions": 1, "primitives": ["skip_connect", "sep_conv_3x3"]}
search = SearchConf(epochs=1, max_steps_per_epoch=1, **settings)
conf = RunConf(data=DataConf(image_size=16), space=ComponentConf(options=options), search=search, device="cpu")
print(plan(conf).phases[0].peak_bytes)  # also, all code is loaded before memory is short
experiment = prepare(conf, RunContext(data=load_source(conf)))
used = int(re.search(r"VmSize:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
try:
    with explained(experiment, "search"):
        experiment.search()
except MemoryError as error:
    print(type(error).__name__, error)
else:
    print("fitted")
"""


def outcome(settings: dict[str, Any], room_mib: int) -> tuple[int, str]:
    """The predicted peak in bytes, and what came of a search with so much room."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, repr(settings), str(room_mib * 2**20)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    peak, said = done.stdout.splitlines()
    return int(peak), said


@linux
@pytest.mark.slow
def test_a_search_beyond_the_limit_says_what_it_needs_and_a_batch_that_fits_really_does() -> None:
    peak, said = outcome({"batch_size": 700, "eval_batch_size": 8}, 300)
    assert peak > 500 * 2**20
    assert said.startswith(
        f"OutOfMemoryError out of memory in phase 'search' with batch_size=700 and eval_batch_size=8: predicted peak "
        f"{size_text(peak)}, available "
    )
    ways = said.split("most effective first: ")[1]
    assert ways.startswith("search.batch_size=")
    assert "search.eval_batch_size" not in ways  # evaluation fits
    assert "search.batch_chunks=" in ways
    assert "retrain" not in ways
    assert "`gradnas resume` would run out again" in said
    batch = int(ways.split("search.batch_size=")[1].split(";")[0])
    assert 40 < batch < 500
    assert outcome({"batch_size": batch, "eval_batch_size": 8}, 300)[1] == "fitted"


@linux
@pytest.mark.slow
def test_an_evaluation_beyond_the_limit_is_told_from_training() -> None:
    _, said = outcome({"batch_size": 8, "eval_batch_size": 720}, 150)
    assert said.startswith("OutOfMemoryError")
    assert "most effective first: search.eval_batch_size=" in said
    assert "search.batch_size=" not in said.split("most effective first: ")[1]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("could not create a memory object: out of memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuBLAS error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
)
def test_what_torch_says_of_missing_memory_is_known_and_explained(tools: Any, error: Exception) -> None:
    assert is_out_of_memory(error)
    experiment = prepare(tools.conf(), tools.context())
    said = "out of memory in phase 'search' with batch_size=8"
    with pytest.raises(OutOfMemoryError, match=said) as raised, explained(experiment, "search"):
        raise error
    assert raised.value.__cause__ is None
    assert isinstance(raised.value, MemoryError)


@pytest.mark.parametrize(("left", "known"), [(2**20, True), (2**40, False), (None, False)])
def test_what_onednn_cannot_create_is_memory_where_little_is_left(
    left: int | None, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradnas.pipeline.out_of_memory.available_memory", lambda _: AvailableMemory(left, "made up"))
    assert is_out_of_memory(RuntimeError("could not create a primitive")) is known


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_pass_as_they_are(tools: Any, error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as raised, explained(prepare(tools.conf(), tools.context()), "search"):
        raise error
    assert raised.value is error


def test_what_the_phase_held_is_free_before_it_is_explained(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import weakref

    held: list[weakref.ref[torch.Tensor]] = []

    def phase() -> None:
        big = torch.zeros(1000)
        held.append(weakref.ref(big))
        raise MemoryError

    def look(*_: Any) -> str:
        return "gone" if held[0]() is None else "still there"

    monkeypatch.setattr("gradnas.pipeline.out_of_memory._explanation", look)
    with pytest.raises(OutOfMemoryError, match="gone"), explained(prepare(tools.conf(), tools.context()), "search"):
        phase()


def test_an_explanation_is_not_explained_again(tools: Any) -> None:
    first = OutOfMemoryError("said already")
    with pytest.raises(OutOfMemoryError) as raised, explained(prepare(tools.conf(), tools.context()), "search"):
        raise first
    assert raised.value is first


def test_where_not_even_tiny_batches_fit_that_is_said(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("gradnas.pipeline.plan.measure_phase", fail)
    with (
        pytest.raises(OutOfMemoryError, match="Not even tiny batches fit"),
        explained(prepare(tools.conf(), tools.context()), "search"),
    ):
        raise MemoryError("first cause")


@pytest.mark.parametrize("phase", ["retrain", "baseline"])
def test_other_phases_are_explained_by_their_own_settings(tools: Any, phase: str) -> None:
    conf = tools.conf(retrain=tools.retrain_conf(batch_size=12))
    conf = replace(conf, baseline=replace(conf.baseline, samples=2))
    batch = 12 if phase == "retrain" else 8
    with (
        pytest.raises(OutOfMemoryError, match=f"phase {phase!r} with batch_size={batch} ") as raised,
        explained(prepare(conf, tools.context()), phase),
    ):
        raise MemoryError
    assert ("retrain.channels" in str(raised.value)) == (phase == "retrain")
    assert ("space.options.channels" in str(raised.value)) == (phase == "baseline")
