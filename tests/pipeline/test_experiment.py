"""Tests of ``src/gradnas/pipeline/experiment.py``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas.arch import ModelDesc
from gradnas.config import BaselineConf, ComponentConf, DataConf, RunConf
from gradnas.costs import count_macs, count_params
from gradnas.data import Augmentation
from gradnas.finalizers import Finalizers, RandomFinalizers
from gradnas.pipeline import (
    ArchTrainer,
    RunContext,
    RunFolder,
    experiment,
    load_source,
    prepare,
    resolve_device,
    with_augmentation,
)
from gradnas.pipeline.experiment import make_finalizers
from gradnas.strategies import StabilizeConf
from gradnas.supergraph import Model

PHASES = ("search", "retrain", "baseline_search_0", "baseline_search_1", "baseline_retrain")


def run(tools: Any, name: str, conf: RunConf, **context: Any) -> tuple[dict[str, Any], RunFolder]:
    folder = tools.folder(name, conf)
    return prepare(conf, tools.context(folder, seed=conf.seed, **context)).run(), folder


def files(folder: RunFolder) -> set[str]:
    return {str(p.relative_to(folder.path)) for p in folder.path.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def whole(source: Any, space: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Search, retraining and baseline, run in an empty working folder."""
    base = tmp_path_factory.mktemp("experiment")
    (base / "cwd").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base / "cwd")
        conf = full_conf()
        folder = RunFolder.create(base / "run", conf)
        summary = prepare(conf, RunContext(data=source, folder=folder)).run()
    return summary, folder, base


def full_conf() -> RunConf:
    options = {"channels": 2, "cells": 3, "nodes": 2, "reductions": 1}
    primitives = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]
    from gradnas.config import RetrainConf, SearchConf

    return RunConf(
        data=DataConf(source=None),
        space=ComponentConf(options={**options, "primitives": primitives}),
        search=SearchConf(epochs=2, batch_size=8, max_steps_per_epoch=2),
        retrain=RetrainConf(epochs=2, batch_size=8, max_steps_per_epoch=2, channels=4, cells=3),
        baseline=BaselineConf(samples=2),
        device="cpu",
    )


def test_folder_holds_every_file_of_a_run(whole: Any) -> None:
    _, folder, _ = whole
    expected = {"config.yaml", "environment.json", "metrics.jsonl", "alphas.jsonl", "summary.json", "report.html"}
    expected |= {
        "arch.json",
        "full_arch.json",
        "weights.safetensors",
        "checkpoints/search.pt",
        "checkpoints/retrain.pt",
    }
    expected |= {"baseline/arch.json", "baseline/full_arch.json", "baseline/weights.safetensors"}
    assert expected <= files(folder)
    assert not {name for name in files(folder) if name.endswith((".tmp", ".new"))}


def test_nothing_is_written_outside_the_folder(whole: Any) -> None:
    _, _, base = whole
    assert sorted(p.name for p in base.iterdir()) == ["cwd", "run"]
    assert list((base / "cwd").iterdir()) == []


def test_configuration_is_stored_and_read_back_equal(whole: Any) -> None:
    assert whole[1].read_config() == full_conf()


def test_summary_is_complete_and_stored(whole: Any) -> None:
    summary, folder, _ = whole
    assert folder.read_json("summary.json") == json.loads(json.dumps(summary))
    keys = {"test_accuracy", "random_baseline_accuracy", "arch_hash", "genotype", "params", "macs", "seed"}
    assert keys | {"search_seconds", "retrain_seconds", "dataset", "n_train", "n_test", "classes"} <= set(summary)
    assert all(summary[key] is not None for key in keys)
    assert (summary["seed"], summary["n_train"], summary["n_test"]) == (0, 80, 20)
    assert summary["latency"].keys() == {"median_ms", "low_ms", "high_ms", "batch", "runs", "device", "threads"}
    assert summary["throughput"].keys() == {"images_per_second", "batch", "runs", "device", "threads"}
    assert sum(each["count"] for each in summary["test_calibration_bins"]) == 20
    assert 0 <= summary["test_calibration_error"] <= 100
    assert summary["test_top5_accuracy"] == 100.0  # of five classes
    recognized = [row[k] / sum(row) for k, row in enumerate(summary["confusion"])]
    assert summary["test_class_accuracies"] == pytest.approx([100 * share for share in recognized])
    assert summary["class_balance"]["counts"] == dict.fromkeys("abcde", 16)
    assert (summary["pixels"], summary["normalization"].keys()) == ("float32", {"mean", "std"})


def test_summary_agrees_with_the_files(whole: Any) -> None:
    summary, folder, _ = whole
    found = ModelDesc.load(folder / "arch.json")
    network = Model(ModelDesc.load(folder / "full_arch.json"))
    assert (summary["arch_hash"], summary["genotype"]) == (found.hash(), str(found.genotype()))
    assert (summary["params"], summary["macs"]) == (count_params(network), count_macs(network, (1, 8, 8)))
    search, retrain = folder.metrics("search"), folder.metrics("retrain")
    assert summary["search_seconds"] == pytest.approx(sum(r.seconds for r in search))
    assert summary["retrain_seconds"] == pytest.approx(sum(r.seconds for r in retrain))
    assert summary["test_accuracy"] == retrain[-1].test.top1  # type: ignore[union-attr]
    assert summary["random_baseline_accuracy"] == folder.metrics("baseline_retrain")[-1].test.top1  # type: ignore[union-attr]
    assert sum(sum(row) for row in summary["confusion"]) == 20


