"""Tests of ``gradnas watch``: its options, and a real search in another process that it follows to the end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TINY = [
    *("search", "--data", "digits", "--epochs", "2", "--max-steps", "4", "--search.batch_size", "32"),
    *("--space.options.channels", "4", "--space.options.cells", "3", "--space.options.nodes", "2"),
    *("--space.options.reductions", "1", "--device", "cpu"),
]


LIMIT_S = 300  # a machine with much to do takes a minute to start a process

CODE = """
import signal, sys, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what a shell runs in the background
torch.set_num_threads(1)
from gradnas.cli import main
sys.exit(main(sys.argv[1:]))
"""


def started(*argv: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


@pytest.mark.slow
def test_a_running_search_is_followed_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "live"
    watch = started("watch", str(folder), "--every", "0.2")  # first: what does not exist yet is waited for
    search = started(*TINY, "--out", str(folder))
    try:
        out, err = watch.communicate(timeout=LIMIT_S)
        assert search.wait(timeout=LIMIT_S) == 0
    finally:
        for process in (watch, search):
            process.kill()
            process.communicate()
    assert (watch.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"waiting for {folder}: there is no run folder yet"
    assert [line.partition(",")[0] for line in lines if line.startswith("search epoch")] == [
        "search epoch 0 (1 of 2 epochs done)",
        "search epoch 1 (2 of 2 epochs done)",
    ]
    assert all(", val loss " in line and ", entropy " in line for line in lines if line.startswith("search epoch"))
    assert "the run is finished" in lines
    assert not [path for path in folder.iterdir() if path.name not in KNOWN]


KNOWN = {
    *("config.yaml", "environment.json", "metrics.jsonl", "alphas.jsonl", "arch.json", "summary.json"),
    *("report.html", "checkpoints", "arch.safetensors"),
}


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def interrupt(request: pytest.FixtureRequest) -> Iterator[None]:
    """These tests in the foreground of a shell, and in the background, where processes ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupt")
def test_leaving_is_no_error(tmp_path: Path) -> None:
    watch = started("watch", str(tmp_path / "never"), "--every", "0.1")
    try:
        assert watch.stdout is not None
        assert "waiting for" in watch.stdout.readline()
        os.kill(watch.pid, signal.SIGINT)
        out, err = watch.communicate(timeout=LIMIT_S)
    finally:
        watch.kill()
        watch.communicate()
    assert (watch.returncode, out, err) == (0, "", "")


def test_once_looks_and_stops(gradnas: Any) -> None:
    outcome = gradnas("watch", "runs/x", "--once", "true")
    assert (outcome.code, outcome.out) == (0, "waiting for runs/x: there is no run folder yet\n")
    assert not Path("runs").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, gradnas: Any) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    outcome = gradnas("watch", tmp_path / "photos")
    assert outcome.code == 1
    assert "photos is not a run folder" in outcome.err


def test_a_time_that_is_none_is_refused(gradnas: Any) -> None:
    outcome = gradnas("watch", "runs/x", "--every", "0")
    assert outcome.code == 1
    assert "the time between two looks must be above 0 seconds, got 0.0" in outcome.err
    assert gradnas("watch", "runs/x", "--every", "soon").code == 2
    assert gradnas("watch").code == 2
