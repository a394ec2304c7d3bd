"""Tests of ``src/gradnas/costs/peak_memory.py``: a tensor of known size, and systems that do not tell."""

from pathlib import Path

import pytest
import torch

from gradnas.costs import PeakMemory

MIB = 2**20


def test_peak_begins_anew_with_each_measurement() -> None:
    before = PeakMemory("cpu").read_bytes()
    if before is None:
        pytest.skip("this system does not tell the peak memory of a process from a moment on")
    large = PeakMemory("cpu")
    torch.ones(64 * MIB // 4)
    with_tensor = large.read_bytes()
    assert with_tensor is not None
    after = PeakMemory("cpu").read_bytes()
    assert after is not None
    assert with_tensor - after > 48 * MIB


def test_where_the_system_does_not_tell_it_is_not_known(tmp_path: Path) -> None:
    assert PeakMemory("cpu", root=tmp_path).read_bytes() is None
    assert PeakMemory("meta").read_bytes() is None


def test_peak_is_read_from_the_status_of_the_process(tmp_path: Path) -> None:
    process = tmp_path / "proc/self"
    process.mkdir(parents=True)
    (process / "clear_refs").write_text("")
    peak = PeakMemory("cpu", root=tmp_path)
    assert (process / "clear_refs").read_text() == "5"
    assert peak.read_bytes() is None
    (process / "status").write_text("Name:\tpython\nVmPeak:\t   99 kB\nVmHWM:\t   12 kB\nVmRSS:\t   7 kB\n")
    assert peak.read_bytes() == 12 * 1024
    (process / "status").write_text("VmHWM:\n")
    assert peak.read_bytes() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_it_is_that_of_the_tensors() -> None:
    peak = PeakMemory("cuda")
    before = torch.cuda.memory_allocated()
    tensor = torch.ones(MIB, device="cuda")
    del tensor
    assert peak.read_bytes() == before + 4 * MIB
