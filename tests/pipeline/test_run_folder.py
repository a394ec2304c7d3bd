"""Tests of ``src/gradnas/pipeline/run_folder.py``."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from gradnas.config import RunConf
from gradnas.pipeline import RunFolder
from gradnas.pipeline.run_folder import environment
from gradnas.training import EpochRecord


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", RunConf(seed=7))


def test_new_folder_holds_configuration_and_environment(folder: RunFolder) -> None:
    assert sorted(p.name for p in folder.path.iterdir()) == ["config.yaml", "environment.json"]
    assert folder.read_config() == RunConf(seed=7)
    facts = folder.read_json("environment.json")
    assert {"gradnas", "python", "packages", "platform", "gpu", "git", "command"} <= set(facts)
    assert facts["packages"]["torch"]


def test_parents_are_made(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path / "a" / "b" / "c", RunConf()).is_run()


def test_empty_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert RunFolder.create(tmp_path / "run", RunConf()).is_run()


def test_existing_run_is_refused_and_left_as_it_was(folder: RunFolder) -> None:
    before = {p.name: p.read_bytes() for p in folder.path.iterdir()}
    with pytest.raises(FileExistsError, match=r"already holds a run.*gradnas resume.*another name.*Nothing was"):
        RunFolder.create(folder.path, RunConf(seed=8))
    assert {p.name: p.read_bytes() for p in folder.path.iterdir()} == before


def test_folder_with_other_files_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="already holds files"):
        RunFolder.create(tmp_path, RunConf())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("precious")
    with pytest.raises(FileExistsError, match="already holds files"):
        RunFolder.create(tmp_path / "run", RunConf())
    assert (tmp_path / "run").read_text() == "precious"


@pytest.mark.parametrize("missing", ["config.yaml", "environment.json", None])
def test_folder_that_gradnas_did_not_make_cannot_be_opened(folder: RunFolder, missing: str | None) -> None:
    path = folder.path if missing else folder.path / "absent"
    if missing:
        (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        RunFolder.open(path)


def test_damaged_configuration_is_refused_naming_the_file(folder: RunFolder) -> None:
    (folder / "config.yaml").write_text("seed: [")
    with pytest.raises(ValueError, match=r"config\.yaml"):
        folder.read_config()


def test_json_is_read_back(folder: RunFolder) -> None:
    folder.write_json("x.json", {"a": [1, None, "ä"]})
    assert folder.read_json("x.json") == {"a": [1, None, "ä"]}
    assert folder.read_json("absent.json") is None


def test_numbers_that_json_does_not_have_become_null(folder: RunFolder) -> None:
    folder.write_json("x.json", {"loss": float("nan"), "more": [float("inf"), 1.5]})
    folder.append("x.jsonl", {"loss": float("-inf")})
    assert folder.read_json("x.json") == {"loss": None, "more": [None, 1.5]}
    assert folder.read_lines("x.jsonl") == [{"loss": None}]


def test_a_full_disk_leaves_the_lines_before_and_names_the_log(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.append("x.jsonl", {"epoch": 0})
    before = (folder / "x.jsonl").read_bytes()

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            with real_open(folder / "x.jsonl", "ab") as stream:
                stream.write(b'{"half')
            raise OSError(errno.ENOSPC, "No space left on device")

    real_open = open
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: Full())
    with pytest.raises(OSError, match=r"cannot add \d+ bytes to .*x\.jsonl: No space left.*gradnas resume"):
        folder.append("x.jsonl", {"epoch": 1})
    monkeypatch.undo()
    assert (folder / "x.jsonl").read_bytes() == before


def test_configuration_of_another_version_that_cannot_be_read_names_both_versions(folder: RunFolder) -> None:
    folder.write_json("environment.json", {"gradnas": "9.9"})
    assert folder.version() == "9.9"
    folder.write_config(RunConf(seed=5))
    assert folder.read_config().seed == 5  # what can be read is read
    (folder / "config.yaml").write_text("sed: 5")
    with pytest.raises(ValueError, match=r"unknown key 'sed'.* written by gradnas 9\.9, this is gradnas \d.*install"):
        folder.read_config()


@pytest.mark.parametrize("facts", [{}, [], {"gradnas": 3}])
def test_version_of_a_folder_that_does_not_say_is_none(folder: RunFolder, facts: object) -> None:
    folder.write_json("environment.json", facts)
    assert folder.version() is None
    (folder / "config.yaml").write_text("sed: 5")
    with pytest.raises(ValueError, match="unknown key 'sed'") as caught:
        folder.read_config()
    assert "written by" not in str(caught.value)


def test_damaged_json_is_refused_naming_the_file(folder: RunFolder) -> None:
    (folder / "x.json").write_text("{")
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        folder.read_json("x.json")


def test_full_disk_leaves_the_old_summary(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_json("summary.json", 1)

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*summary"):
        folder.write_json("summary.json", 2)
    assert folder.read_json("summary.json") == 1


def test_log_lines_come_back_in_order(folder: RunFolder) -> None:
    for i in range(3):
        folder.append("log.jsonl", {"epoch": i})
    assert folder.read_lines("log.jsonl") == [{"epoch": 0}, {"epoch": 1}, {"epoch": 2}]
    assert folder.read_lines("absent.jsonl") == []


def test_line_that_a_crash_cut_short_is_left_out_with_a_warning(folder: RunFolder) -> None:
    (folder / "log.jsonl").write_text('{"epoch": 0}\n{"epo')
    with pytest.warns(UserWarning, match=r"log\.jsonl, line 2 is damaged and left out"):
        assert folder.read_lines("log.jsonl") == [{"epoch": 0}]


def test_rewinding_drops_the_epochs_that_run_again(folder: RunFolder) -> None:
    for epoch in range(4):
        folder.append("alphas.jsonl", {"epoch": epoch})
    folder.rewind("alphas.jsonl", 2)
    assert [line["epoch"] for line in folder.read_lines("alphas.jsonl")] == [0, 1]


def test_rewinding_leaves_other_phases_alone(folder: RunFolder) -> None:
    for phase in ("a", "b"):
        folder.append("metrics.jsonl", {"phase": phase, "epoch": 5})
    folder.rewind("metrics.jsonl", 0, "a")
    assert folder.read_lines("metrics.jsonl") == [{"phase": "b", "epoch": 5}]


def test_rewinding_an_absent_log_makes_none(folder: RunFolder) -> None:
    folder.rewind("alphas.jsonl", 0)
    assert not (folder / "alphas.jsonl").exists()


def test_metrics_of_a_phase_are_its_records(folder: RunFolder) -> None:
    for phase in ("search", "retrain"):
        folder.append("metrics.jsonl", EpochRecord(phase, 0).to_dict())
    assert folder.metrics("retrain") == [EpochRecord("retrain", 0)]


def test_checkpoints_lie_in_a_folder_of_their_own(folder: RunFolder) -> None:
    assert folder.checkpoint("search") == folder.path / "checkpoints" / "search.pt"


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
