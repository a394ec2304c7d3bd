"""Tests of retraining an architecture that nobody has to search: ``gradnas.retrain("DARTS_V2", train_set=…)``."""

from pathlib import Path
from typing import Any

import pytest

import gradnas
from gradnas import api
from gradnas.arch import PUBLISHED, Genotype
from gradnas.config import BaselineConf, ComponentConf, ModelConf, RetrainConf, RunConf
from gradnas.costs import count_params
from gradnas.pipeline import RunFolder
from gradnas.pipeline.plan import plan
from gradnas.report import compare
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model
from gradnas.training import CheckPoint

SMALL: dict[str, Any] = {
    "channels": 4,
    "cells": 5,
    "epochs": 2,
    "batch_size": 16,
    "max_steps_per_epoch": 2,
    "device": "cpu",
}
ONE_CELL = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], reduce=[], reduce_concat=[])"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "run"
    api.retrain("DARTS_V2", train_set="digits", out=folder, **SMALL)
    return folder


def test_published_architecture_is_retrained_by_its_name(trained: Path) -> None:
    result = gradnas.load(trained)
    assert result.config.arch == "DARTS_V2"
    assert result.arch.genotype() == PUBLISHED["DARTS_V2"]
    grown = DartsSpace(1, 8).from_genotype(PUBLISHED["DARTS_V2"], channels=4, cells=5)
    assert result.summary["params"] == count_params(result.model) == count_params(Model(grown))
    assert {record.phase for record in result.metrics("retrain")} == {"retrain"}
    assert result.summary["test_accuracy"] > 0


def test_nothing_is_said_of_a_search_that_was_none(trained: Path) -> None:
    summary = gradnas.load(trained).summary
    assert summary["arch"] == "DARTS_V2"
    assert not {"strategy", "strategy_options", "search_epochs", "search_seconds"} & summary.keys()
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "<h1>Retraining of DARTS_V2 on digits</h1>" in page
    for claim in ("What was searched", "Found architecture", "what the search itself is worth", "Architecture search"):
        assert claim not in page
    assert "architecture DARTS_V2" in api.load(trained)._repr_html_()


def test_genotypes_are_objects_or_texts_and_may_lack_a_reduction_cell(tmp_path: Path) -> None:
    settings = {**SMALL, "epochs": 1, "cells": 1}
    long = str(PUBLISHED["DARTS_V2"])  # longer than the name of a file may be
    assert api.given_architecture(long) == long
    for name, given in (("object", Genotype.from_string(ONE_CELL)), ("text", ONE_CELL)):
        result = api.retrain(given, train_set="digits", out=tmp_path / name, **settings)
        assert result.arch.genotype() == Genotype.from_string(ONE_CELL)
        assert result.arch.conf_model_desc.n_reductions == 0
    first, second = (api.load(tmp_path / name).summary["test_loss"] for name in ("object", "text"))
    assert first == second


def test_killed_retraining_goes_on_with_the_same_result(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):  # noqa: N818 - not an error of ours
        pass

    commit = CheckPoint.commit

    def commit_once(self: CheckPoint) -> None:
        commit(self)
        raise Killed

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(CheckPoint, "commit", commit_once)
        with pytest.raises(Killed):
            api.retrain("DARTS_V2", train_set="digits", out=folder, **SMALL)
    assert api.resume(folder).summary["test_loss"] == gradnas.load(trained).summary["test_loss"]


def test_run_of_a_configuration_with_an_architecture_is_the_same(trained: Path, tmp_path: Path) -> None:
    conf = RunFolder.open(trained).read_config()
    assert api.run(conf, out=tmp_path / "run").summary["test_loss"] == gradnas.load(trained).summary["test_loss"]


def test_seeds_make_repeats_that_a_comparison_puts_into_one_row(trained: Path, tmp_path: Path) -> None:
    other = api.retrain("DARTS_V2", train_set="digits", seed=1, out=tmp_path / "run", **SMALL)
    assert other.summary["seed"] == 1
    (row,) = compare([trained, other.folder]).rows
    assert (row.name, row.seeds) == ("DARTS_V2", (0, 1))


def test_retraining_with_another_seed_needs_a_folder_of_its_own(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the seed 0: a retraining with seed 3 needs a run folder of its own"):
        api.retrain(trained, seed=3, **SMALL)
    again = api.retrain(trained, seed=3, out=tmp_path / "again", **SMALL)
    assert again.config.seed == 3
    assert again.summary["test_loss"] != gradnas.load(trained).summary["test_loss"]


def test_plan_knows_the_network_and_plans_no_search() -> None:
    (phase,) = plan(RunConf(arch="DARTS_V2", retrain=RetrainConf(epochs=2, channels=4, cells=5))).phases
    assert (phase.phase, phase.network, phase.epochs) == ("retrain", "given network", 2)


def test_name_of_nothing_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no run folder 'DARTS_V3', nor a published.*Did you mean 'DARTS_V2'"):
        api.retrain("DARTS_V3", train_set="digits")
    with pytest.raises(ValueError, match=r"give train_set=… \(`--data SOURCE`\)"):
        api.retrain("DARTS_V2")
    with pytest.raises(ValueError, match=r"published architecture, not a model: retrain it by .*gradnas retrain DARTS"):
        api.train("DARTS_V2", "digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "DARTS_V3"}, "no published architecture is called 'DARTS_V3'. Did you mean 'DARTS_V2'"),
        ({"arch": "Genotype(normal=[])"}, "genotype, column"),
        ({"retrain": RetrainConf(epochs=0)}, "is trained, not searched: set retrain.epochs to at least 1"),
        ({"strategy": ComponentConf(name="xnas")}, "settings of strategy have no effect"),
        ({"baseline": BaselineConf(samples=2)}, "settings of baseline have no effect"),
        ({"model": ModelConf(name="resnet20")}, "cannot both be trained"),
        ({"retrain": RetrainConf(inherit_weights=True)}, "is given without weights"),
    ],
)
def test_configurations_that_contradict_an_architecture_are_refused(settings: dict[str, Any], message: str) -> None:
    drop_path = 0.0 if "model" in settings else 0.2
    with pytest.raises(ValueError, match=message):
        RunConf(**{"arch": "DARTS_V2", "retrain": RetrainConf(drop_path=drop_path), **settings})


@pytest.mark.parametrize("options", [{"channels": 8}, {"cells": 3}, {"nodes": 2}, {"primitives": ["skip_connect"]}])
def test_settings_of_the_space_that_an_architecture_has_itself_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"space.options.{next(iter(options))} has no effect on 'DARTS_V2'"):
        RunConf(arch="DARTS_V2", space=ComponentConf(options=options), retrain=RetrainConf())


def test_what_is_neither_result_nor_genotype_is_refused() -> None:
    with pytest.raises(TypeError, match=r"takes a result, its run folder, a genotype or the name .* got 12"):
        api.retrain(12)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"no run folder 'runs/none'\.$"):
        api.retrain("runs/none", train_set="digits")
