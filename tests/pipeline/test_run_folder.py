"""Tests of ``src/gradnas/pipeline/run_folder.py``."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradnas.config import RunConf, from_yaml, to_yaml
from gradnas.foundation.locks import InUseError
from gradnas.pipeline import RunFolder, environment, run_folder
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


def test_metrics_of_a_phase_are_its_records(folder: RunFolder) -> None:
    for phase in ("search", "retrain"):
        folder.append("metrics.jsonl", EpochRecord(phase, 0).to_dict())
    assert folder.metrics("retrain") == [EpochRecord("retrain", 0)]


def test_checkpoints_lie_in_a_folder_of_their_own(folder: RunFolder) -> None:
    assert folder.checkpoint("search") == folder.path / "checkpoints" / "search.pt"


def test_configuration_and_values_carry_checksums(folder: RunFolder) -> None:
    folder.write_json("summary.json", {"a": 1})
    assert (folder / "config.yaml").read_text().splitlines()[-1].startswith("# checksum: ")
    assert from_yaml((folder / "config.yaml").read_text()) == RunConf(seed=7)
    assert list(json.loads((folder / "summary.json").read_text())) == ["a", "checksum"]
    assert folder.read_json("summary.json") == {"a": 1}


def test_changed_configuration_is_refused_until_its_checksum_is_deleted(folder: RunFolder) -> None:
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("seed: 7", "seed: 8"))
    with pytest.raises(ValueError, match=r"config\.yaml was changed or damaged .* delete the line with the checksum"):
        folder.read_config()
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert folder.read_config() == RunConf(seed=8)


def test_configuration_that_was_cut_short_is_refused(folder: RunFolder) -> None:
    lines = to_yaml(RunConf(seed=7)).splitlines(keepends=True)
    (folder / "config.yaml").write_text("".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"no checksum and does not say what deterministic should be.*cut short"):
        folder.read_config()


def test_configuration_that_is_no_text_is_refused(folder: RunFolder) -> None:
    (folder / "config.yaml").write_bytes(b"seed: \xff\n")
    with pytest.raises(ValueError, match=r"config\.yaml is damaged: it is no UTF-8 text"):
        folder.read_config()


def test_changed_summary_is_refused_with_what_makes_it_again(folder: RunFolder) -> None:
    folder.write_json("summary.json", {"test_accuracy": 97.5})
    (folder / "summary.json").write_text((folder / "summary.json").read_text().replace("97.5", "99.5"))
    with pytest.raises(
        ValueError, match=r"summary\.json was changed or damaged.*delete the file: `gradnas resume .*run`"
    ):
        folder.read_json("summary.json")


@pytest.mark.parametrize("text", ["{", '{"a": 1, "a": 2}', '{"a": NaN}', "\xff"])
def test_damaged_json_is_refused_naming_the_file(folder: RunFolder, text: str) -> None:
    (folder / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"x\.json is damaged.*Put the original back"):
        folder.read_json("x.json")


def test_damaged_description_is_refused_with_what_makes_it_again(folder: RunFolder) -> None:
    (folder / "arch.json").write_text("{")
    with pytest.raises(ValueError, match=r"arch\.json: not a model description"):
        folder.read_desc()
    folder.checkpoint("search").parent.mkdir()
    folder.checkpoint("search").touch()
    with pytest.raises(
        ValueError, match=r"arch\.json is damaged\. Delete it, and `gradnas resume .*run` makes it again"
    ):
        folder.read_desc()


def test_damaged_environment_hides_no_other_error(folder: RunFolder) -> None:
    (folder / "environment.json").write_text("{")
    assert folder.version() is None
    with pytest.raises(ValueError, match=r"Put the original back\. No result depends on it\.$"):
        folder.read_json("environment.json")
    (folder / "config.yaml").write_text("sed: 5")
    with pytest.raises(ValueError, match="unknown key 'sed'"):
        folder.read_config()


HOLD = """
import sys, time
from gradnas.config import RunConf
from gradnas.pipeline import RunFolder
with RunFolder.entered(sys.argv[1], RunConf(seed=1)):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_kept_out_of_a_folder_in_use(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        before = {p.name: p.read_bytes() for p in path.iterdir()}
        with pytest.raises(FileExistsError, match="already holds a run"):
            RunFolder.create(path, RunConf(seed=1))
        for resume in (lambda: RunFolder.entered(path, RunConf(seed=1), resume=True), RunFolder.open(path).locked):
            with pytest.raises(InUseError, match=rf"run is in use by process {process.pid} on .*"), resume():
                pass
        assert {p.name: p.read_bytes() for p in path.iterdir()} == before
        process.kill()
    with RunFolder.entered(path, RunConf(seed=1), resume=True) as folder:
        assert folder.read_config() == RunConf(seed=1)


def test_of_processes_that_create_one_folder_at_once_one_wins(tmp_path: Path) -> None:
    code = """
import sys, time
from gradnas.config import RunConf
from gradnas.pipeline import RunFolder
print("ready", flush=True)
sys.stdin.readline()
try:
    with RunFolder.entered(sys.argv[1], RunConf(seed=int(sys.argv[2]))):
        time.sleep(0.2)
    print("won", sys.argv[2])
except OSError as error:
    print(type(error).__name__)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    runners = [subprocess.Popen([*command, str(seed)], **pipes) for seed in range(3)]
    for runner in runners:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "ready\n"
    for runner in runners:  # all at once, when all have been imported
        assert runner.stdin is not None
        runner.stdin.write("go\n")
        runner.stdin.flush()
    said = [runner.communicate()[0].split() for runner in runners]
    won = [words[1] for words in said if words[0] == "won"]
    assert len(won) == 1, said
    assert {words[0] for words in said if words[0] != "won"} <= {"InUseError", "FileExistsError"}
    assert RunFolder.open(tmp_path / "run").read_config() == RunConf(seed=int(won[0]))


def test_folder_that_another_process_fills_before_it_is_locked_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = RunFolder.locked

    def late(folder: RunFolder) -> Any:
        monkeypatch.setattr(RunFolder, "locked", lock)
        RunFolder.create(tmp_path / "run", RunConf(seed=1))
        return lock(folder)

    monkeypatch.setattr(RunFolder, "locked", late)
    with pytest.raises(FileExistsError, match="already holds a run"):
        RunFolder.create(tmp_path / "run", RunConf(seed=2))
    assert RunFolder.open(tmp_path / "run").read_config() == RunConf(seed=1)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot make the folder .*file.run: Not a directory; choose another output"):
        RunFolder.create(tmp_path / "file" / "run", RunConf())


def test_folder_of_another_configuration_is_not_resumed(folder: RunFolder) -> None:
    with (
        pytest.raises(ValueError, match=r"another configuration.*gradnas resume"),
        RunFolder.entered(folder.path, RunConf(seed=8), resume=True),
    ):
        pass
    assert folder.read_config() == RunConf(seed=7)


def test_folder_of_other_files_gets_no_lock_file(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="Nothing was overwritten"), RunFolder.entered(tmp_path, RunConf()):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_killed_writers_left_is_removed_when_the_folder_is_entered(folder: RunFolder) -> None:
    (folder / "checkpoints").mkdir()
    names = [".summary.json.abcd1234.tmp", "checkpoints/.search.pt.abcd1234.tmp", ".report.html.abcd1234.tmp"]
    for name in names:
        (folder / name).write_text("half")
    os.utime(folder / names[2], (0, 0))
    (folder / ".report.html.other123.tmp").write_text("of a report that is written now")
    with folder.locked():
        left = {p.name for p in folder.path.rglob("*") if p.is_file()}
    assert left == {"config.yaml", "environment.json", "run.lock", ".report.html.other123.tmp"}


def test_folder_whose_creation_was_killed_is_taken_as_new(folder: RunFolder) -> None:
    (folder / "config.yaml").unlink()
    (folder / ".config.yaml.abcd1234.tmp").write_text("half")
    (folder / "run.lock").write_text("by process 1")
    again = RunFolder.create(folder.path, RunConf(seed=9))
    assert again.read_config() == RunConf(seed=9)
    assert sorted(p.name for p in again.path.iterdir()) == ["config.yaml", "environment.json"]


def test_facts_that_are_not_of_gradnas_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text('{"mine": 1}')
    with pytest.raises(FileExistsError, match="already holds files"):
        RunFolder.create(tmp_path, RunConf())
    assert (tmp_path / "environment.json").read_text() == '{"mine": 1}'


def test_failed_creation_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        RunFolder.create(tmp_path / "a" / "run", RunConf())
    assert list(tmp_path.iterdir()) == []


def test_going_on_elsewhere_is_recorded_and_said(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = folder.read_json("environment.json")
    assert folder.record_continuation() == ()
    assert set(folder.read_json("environment.json")["continued"][0]) == {"time", "command"}

    def elsewhere(*, deterministic: bool = False) -> dict[str, Any]:
        facts = environment.environment(deterministic=deterministic)
        return facts | {"packages": facts["packages"] | {"torch": "9.9"}, "threads": 77, "host": "other"}

    monkeypatch.setattr(run_folder, "environment", elsewhere)
    torch, threads = folder.record_continuation()
    assert torch.startswith(f"the torch was {begun['packages']['torch']}, now it is 9.9: from here on the last bits")
    assert threads.startswith(f"the number of threads was {begun['threads']}, now it is 77")
    assert folder.record_continuation() == ()  # as the last time
    stored = folder.read_json("environment.json")
    assert {key: value for key, value in stored.items() if key != "continued"} == begun
    assert [sorted(entry) for entry in stored["continued"]] == [
        ["command", "time"],
        ["command", "host", "packages", "threads", "time"],
        ["command", "time"],
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"gradnas": "0.1.0", "checksum": "00000000"}'])
def test_going_on_with_a_damaged_environment_keeps_it_and_begins_anew(folder: RunFolder, text: str) -> None:
    (folder / "environment.json").write_text(text)
    (said,) = folder.record_continuation()
    assert "environment.json" in said
    assert "kept as environment.json.damaged" in said
    assert (folder / "environment.json.damaged").read_text() == text
    assert folder.read_json("environment.json")["packages"]["torch"]


def test_lines_that_were_lost_since_the_summary_are_missed(folder: RunFolder) -> None:
    for epoch in range(3):
        folder.append("metrics.jsonl", EpochRecord("search", epoch).to_dict())
    assert folder.count_lines() == {"metrics.jsonl": 3}
    folder.write_json("summary.json", {"log_lines": folder.count_lines()})
    assert len(folder.metrics("search")) == 3
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_bytes(b"".join(lines[:2]))
    with pytest.warns(UserWarning, match=r"metrics\.jsonl lacks 1 of the 3 lines"):
        assert len(folder.metrics("search")) == 2


def test_lines_that_were_lost_stay_missed_when_the_summary_is_written_again(folder: RunFolder) -> None:
    for epoch in range(3):
        folder.append("alphas.jsonl", {"epoch": epoch})
    assert folder.count_lines() == {"alphas.jsonl": 3}
    folder.write_json("summary.json", {"log_lines": folder.count_lines()})
    log = folder / "alphas.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))
    assert folder.count_lines() == {"alphas.jsonl": 3}
    log.unlink()
    assert folder.count_lines() == {"alphas.jsonl": 3}
    folder.append("alphas.jsonl", {"epoch": 0})
    (folder / "summary.json").unlink()
    assert folder.count_lines() == {"alphas.jsonl": 1}
