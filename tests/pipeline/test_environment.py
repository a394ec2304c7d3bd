"""Tests of ``src/gradnas/pipeline/environment.py``."""

import json
import os
import platform
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
import torch

from gradnas import __version__
from gradnas.pipeline.environment import changed_facts, doubts, environment


def test_versions_machine_and_threads_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    facts = environment()
    assert facts["gradnas"] == __version__
    assert facts["python"] == platform.python_version()
    assert set(facts["packages"]) == {"torch", "torchvision", "numpy", "scikit-learn", "safetensors"}
    assert facts["packages"]["torch"] == torch.__version__ or facts["packages"]["torch"] in torch.__version__
    assert (facts["threads"], facts["interop_threads"]) == (torch.get_num_threads(), torch.get_num_interop_threads())
    assert facts["thread_settings"]["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in facts["thread_settings"]
    assert facts["cores"] == os.cpu_count()
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="the facts of the machine are read from /proc")
def test_machine_is_described() -> None:
    facts = environment()
    assert facts["memory_gib"] > 0.1
    assert facts["processor"]


def test_gpus_are_named_where_there_are_some() -> None:
    facts = environment()
    assert len(facts["gpus"]) == torch.cuda.device_count()
    assert (facts["gpu"] is None) == (facts["cuda"] is None) == (not facts["gpus"])


def test_facts_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"card {i}")
    facts = environment()
    assert (facts["gpu"], facts["gpus"]) == ("card 0", ["card 0", "card 1"])
    assert facts["cuda"].keys() == {"cuda", "cudnn", "driver"}


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_setting_is_recorded(deterministic: bool) -> None:
    assert environment(deterministic=deterministic)["deterministic"] is deterministic


def test_time_has_a_zone() -> None:
    assert datetime.fromisoformat(environment()["time"]).tzinfo is not None


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/usr/bin/gradnas", "run", "--out", "my run"], "gradnas run --out 'my run'"),
        (["lib/gradnas/__main__.py", "search"], "python -m gradnas search"),
        (["scripts/mine.py"], "mine.py"),
    ],
)
def test_command_is_one_that_can_be_typed_again(monkeypatch: pytest.MonkeyPatch, argv: list[str], command: str) -> None:
    monkeypatch.setattr("sys.argv", argv)
    assert environment()["command"] == command


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def test_revision_and_changes_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "-m", "first")
    revision = git("rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("")
    assert environment()["git"] == {"revision": revision, "dirty": False}
    (tmp_path / "a").write_text("2")
    assert environment()["git"] == {"revision": revision, "dirty": True}


def test_folder_that_is_no_checkout_has_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert environment()["git"] is None
    monkeypatch.setenv("PATH", "")
    assert environment()["git"] is None


def test_only_what_differs_is_kept_and_time_and_command_always() -> None:
    known = {"a": 1, "b": {"c": 2}, "time": "t", "command": "x"}
    assert changed_facts(known, known) == {"time": "t", "command": "x"}
    assert changed_facts(known, known | {"b": {"c": 3}, "new": 5}) == {"time": "t", "command": "x", "b": {"c": 3}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gradnas": "2"}, "the gradnas was 1, now it is 2"),
        ({"packages": {"torch": "9", "numpy": "1"}}, "the torch was 2, now it is 9"),
        ({"processor": "B"}, "the processor was A, now it is B"),
        ({"gpu": "H200"}, "the GPU was None, now it is H200"),
        ({"threads": 4}, "the number of threads was 1, now it is 4"),
        ({"deterministic": True}, "the setting deterministic was False, now it is True"),
        ({"packages": {"torch": "2", "numpy": "9"}}, None),
        ({"time": "later", "command": "other", "host": "y"}, None),
    ],
    ids=str,
)
def test_only_what_may_move_bits_is_said(change: dict[str, object], said: str | None) -> None:
    known = {
        "gradnas": "1",
        "packages": {"torch": "2", "numpy": "1"},
        "processor": "A",
        "gpu": None,
        "threads": 1,
        "deterministic": False,
        "host": "x",
    }
    found = doubts(known, known | change)
    assert found == () if said is None else (len(found) == 1 and found[0].startswith(f"{said}: from here on the last"))


def test_what_was_not_known_raises_no_doubt() -> None:
    assert doubts({"packages": 3}, environment()) == ()
