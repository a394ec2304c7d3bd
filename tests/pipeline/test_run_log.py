"""Tests of ``src/gradnas/pipeline/run_log.py``."""

import json
from pathlib import Path
from typing import Any

import pytest

from gradnas.pipeline.run_log import RunLog


def lines_of(phase: str, epochs: range) -> list[dict[str, Any]]:
    return [{"phase": phase, "epoch": epoch, "loss": epoch / 3} for epoch in epochs]


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    """Three epochs of a, two of b."""
    log = RunLog(tmp_path / "metrics.jsonl")
    for record in [*lines_of("a", range(3)), *lines_of("b", range(2))]:
        log.append(record)
    return log


def raw(log: RunLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def keep(log: RunLog, *numbers: int) -> None:
    lines = raw(log)
    log.path.write_bytes(b"".join(lines[number] for number in numbers))


def damage(log: RunLog, number: int) -> None:
    lines = raw(log)
    lines[number] = lines[number].replace(b'"loss": ', b'"loss": 1')
    log.path.write_bytes(b"".join(lines))


def test_records_come_back_in_order_and_lines_are_plain_json(log: RunLog) -> None:
    assert log.read() == [*lines_of("a", range(3)), *lines_of("b", range(2))]
    assert log.count() == 5
    first = json.loads(raw(log)[0])
    assert list(first) == ["phase", "epoch", "loss", "checksum"]
    assert len(first["checksum"]) == 8


def test_an_absent_log_has_no_lines(tmp_path: Path) -> None:
    absent = RunLog(tmp_path / "x.jsonl")
    assert (absent.read(), absent.count()) == ([], 0)
    absent.rewind(0)
    absent.restore("a", [])
    assert not absent.path.exists()


def test_numbers_that_json_does_not_have_become_null(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "x.jsonl")
    log.append({"loss": float("nan")})
    assert log.read() == [{"loss": None}]


def test_lines_without_a_checksum_are_taken_as_they_are(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "x.jsonl")
    log.path.write_text('{"epoch": 0}\n\n{"epoch": 1}\n')
    assert log.read() == [{"epoch": 0}, {"epoch": 1}]


def test_a_changed_line_is_left_out_with_a_warning(log: RunLog) -> None:
    damage(log, 1)
    with pytest.warns(UserWarning, match=r"metrics\.jsonl, line 2 is damaged and left out"):
        assert [record["epoch"] for record in log.read()] == [0, 2, 0, 1]


@pytest.mark.parametrize("text", ['{"epo', "[1]\n", '{"a": 1, "a": 2}\n', "\n{}\n\xff\n"])
def test_a_line_that_is_no_record_is_left_out_with_a_warning(tmp_path: Path, text: str) -> None:
    log = RunLog(tmp_path / "x.jsonl")
    log.path.write_bytes(b'{"epoch": 0}\n' + text.encode("latin-1"))
    with pytest.warns(UserWarning, match=r"x\.jsonl, line \d is damaged and left out"):
        assert {"epoch": 0} in log.read()


def test_lines_that_were_there_once_are_missed(log: RunLog) -> None:
    assert len(log.read(at_least=5)) == 5
    with pytest.warns(UserWarning, match="lacks 2 of the 7 lines that it had once"):
        log.read(at_least=7)


def test_rewinding_drops_the_epochs_that_run_again_and_leaves_other_phases(log: RunLog) -> None:
    log.rewind(1, "a")
    assert log.read() == [*lines_of("a", range(1)), *lines_of("b", range(2))]


def test_rewinding_without_phases(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "alphas.jsonl")
    for epoch in range(4):
        log.append({"epoch": epoch})
    log.rewind(2)
    assert log.read() == [{"epoch": 0}, {"epoch": 1}]


def test_rewinding_leaves_the_bytes_of_what_stays(log: RunLog) -> None:
    before = raw(log)
    log.rewind(3, "a")
    assert raw(log) == before
    log.rewind(2, "a")
    assert raw(log) == [*before[:2], *before[3:]]


def test_rewinding_repairs_the_line_of_a_killed_process_without_a_word(log: RunLog) -> None:
    whole = raw(log)
    log.path.write_bytes(b"".join(whole) + b'{"phase": "b", "ep')
    log.rewind(9, "a")
    assert raw(log) == whole
    log.path.write_bytes(b"".join(whole)[:-1])  # only the line break is missing
    log.rewind(9, "a")
    assert raw(log) == whole


def restore(log: RunLog, a: int = 3, b: int = 2) -> None:
    """As a run that goes on: one phase after the other."""
    log.restore("a", lines_of("a", range(a)))
    log.restore("b", lines_of("b", range(b)))


def test_restoring_what_is_there_changes_nothing(log: RunLog) -> None:
    whole = raw(log)
    restore(log)
    assert raw(log) == whole
    before = log.path.stat()
    log.restore("b", lines_of("b", range(2)))
    assert (log.path.stat().st_mtime_ns, log.path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_the_phase_that_goes_on_comes_last(log: RunLog) -> None:
    log.restore("a", lines_of("a", range(1)))
    log.append(lines_of("a", range(1, 2))[0])
    assert [(r["phase"], r["epoch"]) for r in log.read()] == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]
    log.restore("b", lines_of("b", range(1)))
    assert [(r["phase"], r["epoch"]) for r in log.read()] == [("a", 0), ("a", 1), ("b", 0)]


def test_a_lost_last_line_is_written_again_without_a_word(log: RunLog) -> None:
    whole = raw(log)
    keep(log, 0, 1, 3, 4)
    restore(log)
    assert raw(log) == whole


def test_a_line_that_the_checkpoint_does_not_know_is_cut_off_without_a_word(log: RunLog) -> None:
    restore(log, a=2)
    assert log.read() == [*lines_of("a", range(2)), *lines_of("b", range(2))]
    restore(log, a=0)
    assert log.read() == lines_of("b", range(2))


def test_lines_lost_in_the_middle_are_written_again_and_said(log: RunLog) -> None:
    whole = raw(log)
    keep(log, 2, 3, 4)
    with pytest.warns(UserWarning, match=r"lacked 2 of the 3 records of a; they were written again from the check"):
        restore(log)
    assert raw(log) == whole


def test_damaged_lines_are_written_again_and_said(log: RunLog) -> None:
    whole = raw(log)
    damage(log, 1)
    with (
        pytest.warns(UserWarning, match="line 2 is damaged"),
        pytest.warns(UserWarning, match="lacked 1 of the 3 records of a"),
    ):
        restore(log)
    assert raw(log) == whole


def test_a_damaged_line_of_a_later_phase_waits_for_its_own_restoring(log: RunLog) -> None:
    whole = raw(log)
    damage(log, 3)
    with pytest.warns(UserWarning, match="line 4 is damaged"):
        log.restore("a", lines_of("a", range(3)))
    with pytest.warns(UserWarning, match="lacked 1 of the 2 records of b"):
        log.restore("b", lines_of("b", range(2)))
    assert raw(log) == whole


def test_the_line_of_a_killed_process_is_repaired_without_a_word(log: RunLog) -> None:
    whole = raw(log)
    log.path.write_bytes(b"".join(whole)[:-9])
    restore(log)
    assert raw(log) == whole


def test_a_log_that_is_gone_is_written_again(log: RunLog) -> None:
    whole = raw(log)
    log.path.unlink()
    restore(log)
    assert raw(log) == whole


def test_a_record_with_another_value_is_replaced(log: RunLog) -> None:
    with pytest.warns(UserWarning, match="lacked 1 of the 1 records of a"):
        log.restore("a", [{"phase": "a", "epoch": 0, "loss": float("nan")}])
    assert log.read() == [*lines_of("b", range(2)), {"phase": "a", "epoch": 0, "loss": None}]


def test_gaps_are_named(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "alphas.jsonl")
    for epoch in (0, 2, 2, 4):
        log.append({"epoch": epoch})
    log.warn_of_gaps(1)
    with pytest.warns(UserWarning, match=r"alphas\.jsonl lacks the records of epoch 1, 3: .* no checkpoint holds them"):
        log.warn_of_gaps(5)
