"""Tests of the files of this room: frames and lines of folders in every state, without a clock."""

import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gradnas.arch import PUBLISHED
from gradnas.config import BaselineConf, ComponentConf, RetrainConf, RunConf, SearchConf, to_yaml
from gradnas.report.live.live_view import frame, sparkline
from gradnas.report.live.look import Look, ending, phase_words
from gradnas.report.live.run_following import Follower, follow
from gradnas.report.live.run_lines import Lines, epoch_line
from gradnas.report.records.run_folder import read_run_folder
from gradnas.spaces import DartsSpace

OPS = ["sep_conv_3x3", "skip_connect", "none"]
EDGES = [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
WOULD_BE = {
    "nodes": [[["sep_conv_3x3", [0]], ["skip_connect", [1]]], [["max_pool_3x3", [0]], ["skip_connect", [2]]]],
    "stems": ["prepr_normal", "prepr_normal"],
    "merge": "concate_channels",
    "merged": [2, 3],
    "shapes": [[4, 8, 8], [4, 8, 8], [4, 8, 8], [4, 8, 8], [8, 8, 8]],
}


def epoch(phase: str, number: int, **changes: Any) -> dict[str, Any]:
    score = {"loss": 2.0 / (number + 1), "top1": 50.0 + 4 * number, "top5": 99.0}
    record = {"phase": phase, "epoch": number, "train": score, "val": None, "test": None, "lr": 0.05, "seconds": 10.0}
    return {**record, **changes}


def mixture(number: int, **changes: Any) -> dict[str, Any]:
    weights = [[0.5, 0.3, 0.2]] * len(EDGES)
    cell = {"edges": EDGES, "ops": OPS, "weights": weights, "alphas": weights}
    cell["survivors"] = [[True, True, False]] * len(EDGES)
    record = {
        "epoch": number,
        "cells": {"regular": cell},
        "would_be": {"regular": WOULD_BE},
        "entropy": 1.03 - 0.1 * number,
    }
    more = {"gap": 0.2, "changed_edges": 3, "discretization_drop": 12.25, "diagnosis": [], "skips": 2}
    return {**record, **more, **changes}


CONF = RunConf(
    strategy=ComponentConf(name="xnas"),
    search=SearchConf(epochs=8),
    retrain=RetrainConf(epochs=5),
    baseline=BaselineConf(samples=2),
    seed=7,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A search after three of eight epochs."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(to_yaml(CONF))
    (run / "environment.json").write_text("{}")
    write(run, "metrics.jsonl", [epoch("search", i, val={"loss": 1.5, "top1": 40.0 + i}) for i in range(3)])
    write(run, "alphas.jsonl", [mixture(i) for i in range(3)])
    return run


def write(run: Path, name: str, records: list[dict[str, Any]]) -> None:
    with open(run / name, "a") as stream:
        stream.writelines(f"{json.dumps(record)}\n" for record in records)


def finish(run: Path) -> None:
    found = DartsSpace(channels=4, cells=3, reductions=1).from_genotype(PUBLISHED["DARTS_V2"])
    found.save(run / "arch.json")
    write(run, "metrics.jsonl", [epoch("retrain", i) for i in range(5)])
    write(run, "metrics.jsonl", [epoch("retrain", 5, train=None, lr=None, test={"loss": 0.25, "top1": 97.25})])
    write(run, "metrics.jsonl", [epoch("baseline_search_0", i) for i in range(2)])
    summary = {
        "test_accuracy": 97.25,
        "retrain_seconds": 50.0,
        "random_baseline_accuracy": 96.5,
        "search_seconds": 30.0,
    }
    (run / "summary.json").write_text(json.dumps(summary))


def look_at(run: Path, silent_s: float = 3.0) -> Look:
    return Look(name="runs/x", run=read_run_folder(run), silent_s=silent_s)


def shown(look: Look, width: int = 80) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(frame(look, width))
    return console.export_text()


def row(text: str, name: str) -> str:
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return line.removeprefix(name).strip()


def test_a_frame_of_a_search_says_what_matters(folder: Path) -> None:
    text = shown(look_at(folder), 140)
    assert text.splitlines()[0].rstrip() == "runs/x: xnas on digits, seed 7"
    assert row(text, "phase") == "search"
    assert row(text, "epoch") == "2 (3 of 8 epochs done, 38%)"
    assert row(text, "elapsed") == "33.0 s"
    assert "about 47.0 s of this phase, 10.0 s per epoch; then retraining for 5 epochs" in text
    assert row(text, "last line") == "3.0 s ago"
    assert row(text, "train loss") == "0.6667  █▃▁"
    assert row(text, "train accuracy") == "58.00 %  ▁▅█"
    assert row(text, "val loss") == "1.5000  ▄▄▄"
    assert row(text, "val accuracy") == "42.00 %  ▁▅█"
    assert row(text, "entropy") == f"0.83 of at most {math.log(3):.2f} nats  █▅▁"
    assert row(text, "choosing now") == "would cost 12.2 points of validation accuracy"
    assert row(text, "survivors") == "10 of 15 candidates of the regular cell"
    assert row(text, "would-be") == "3 edges changed in the last epoch"
    assert row(text, "regular") == "n0 = sep_conv_3x3(s0) + skip_connect(s1)"
    assert "n1 = max_pool_3x3(s0) + skip_connect(n0)" in text
    assert "may have stopped" not in text
    assert "finished" not in text


@pytest.mark.parametrize("width", [30, 40, 60, 80, 140])
def test_a_frame_fits_any_terminal_with_all_it_says(folder: Path, width: int) -> None:
    write(folder, "alphas.jsonl", [mixture(3, diagnosis=["three of four operations have no parameters"])])
    write(folder, "metrics.jsonl", [epoch("search", 3)])
    look = look_at(folder, 5000.0)
    lines = shown(look, width).splitlines()
    assert max(map(len, lines)) <= width
    words = "".join("".join(lines).split())
    assert all(word in words for word in ("search", "survivors", "skip_connect(n0)", "parameters", "resume"))


def test_diagnosis_and_early_stop_are_told(folder: Path) -> None:
    write(folder, "alphas.jsonl", [mixture(2, returned_epoch=1, diagnosis=["4 of 4 are skips", "\x1b[31mred"])])
    text = shown(look_at(folder))
    assert "4 of 4 are skips" in text
    assert "�[31mred" in text
    assert row(text, "stopped early") == "after epoch 2; the architecture is that of epoch 1"


def test_markup_in_names_stays_text(folder: Path) -> None:
    evil = "[bold red]x[/]"
    cell = {**WOULD_BE, "nodes": [[[evil, [0]]], [[evil, [1]]]]}
    write(folder, "alphas.jsonl", [mixture(3, would_be={"regular": cell})])
    look = Look(name="[red]runs[/red]", run=read_run_folder(folder))
    text = shown(look)
    assert f"n0 = {evil}(s0)" in text
    assert text.startswith("[red]runs[/red]: xnas")


def test_an_older_log_shows_its_genotype(folder: Path) -> None:
    genotype = str(PUBLISHED["DARTS_V2"])
    write(folder, "alphas.jsonl", [mixture(3, would_be={}, genotype=genotype)])
    assert genotype.replace(" ", "") in "".join(shown(look_at(folder)).split()).replace("genotype", "", 1)


def test_other_phases_show_their_own_epochs(folder: Path) -> None:
    write(folder, "metrics.jsonl", [epoch("retrain", i) for i in range(2)])
    text = shown(look_at(folder), 140)
    assert row(text, "phase") == "retraining"
    assert row(text, "epoch") == "1 (2 of 5 epochs done, 40%)"
    assert row(text, "train loss") == "1.0000  █▁"
    assert "then the random baseline" in text
    assert "survivors" not in text
    write(folder, "metrics.jsonl", [epoch("baseline_search_1", 4)])
    text = shown(look_at(folder), 140)
    assert row(text, "phase") == "random baseline, random architecture 1"
    assert row(text, "epoch") == "4"
    assert "left" not in text


def test_a_silent_run_may_have_stopped(folder: Path) -> None:
    assert look_at(folder, 119.0).warning() is None
    sentence = f"no new line for 12 min 05 s; the run may have stopped. To go on: gradnas resume {folder}"
    assert look_at(folder, 725.0).warning() == sentence
    text = shown(look_at(folder, 725.0))
    assert "".join(sentence.split()) in "".join(text.split())
    assert "left" not in text
    assert row(text, "elapsed") == "30.0 s"
    write(folder, "metrics.jsonl", [epoch("search", i, seconds=600.0) for i in range(3, 8)])
    assert look_at(folder, 1700.0).warning() is None  # three slow epochs
    assert look_at(folder, 1900.0).warning() is not None


def test_a_silent_run_on_data_of_python_is_not_resumed_from_here(folder: Path) -> None:
    conf = replace(CONF, data=replace(CONF.data, source=None))
    (folder / "config.yaml").write_text(to_yaml(conf))
    warning = look_at(folder, 725.0).warning()
    assert warning is not None
    assert "gradnas resume" not in warning
    assert warning.endswith("call gradnas.search again with it, out and resume=True.")
    (folder / "config.yaml").unlink()
    assert look_at(folder, 725.0).warning() == "no new line for 12 min 05 s; the run may have stopped."


def test_a_run_that_has_not_begun_is_waited_for(folder: Path) -> None:
    assert "waiting for runs/x: there is no run folder yet" in shown(Look(name="runs/x", run=None))
    for log in ("metrics.jsonl", "alphas.jsonl"):
        (folder / log).unlink()
    assert look_at(folder).waits_for() == "waiting for the first epoch in runs/x"
    assert look_at(folder, 590.0).warning() is None
    assert look_at(folder, 610.0).warning() is not None


def test_the_end_is_said_with_the_results(folder: Path) -> None:
    assert ending(look_at(folder)) == []
    finish(folder)
    look = look_at(folder, 10_000.0)
    assert look.finished
    assert look.warning() is None
    lines = ending(look)
    assert lines[:3] == ["the run is finished", "test accuracy: 97.25 %", "random baseline: 96.50 %"]
    text = shown(look)
    assert all(line in text for line in lines)
    assert "left" not in text


def test_a_retraining_without_its_results_is_not_the_end(folder: Path) -> None:
    finish(folder)
    (folder / "summary.json").write_text('{"search_seconds": 30.0}')
    assert not look_at(folder).finished


def test_missing_numbers_leave_their_rows_out(folder: Path) -> None:
    nothing = {"loss": None, "top1": None}
    write(folder, "metrics.jsonl", [epoch("search", 3, train=nothing, lr=None, seconds=None)])
    write(folder, "alphas.jsonl", [mixture(3, entropy=None, gap=None, changed_edges=None, discretization_drop=None)])
    text = shown(look_at(folder), 140)
    assert row(text, "train loss") == "0.6667  █▃▁"
    assert row(text, "epoch") == "3 (4 of 8 epochs done, 50%)"
    assert "entropy" not in text
    assert "would-be" not in text


def test_sparkline_known_courses() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([3.0, 3.0], 8) == "▄▄"
    assert sparkline([0.0, None, 7.0], 8) == "▁ █"
    assert sparkline([None, None], 8) == ""
    assert sparkline([], 8) == ""
    assert sparkline([0, 0, 1, 1, 7, 7], 3) == "▁▂█"
    assert len(sparkline(list(range(600)), 30)) == 30


def test_phases_in_words() -> None:
    assert phase_words("search_3") == "random architecture 3"
    assert phase_words("baseline_retrain") == "random baseline, retraining"
    assert phase_words("retrain") == "retraining"
    assert phase_words("retrain", found=False) == "training"
    assert phase_words("mine_2") == "mine_2"


def test_an_epoch_is_one_line(folder: Path) -> None:
    run = read_run_folder(folder)
    assert epoch_line(run, run.metrics[2]) == (
        "search epoch 2 (3 of 8 epochs done), train loss 0.6667 accuracy 58.00 %, val loss 1.5000 accuracy 42.00 %, "
        "lr 0.05, entropy 0.83 of at most 1.10 nats, 10.0 s"
    )
    finish(folder)
    run = read_run_folder(folder)
    test = next(record for record in run.metrics if ("test", "top1") in record.values)
    assert epoch_line(run, test) == "retraining, test loss 0.2500 accuracy 97.25 %, 10.0 s"


def test_each_epoch_is_told_once(folder: Path) -> None:
    lines, follower = Lines(), Follower(folder, clock=lambda: 0.0)
    assert [line.partition(",")[0] for line in lines.new(follower.look())] == [
        f"search epoch {i} ({i + 1} of 8 epochs done)" for i in range(3)
    ]
    assert lines.new(follower.look()) == []
    write(folder, "metrics.jsonl", [epoch("search", 3)])
    assert lines.new(follower.look()) == []  # its mixture follows at once
    write(folder, "alphas.jsonl", [mixture(3)])
    assert [line.partition(",")[0] for line in lines.new(follower.look())] == ["search epoch 3 (4 of 8 epochs done)"]
    finish(folder)
    told = lines.new(follower.look())
    assert len(told) == 5 + 1 + 2 + len(ending(follower.look()))
    assert told[8] == "the run is finished"


def test_what_a_search_says_against_itself_is_told_when_it_is_new(folder: Path) -> None:
    lines, follower = Lines(), Follower(folder, clock=lambda: 0.0)
    lines.new(follower.look())
    for i, said in enumerate([["skips win"], ["skips win", "2 \x1b[31mskips"], ["skips win"], []], start=3):
        write(folder, "metrics.jsonl", [epoch("search", i)])
        write(folder, "alphas.jsonl", [mixture(i, diagnosis=said)])
    told = lines.new(follower.look())
    assert [line for line in told if not line.startswith("search epoch")] == [
        "epoch 3 of the search: skips win",
        "epoch 4 of the search: 2 �[31mskips",
    ]
    assert told[0].startswith("search epoch 3 ")
    assert told[1] == "epoch 3 of the search: skips win"
    assert lines.new(follower.look()) == []
    write(folder, "metrics.jsonl", [epoch("search", 7)])
    write(folder, "alphas.jsonl", [mixture(7, diagnosis=["skips win"])])
    assert lines.new(follower.look())[1:] == ["epoch 7 of the search: skips win"]


def test_an_early_stop_and_what_it_gave_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop = [mixture(2, returned_epoch=1, diagnosis=["skips win"])]  # which was said of epoch 1
    write(folder, "alphas.jsonl", stop)
    lines, follower = Lines(), Follower(folder, clock=lambda: 0.0)
    expected = "the search was stopped after epoch 2; the architecture is that of epoch 1"
    assert lines.new(follower.look())[3:] == [expected]
    write(folder, "metrics.jsonl", [epoch("retrain", 0)])
    assert [line.partition(" (")[0] for line in lines.new(follower.look())] == ["retraining epoch 0"]
    follow(folder, once=True)
    assert expected in capsys.readouterr().out.splitlines()


def test_a_random_architecture_keeps_the_number_of_its_phase(folder: Path) -> None:
    write(folder, "metrics.jsonl", [epoch("search_0", 4)])
    run = read_run_folder(folder)
    assert epoch_line(run, run.metrics[-1]).startswith("random architecture 0 epoch 4, train loss ")


def test_a_line_that_lags_is_not_waited_for_long(folder: Path) -> None:
    write(folder, "metrics.jsonl", [epoch("search", 3)])
    lines, follower = Lines(), Follower(folder, clock=lambda: time.time() + 11.0)
    assert [line.partition(",")[0] for line in lines.new(follower.look())][-1] == "search epoch 3 (4 of 8 epochs done)"


def test_waiting_and_silence_are_told_once(folder: Path) -> None:
    lines = Lines()
    assert lines.new(Look(name="x", run=None)) == ["waiting for x: there is no run folder yet"]
    assert lines.new(Look(name="x", run=None)) == []
    assert len(lines.new(look_at(folder))) == 3
    assert [line.partition(" for ")[0] for line in lines.new(look_at(folder, 700.0))] == ["no new line"]
    assert lines.new(look_at(folder, 800.0)) == []
    assert lines.new(look_at(folder)) == []
    assert len(lines.new(look_at(folder, 900.0))) == 1


def test_a_half_written_line_is_no_epoch_yet(folder: Path) -> None:
    follower = Follower(folder)
    with open(folder / "metrics.jsonl", "a") as stream:
        stream.write(json.dumps(epoch("retrain", 0))[:40])
    look = follower.look()
    assert look.run is not None
    assert len(look.run.metrics) == 3
    with open(folder / "metrics.jsonl", "a") as stream:
        stream.write(json.dumps(epoch("retrain", 0))[40:] + "\n")
    again = follower.look()
    assert again.run is not None
    assert len(again.run.metrics) == 4


def test_files_are_read_again_only_when_one_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def counted(path: Path) -> object:
        reads.append(path)
        return read_run_folder(path)

    monkeypatch.setattr("gradnas.report.live.run_following.read_run_folder", counted)
    follower = Follower(folder)
    for _ in range(5):
        follower.look()
    assert len(reads) == 1
    write(folder, "alphas.jsonl", [mixture(3)])
    follower.look()
    assert len(reads) == 2
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(epoch('search', i))}\n" for i in range(2)))  # rewound
    look = follower.look()
    assert look.run is not None
    assert [record.epoch for record in look.run.metrics] == [0, 1]


def test_silence_counts_from_the_newest_file(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (1000.0, 1000.0))
    os.utime(folder / "alphas.jsonl", (1500.0, 1500.0))
    assert Follower(folder, clock=lambda: 1530.0).look().silent_s == 30.0
    assert Follower(folder, clock=lambda: 1400.0).look().silent_s == 0.0  # a clock that is behind


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert Follower(tmp_path / "empty").look().run is None
    (tmp_path / "empty" / "run.lock").write_text("")  # entered by a search that has written nothing else yet
    assert Follower(tmp_path / "empty").look().run is None
    (tmp_path / "empty" / ".environment.json.abc.tmp").write_text("")
    assert Follower(tmp_path / "empty").look().run is None
    (tmp_path / "empty" / "photo.jpg").write_text("")
    with pytest.raises(FileNotFoundError, match=r"empty is not a run folder: it has none of config\.yaml"):
        Follower(tmp_path / "empty").look()
    with pytest.raises(NotADirectoryError, match=r"photo\.jpg is a file\. Give the folder of a run"):
        Follower(tmp_path / "empty" / "photo.jpg").look()
    with pytest.raises(ValueError, match=r"must be above 0 seconds, got 0"):
        follow(tmp_path, every_s=0)


def test_following_ends_with_the_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, slept = tmp_path / "later", []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert len(slept) < 10, "the end was not seen"
        if len(slept) == 2:
            shutil.copytree(folder, target)
        elif len(slept) == 4:
            finish(target)

    follow(target, every_s=0.5, sleep=sleep)
    lines = capsys.readouterr().out.splitlines()
    assert slept == [0.5] * 4
    assert lines[0] == f"waiting for {target}: there is no run folder yet"
    assert [line.partition(",")[0] for line in lines[1:4]] == [
        f"search epoch {i} ({i + 1} of 8 epochs done)" for i in range(3)
    ]
    assert "the run is finished" in lines


def test_once_shows_what_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def never(seconds: float) -> None:
        raise AssertionError("slept")

    follow(folder, once=True, sleep=never)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_nothing_in_the_folder_changes(folder: Path) -> None:
    def state() -> dict[str, tuple[bytes, int]]:
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}

    before = state()
    follow(folder, once=True)
    assert state() == before


def test_a_terminal_gets_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    act: Callable[[float], None] = lambda _: finish(folder)  # noqa: E731 - one act between two looks
    follow(folder, sleep=act)
    text = screen.getvalue()
    assert "survivors" in text
    assert "the run is finished" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is given back


def test_long_logs_are_cheap(folder: Path) -> None:
    """They are read again with each new epoch, and an epoch takes minutes: nothing is kept between two reads."""
    write(folder, "metrics.jsonl", [epoch("retrain", i) for i in range(600)])
    write(folder, "alphas.jsonl", [mixture(i) for i in range(3, 150)])
    start = time.process_time()
    shown(look_at(folder))
    assert time.process_time() - start < 1.0
