"""Tests of ``gradnas watch``: its options, and a real search in another process that it follows to the end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TINY = [
    *("search", "--data", "digits", "--epochs", "2", "--max-steps", "4", "--search.batch_size", "32"),
    *("--space.options.channels", "4", "--space.options.cells", "3", "--space.options.nodes", "2"),
    *("--space.options.reductions", "1", "--device", "cpu"),
]


def started(*argv: str) -> "subprocess.Popen[str]":
    code = "import sys, torch; torch.set_num_threads(1); from gradnas.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


@pytest.mark.slow
def test_a_running_search_is_followed_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "live"
    watch = started("watch", str(folder), "--every", "0.2")  # first: what does not exist yet is waited for
    search = started(*TINY, "--out", str(folder))
    try:
        out, err = watch.communicate(timeout=240)
        assert search.wait(timeout=60) == 0
    finally:
        for process in (watch, search):
            process.kill()
            process.communicate()
    assert (watch.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"waiting for {folder}: there is no run folder yet"
    assert [line.partition(",")[0] for line in lines if line.startswith("search epoch")] == [
        "search epoch 1 of 2",
        "search epoch 2 of 2",
    ]
    assert all(", val loss " in line and ", entropy " in line for line in lines if line.startswith("search epoch"))
    assert "the run is finished" in lines
    assert not [path for path in folder.iterdir() if path.name not in KNOWN]


KNOWN = {
    *("config.yaml", "environment.json", "metrics.jsonl", "alphas.jsonl", "arch.json", "summary.json"),
    *("report.html", "checkpoints"),
}


def test_leaving_is_no_error(tmp_path: Path) -> None:
    watch = started("watch", str(tmp_path / "never"), "--every", "0.1")
    try:
        assert watch.stdout is not None
        assert "waiting for" in watch.stdout.readline()
        time.sleep(0.3)
        os.kill(watch.pid, signal.SIGINT)
        out, err = watch.communicate(timeout=60)
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
