"""Tests of ``src/gradnas/cli/plan.py``."""

from pathlib import Path
from typing import Any

import pytest

from gradnas.config import BaselineConf, ComponentConf, RetrainConf, RunConf, SearchConf, to_yaml
from gradnas.costs import AvailableMemory
from gradnas.pipeline import RunFolder

OPTIONS = {"channels": 2, "cells": 3, "nodes": 1, "reductions": 1, "primitives": ["skip_connect", "sep_conv_3x3"]}
CONF = RunConf(
    space=ComponentConf(options=OPTIONS),
    search=SearchConf(epochs=3, batch_size=50),
    retrain=RetrainConf(epochs=4, channels=4, cells=3),
    baseline=BaselineConf(samples=2),
    device="cpu",
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(CONF))
    return path


def test_a_plan_is_two_tables_and_what_follows_and_writes_nothing(gradnas: Any, config: Path) -> None:
    outcome = gradnas("plan", "--config", config, "--device", "cpu")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "data: 1,437 training and 360 test images of 1×8×8, 10 classes"
    assert lines[1].startswith("memory: ")
    tables = [line for line in lines if line.startswith(("phase", "search", "retrain", "baseline"))]
    assert all(len(line) <= 80 for line in tables)
    work = [line.split() for line in tables]
    assert work[0] == ["phase", "network", "parameters", "MACs", "epochs", "steps", "each", "batch"]
    assert (work[1][:2], work[1][-3:]) == (["search", "supergraph"], ["3", "15", "50"])
    assert (work[2][:3], work[2][-3:]) == (["retrain", "random", "member"], ["4", "15", "96"])
    assert work[3][-3:] == ["—", "15", "50"]
    assert work[4] == ["phase", "training", "evaluation", "data", "peak", "largest", "batch"]
    assert [row[-1] for row in work[5:]] == ["718", "1,437", "718"]
    assert "A random member stands in" in outcome.out
    assert "Everything fits" in outcome.out
    assert [path.name for path in config.parent.iterdir()] == [config.name]


def test_options_win_over_the_file(gradnas: Any, config: Path) -> None:
    outcome = gradnas(
        "plan", "--config", config, "--search.batch_size", 100, "--retrain.epochs", 0, "--baseline.samples", 0
    )
    rows = [line.split() for line in outcome.out.splitlines() if line.startswith(("search", "retrain", "baseline"))]
    assert [row[0] for row in rows] == ["search", "search"]
    assert rows[0][-2:] == ["8", "100"]


def test_what_does_not_fit_says_what_shrinks_it_and_is_no_error(
    gradnas: Any, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradnas.pipeline.plan.available_memory", lambda _: AvailableMemory(2 * 2**20, "made up"))
    outcome = gradnas("plan", "--config", config, "--search.batch_size", 500, "--retrain.epochs", 0)
    assert outcome.code == 0
    assert "memory: 2.00 MiB available (made up) on cpu" in outcome.out
    assert "search does not fit. What shrinks it, most effective first: search." in outcome.out
    assert "Everything fits" not in outcome.out


def test_where_memory_is_unknown_that_is_said(gradnas: Any, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradnas.pipeline.plan.available_memory", lambda _: AvailableMemory(None, "nobody tells"))
    outcome = gradnas("plan", "--config", config, "--retrain.epochs", 0, "--baseline.samples", 0)
    assert "memory: unknown (nobody tells) on cpu" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("Nobody knows here what fits")
    assert "unknown" in outcome.out.splitlines()[7]


def test_a_run_folder_is_planned_with_its_settings_and_options_over_them(gradnas: Any, tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", CONF)
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    outcome = gradnas("plan", tmp_path / "run", "--search.epochs", 7, "--retrain.epochs", 0, "--baseline.samples", 0)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[4].split()[-3:] == ["7", "15", "50"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before


def test_it_must_be_told_what_to_plan(gradnas: Any, config: Path) -> None:
    for argv in ((), (config.parent, "--preset", "demo"), (config.parent, "--config", config)):
        outcome = gradnas("plan", *argv)
        assert outcome.code == 2
        assert "gradnas plan needs --preset NAME" in outcome.err
    outcome = gradnas("plan", "nowhere")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    outcome = gradnas("plan", "--preset", "demoo")
    assert "Did you mean 'demo'?" in outcome.err
    outcome = gradnas("plan", "--config", config, "--search.batch_size", 2000)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "fewer samples than the batch" in outcome.err