def test_each_phase_is_in_the_metrics_and_only_retraining_is_tested(whole: Any) -> None:
    _, folder, _ = whole
    tested = {record["phase"] for record in folder.read_lines("metrics.jsonl") if record["test"] is not None}
    assert {record["phase"] for record in folder.read_lines("metrics.jsonl")} == set(PHASES)
    assert tested == {"retrain", "baseline_retrain"}


def test_baseline_epochs_are_those_of_the_equal_budget(whole: Any) -> None:
    summary, folder, _ = whole
    epochs = len(folder.metrics("baseline_search_0"))
    assert summary["random_baseline_epochs_each"] == epochs
    assert len(folder.metrics("baseline_search_1")) == epochs


@pytest.mark.parametrize(
    ("stabilize", "strategy", "expected"),
    [
        ({"eigenvalue": "stop", "eigenvalue_window": 1, "eigenvalue_lag": 1}, {}, (3, 0, 0.0)),
        (
            {"eigenvalue": "stop", "eigenvalue_window": 1, "eigenvalue_lag": 1, "warmup_epochs": 1},
            {},
            (3, 1, 0.0),
        ),
        ({"perturb": "random"}, {}, (4, 0, 0.0)),
        ({"perturb": "adversarial", "perturb_steps": 3}, {}, (4, 0, 6.0)),
        ({}, {"name": "pcdarts", "options": {"partial": 1}}, (4, 1, 0.0)),
    ],
    ids=["stop", "stop after a warm-up", "random", "adversary", "warm-up of the paper"],
)
def test_budget_of_the_baseline_is_that_of_what_the_search_has_run(
    tools: Any, monkeypatch: pytest.MonkeyPatch, stabilize: Any, strategy: Any, expected: tuple[int, int, float]
) -> None:
    """Epochs, those of them without learning, and the passes of an adversary: a forward and a backward one per step."""
    asked: list[tuple[int, int, float]] = []

    def budget(*args: Any, warmup_epochs: int, extra: float) -> int:
        asked.append((args[3], warmup_epochs, extra))
        return 1

    values = [1.0, 1.0, 9.0, 9.0]  # the eigenvalue has risen after the third epoch
    monkeypatch.setattr(experiment, "equal_budget_epochs", budget)
    monkeypatch.setattr(ArchTrainer, "_eigenvalue", lambda self, _: values[self.epoch])
    conf = tools.conf(
        strategy=ComponentConf(**strategy),
        search=tools.search_conf(epochs=4, max_steps_per_epoch=1, stabilize=StabilizeConf(**stabilize)),
        retrain=tools.retrain_conf(epochs=0),
        baseline=BaselineConf(samples=1),
    )
    summary, folder = run(tools, "run", conf)
    assert asked == [expected]
    assert summary["search_epochs"] == len(folder.metrics("search")) == expected[0]
    assert folder.read_json("summary.json")["search_epochs"] == expected[0]  # type: ignore[index]


def test_epochs_of_a_random_search_are_those_of_its_settings(tools: Any) -> None:
    """Its members share them."""
    random = ComponentConf(name="random", options={"samples": 2})
    conf = tools.conf(strategy=random, search=tools.search_conf(epochs=4), retrain=tools.retrain_conf(epochs=0))
    summary, folder = run(tools, "run", conf)
    assert summary["search_epochs"] == 4
    assert len(folder.metrics("search_0")) == 2


def test_running_a_finished_run_again_changes_no_number(whole: Any, source: Any) -> None:
    summary, folder, _ = whole
    lines = {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "alphas.jsonl", "weights.safetensors")}
    again = prepare(full_conf(), RunContext(data=source, folder=folder, resume=True)).run()
    assert again == summary
    assert {name: (folder / name).read_bytes() for name in lines} == lines


