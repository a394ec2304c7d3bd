"""The commands on real data: one tiny run on digits, and what can be done with its folder."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import gradnas as gn
from gradnas.cli import main
from gradnas.config import from_yaml

TINY = [
    *("--max-steps", "2", "--search.epochs", "1", "--search.batch_size", "16", "--search.val_ratio", "0.1"),
    *("--space.options.channels", "2", "--space.options.nodes", "2", "--device", "cpu"),
    "--space.options.cells=3",
]
TINY_LATER = [
    *("--retrain.epochs", "1", "--retrain.channels", "2", "--retrain.batch_size", "16", "--baseline.samples", "1"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a finished run; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("cli") / "finished"
    assert main(["run", "--preset", "demo", *TINY, *TINY_LATER, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "searched"
    assert main(["search", "--preset", "demo", *TINY, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "copy"))


def test_a_run_reports_its_headline(finished: Path, gradnas: Any) -> None:
    outcome = gradnas("resume", finished)  # everything is done: the same words as at the end of the run
    lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert outcome.err == ""
    assert lines[0] == f"run folder: {finished}"
    assert re.match(r"test accuracy: \d+\.\d\d % \(95 % interval \d+\.\d\d–\d+\.\d\d; 360 test images\)", lines[1])
    assert any(line.startswith("random baseline: ") for line in lines)
    assert any(re.match(r"parameters: \d+(\.\d+ k)?$", line) for line in lines)
    assert any(line.startswith("MACs: ") and "1 MAC = 2 FLOPs" in line for line in lines)
    assert any(line.startswith("genotype: Genotype(") for line in lines)
    assert f"report: {finished / 'report.html'}" in lines
    assert "\x1b" not in outcome.out


def test_the_stored_configuration_is_the_one_asked_for(finished: Path) -> None:
    conf = from_yaml((finished / "config.yaml").read_text())
    assert (conf.search.max_steps_per_epoch, conf.retrain.max_steps_per_epoch, conf.search.epochs) == (2, 2, 1)
    assert (conf.space.options["channels"], conf.space.options["nodes"], conf.space.options["cells"]) == (2, 2, 3)


def test_a_folder_that_holds_a_run_is_not_overwritten(finished: Path, gradnas: Any) -> None:
    before = (finished / "summary.json").read_bytes()
    outcome = gradnas("run", "--preset", "demo", "--out", finished)
    assert outcome.code == 1
    assert f"{finished} already holds a run. To continue a run use `gradnas resume {finished}`" in outcome.err
    assert outcome.err.count("\n") == 1
    assert (finished / "summary.json").read_bytes() == before


def test_resume_of_a_folder_that_is_no_run(gradnas: Any, tmp_path: Path) -> None:
    outcome = gradnas("resume", tmp_path)
    assert outcome.code == 1
    assert "is not a run folder" in outcome.err


def test_a_grid_prints_its_table_and_goes_on_to_a_retraining(tmp_path: Path, gradnas: Any) -> None:
    folder = tmp_path / "grid"
    few = ["--grid.max_reductions", "2", "--grid.max_nodes", "3", "--grid.epochs", "1", "--max-steps", "1"]
    outcome = gradnas("search", "--preset", "demo", *TINY, *few, "--out", folder)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    header = next(line for line in lines if line.startswith("reductions"))
    assert header.split() == [
        *("reductions", "cells", "nodes", "validation", "epoch", "training", "MACs", "parameters", "peak", "memory"),
        *("time", "remark"),
    ]
    rows = lines[lines.index(header) + 1 :][:2]
    assert [row.split()[:3] for row in rows] == [["1", "3", "2"], ["1", "3", "3"]]
    assert sum("best" in row for row in rows) == 1
    skipped = "skipped 2 reductions, 3 cells, 2 nodes: 2 reductions need at least 5 cells, got 3."
    assert f"{outcome.out}{outcome.err}".count(skipped) == 1
    assert lines[-1] == f"next: gradnas retrain {folder}"
    assert "brief trainings" in outcome.out
    assert "supergraph, whose candidates" not in outcome.out
    retrained = gradnas("retrain", folder, "--epochs", "1", "--channels", "2", "--cells", "3", "--max-steps", "1")
    assert retrained.code == 0, retrained.err
    assert "test accuracy" in retrained.out
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["grid"]["rows"]) == 2
    assert summary["throughput"]["images_per_second"] > 0
    assert sum(bin["count"] for bin in summary["test_calibration_bins"]) == summary["n_test"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--grid.max_cells", "2"], "grid.max_cells=2 is below the 3 cells of the space"),
        (["--grid.max_cells", "x"], "grid.max_cells must be a whole number or null, got 'x'"),
        (["--grid.max_cell", "4"], "unknown option --grid.max_cell. Did you mean --grid.max_cells"),
        (["--grid.max_cells", "4", "--grid.epochs", "0"], "brief training of each combination"),
    ],
)
def test_a_bad_grid_is_refused_and_no_folder_is_made(
    options: list[str], message: str, tmp_path: Path, gradnas: Any
) -> None:
    outcome = gradnas("search", "--preset", "demo", *TINY, *options, "--out", tmp_path / "grid")
    assert outcome.code != 0
    assert message in outcome.err
    assert not (tmp_path / "grid").exists()


def test_an_unfinished_search_is_gone_on_with_first(gradnas: Any, tmp_path: Path) -> None:
    outcome = gradnas("search", "--preset", "demo", *TINY, "--max-time", "0.001", "--out", tmp_path / "cut")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1].startswith("To go on: gradnas resume")
    assert "next: gradnas retrain" not in outcome.out


def test_search_stops_before_retraining_and_says_what_is_next(searched: Path, gradnas: Any) -> None:
    summary = json.loads((searched / "summary.json").read_text())
    assert "test_accuracy" not in summary
    assert "random_baseline_accuracy" not in summary
    outcome = gradnas("resume", searched)
    assert "has not been retrained yet" in outcome.out
    assert "test accuracy: " not in outcome.out


def test_retrain_adds_the_network_to_the_folder(copy: Path, gradnas: Any) -> None:
    settings = ("--epochs", "1", "--channels", "3", "--cells", "3", "--batch_size", "16", "--max-steps", "1")
    outcome = gradnas("retrain", copy, *settings, "--optimizer.lr", "0.01", "--optimizer.nesterov", "true")
    assert outcome.code == 0
    assert "test accuracy: " in outcome.out
    conf = gn.load(copy).config.retrain
    assert (conf.channels, conf.cells, conf.epochs, conf.max_steps_per_epoch) == (3, 3, 1, 1)
    assert (conf.optimizer.lr, conf.optimizer.nesterov, conf.optimizer.momentum) == (0.01, True, None)
    again = gradnas("retrain", copy, *settings)
    assert again.code == 1
    assert "has a retrained network already" in again.err


def test_retrain_takes_the_recipe_of_a_preset_and_of_a_file(copy: Path, gradnas: Any, tmp_path: Path) -> None:
    small = ("--epochs", "1", "--channels", "2", "--cells", "3", "--max-steps", "1", "--policy", "none")
    more = ("--aux_weight", "0", "--cutout", "0", "--optimizer.lr", "0.01")
    file = tmp_path / "recipe.yaml"
    file.write_text("strategy: {name: random}\nretrain: {epochs: 0, batch_size: 16, optimizer: {weight_decay: 0.01}}\n")
    outcome = gradnas("retrain", copy, "--preset", "xnas-cifar10-eval", "--config", file, *small, *more)
    assert outcome.code == 0
    conf = gn.load(copy).config
    assert (conf.retrain.label_smoothing, conf.retrain.drop_path, conf.retrain.optimizer.nesterov) == (0.1, 0.2, True)
    assert (conf.retrain.batch_size, conf.retrain.optimizer.weight_decay) == (16, 0.01)
    assert (conf.retrain.epochs, conf.retrain.optimizer.lr) == (1, 0.01)
    assert conf.strategy.name == "darts"  # of a recipe only the retraining counts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: {epochs: 5}\n", "says nothing of retraining. Give another recipe, or none."),
        ("retrain: {epochs: 0}\n", "retrains nothing (retrain.epochs is 0). Give --epochs or another recipe."),
    ],
)
def test_retrain_refuses_a_file_without_a_recipe(
    copy: Path, gradnas: Any, tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    outcome = gradnas("retrain", copy, "--config", file)
    assert outcome.code != 0
    assert message in outcome.err


def test_retrain_refuses_an_unknown_preset(copy: Path, gradnas: Any) -> None:
    outcome = gradnas("retrain", copy, "--preset", "xnas-cifar10-evl")
    assert outcome.code != 0
    assert "unknown preset 'xnas-cifar10-evl'. Did you mean 'xnas-cifar10-eval'?" in outcome.err


def test_retrain_into_another_folder_leaves_the_first(copy: Path, gradnas: Any, tmp_path: Path) -> None:
    outcome = gradnas(
        *("retrain", copy, "--out", tmp_path / "other", "--data", "digits", "--device", "cpu", "--epochs", "1"),
        *("--max-steps", "1", "--channels", "2", "--cells", "3", "--batch_size", "16"),
    )
    assert outcome.code == 0
    assert outcome.out.startswith(f"run folder: {tmp_path / 'other'}\n")
    assert not (copy / "full_arch.json").exists()
    assert gn.load(tmp_path / "other").summary["retrain_epochs"] == 1


def test_a_bad_option_of_a_space_is_explained(gradnas: Any) -> None:
    outcome = gradnas("search", "--strategy.options.ordr", "2", "--out", "x")
    assert outcome.code == 1
    assert "strategy 'darts' has no option 'ordr'. Did you mean 'order'?" in outcome.err
    assert not Path("x").exists()


def test_an_unknown_data_set_is_explained(gradnas: Any) -> None:
    outcome = gradnas("search", "--data", "digit", "--out", "x")
    assert outcome.code == 1
    assert "Did you mean 'digits'?" in outcome.err
    assert not Path("x").exists()