def test_same_seed_twice_is_bit_identical_and_another_differs(tools: Any, without_seconds: Any) -> None:
    conf = tools.conf(search=tools.search_conf(epochs=1), retrain=tools.retrain_conf(epochs=1))
    (first, a), (second, b) = run(tools, "a", conf), run(tools, "b", conf)
    assert without_seconds(first) == without_seconds(second)
    for name in ("alphas.jsonl", "weights.safetensors", "arch.json", "full_arch.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes()
    other, c = run(tools, "c", replace(conf, seed=1))
    assert other["seed"] == 1
    for name in ("alphas.jsonl", "weights.safetensors"):
        assert (a / name).read_bytes() != (c / name).read_bytes()


@pytest.mark.parametrize(("phase", "epoch"), [("search", 1), ("retrain", 0)])
def test_interrupted_run_ends_like_an_uninterrupted_one(
    tools: Any, without_seconds: Any, phase: str, epoch: int
) -> None:
    conf = tools.conf()
    expected, whole = run(tools, "whole", conf)
    with pytest.raises(tools.killed):
        run(tools, "parts", conf, listener=tools.kill_after(phase, epoch))
    summary, parts = run(tools, "parts", conf, resume=True)
    assert without_seconds(summary) == without_seconds(expected)
    assert (whole / "alphas.jsonl").read_bytes() == (parts / "alphas.jsonl").read_bytes()
    assert (whole / "weights.safetensors").read_bytes() == (parts / "weights.safetensors").read_bytes()
    assert without_seconds(whole.read_lines("metrics.jsonl")) == without_seconds(parts.read_lines("metrics.jsonl"))


def test_random_search_reports_the_time_of_all_its_members(tools: Any) -> None:
    conf = tools.conf(
        strategy=ComponentConf(name="random", options={"samples": 2, "epochs": 1}),
        retrain=tools.retrain_conf(epochs=0),
    )
    summary, folder = run(tools, "run", conf)
    members = [folder.metrics(f"search_{i}") for i in range(2)]
    assert summary["search_seconds"] == pytest.approx(sum(r.seconds for records in members for r in records))
    assert summary["search_val_accuracy"] == max(r.val.top1 for records in members for r in records)
    assert summary["arch_hash"] == ModelDesc.load(folder / "arch.json").hash()
    assert "test_accuracy" not in summary


def test_retraining_alone_keeps_what_the_summary_knew(tools: Any) -> None:
    conf = tools.conf(retrain=tools.retrain_conf(epochs=0))
    before, folder = run(tools, "run", conf)
    later = replace(conf, retrain=tools.retrain_conf(epochs=1))
    after = prepare(later, tools.context(folder)).retrain_only()
    assert after["search_seconds"] == before["search_seconds"]
    assert after["test_accuracy"] is not None


def test_a_summary_that_was_deleted_tells_the_architecture_again(tools: Any) -> None:
    """As is advised where it is damaged, in the folder of a retraining elsewhere: its search left no checkpoint."""
    before, folder = run(tools, "search", tools.conf(retrain=tools.retrain_conf(epochs=0)))
    conf = tools.conf(retrain=tools.retrain_conf(epochs=1))
    elsewhere = tools.folder("elsewhere", conf)
    ModelDesc.load(folder / "arch.json").save(elsewhere / "arch.json")
    elsewhere.write_json("summary.json", experiment.facts_of_search(before))
    whole = prepare(conf, tools.context(elsewhere)).retrain_only()
    (elsewhere / "summary.json").unlink()
    with pytest.warns(UserWarning, match=r"summary\.json says nothing of the search.*accuracy, seconds, epochs"):
        again = prepare(conf, tools.context(elsewhere, resume=True)).retrain_only()
    assert set(whole) - set(again) == {"search_seconds", "search_val_accuracy", "search_epochs"}
    assert {key: again[key] for key in again if key not in ("latency", "throughput")} == {
        key: whole[key] for key in again if key not in ("latency", "throughput")
    }
    assert elsewhere.read_json("summary.json")["genotype"] == before["genotype"]


def test_of_a_given_architecture_no_search_is_missed(tools: Any, recwarn: pytest.WarningsRecorder) -> None:
    space, search = ComponentConf(options={"reductions": 1}), RunConf().search
    conf = tools.conf(arch="DARTS_V2", space=space, search=search, retrain=tools.retrain_conf(epochs=1))
    folder = tools.folder("given", conf)
    whole = prepare(conf, tools.context(folder)).run()
    (folder / "summary.json").unlink()
    again = prepare(conf, tools.context(folder, resume=True)).retrain_only()
    assert set(again) == set(whole)
    assert again["genotype"] == whole["genotype"]
    assert not [warning for warning in recwarn if "says nothing of the search" in str(warning.message)]


def test_random_finalizers_of_the_settings_are_used(tools: Any) -> None:
    assert type(make_finalizers("", 0)) is type(make_finalizers("default", 0)) is Finalizers
    assert isinstance(make_finalizers("random", 0), RandomFinalizers)
    with pytest.raises(ValueError, match="'default' or 'random', got 'best'"):
        make_finalizers("best", 0)


def test_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="device 'nonsense' cannot be used here"):
        resolve_device("nonsense")
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_data_that_only_python_can_give_is_asked_for() -> None:
    with pytest.raises(ValueError, match="data set object given in Python"):
        load_source(RunConf(data=DataConf(source=None)))


def test_configured_augmentation_wins_over_that_of_the_set(source: Any) -> None:
    assert with_augmentation(source, RunConf()).augmentation == source.augmentation
    changed = with_augmentation(source, RunConf(data=DataConf(crop_padding=0, flip=True)))
    assert changed.augmentation == Augmentation(crop_padding=0, flip=True)


def test_run_needs_no_network_drawing_outside_its_report(whole: Any) -> None:
    html = Path(whole[1].path / "report.html").read_text(encoding="utf-8")
    assert "<html" in html
    assert "patterns" in html
