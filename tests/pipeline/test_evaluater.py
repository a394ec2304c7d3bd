"""Tests of ``src/gradnas/pipeline/evaluater.py``."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from gradnas.arch import Genotype, ModelDesc
from gradnas.data import BatchLoader
from gradnas.ops import DropPath_
from gradnas.pipeline import Evaluater, RunFolder, load_weights
from gradnas.pipeline.random_searcher import random_member
from gradnas.pipeline.weights import save_weights
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model
from gradnas.training import CheckPoint


def with_found(tools: Any, name: str = "run") -> RunFolder:
    folder = tools.folder(name)
    random_member(Model(tools.space.build(), affine=False), 0, 0).save(folder / "arch.json")
    return folder


def evaluate(tools: Any, folder: RunFolder, *, resume: bool = False, listener: Any = None, **settings: Any) -> Any:
    more = {} if listener is None else {"listener": listener}
    return Evaluater(tools.context(folder, resume=resume, **more)).evaluate(tools.retrain_conf(**settings), tools.space)


def test_network_has_the_wanted_size_and_the_found_cells(tools: Any) -> None:
    folder = with_found(tools)
    model = Evaluater(tools.context(folder)).create_model(tools.retrain_conf(channels=4, cells=5), tools.space)
    found = ModelDesc.load(folder / "arch.json")
    assert len(model.typed_cells()) == 5
    assert model.desc.conf_model_desc.model_stems.init_node_ch == 4
    assert model.desc.genotype() == found.genotype()
    assert ModelDesc.load(folder / "full_arch.json") == model.desc


def test_network_has_affine_norms_and_drop_path(tools: Any) -> None:
    model = Evaluater(tools.context(with_found(tools))).create_model(tools.retrain_conf(), tools.space)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(norm.affine for norm in norms)
    assert any(isinstance(m, DropPath_) for m in model.modules())


def test_description_in_another_file_is_used(tools: Any, tmp_path: Path) -> None:
    folder = tools.folder()
    random_member(Model(tools.space.build(), affine=False), 0, 1).save(tmp_path / "other.json")
    Evaluater(tools.context(folder)).create_model(
        tools.retrain_conf(), tools.space, tmp_path / "other.json", tmp_path / "full.json"
    )
    assert ModelDesc.load(tmp_path / "full.json").genotype() == ModelDesc.load(tmp_path / "other.json").genotype()
    assert not (folder / "full_arch.json").exists()


def test_missing_description_says_which_run_should_have_made_it(tools: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"no found architecture at .*arch\.json; the search of this run"):
        evaluate(tools, tools.folder())


def test_description_of_a_newer_version_is_refused(tools: Any) -> None:
    folder = with_found(tools)
    document = json.loads((folder / "arch.json").read_text())
    key = next(name for name in document if "version" in name)
    (folder / "arch.json").write_text(json.dumps({**document, key: 99}))
    with pytest.raises(ValueError, match="99"):
        evaluate(tools, folder)
    assert not (folder / "full_arch.json").exists()


def test_result_holds_metrics_network_and_confusion(tools: Any) -> None:
    folder = with_found(tools)
    result = evaluate(tools, folder)
    assert [record.epoch for record in result.train_metrics] == [0, 1, 2]
    assert result.train_metrics.test is not None
    assert int(result.confusion.sum()) == 20
    hits = 100 * float(result.confusion.diagonal().sum()) / 20
    assert result.train_metrics.test.top1 == pytest.approx(hits)


def test_report_of_the_test_is_given_again_by_a_finished_run(tools: Any) -> None:
    folder = with_found(tools)
    first = evaluate(tools, folder, ema=0.9)
    assert first.test_report is not None
    assert first.test_report.score == first.train_metrics.test
    again = evaluate(tools, folder, resume=True, ema=0.9)
    assert again.test_report == first.test_report
    ours, theirs = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_average_of_the_weights_is_saved(tools: Any) -> None:
    with_average, without = with_found(tools), with_found(tools, "without")
    result, plain = evaluate(tools, with_average, ema=0.9), evaluate(tools, without)
    saved = Model(ModelDesc.load(with_average / "full_arch.json"), droppath=True, affine=True)
    load_weights(saved, with_average / "weights.safetensors")
    found = CheckPoint(with_average.checkpoint("retrain"))
    found.load_existing()
    same = [torch.equal(value, result.model.state_dict()[name]) for name, value in saved.state_dict().items()]
    raw = [torch.equal(value, plain.model.state_dict()[name]) for name, value in found["model"].items()]
    assert all(same)
    assert all(raw), "the checkpoint has the weights that go on learning"
    assert not all(torch.equal(value, result.model.state_dict()[name]) for name, value in found["model"].items())


def test_test_set_is_read_once_and_after_everything_else(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = BatchLoader.batches

    def noting(self: BatchLoader, *args: Any, **kwargs: Any) -> Any:
        read.append(self._purpose)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(BatchLoader, "batches", noting)
    evaluate(tools, with_found(tools), val_ratio=0.25)
    assert read == ["retrain.train", "retrain.val"] * 2 + ["retrain.test"]


def test_validation_happens_only_when_asked_for(tools: Any) -> None:
    metrics = evaluate(tools, with_found(tools)).train_metrics
    assert all(record.val is None for record in metrics)


def test_saved_weights_are_those_of_the_network(tools: Any) -> None:
    folder = with_found(tools)
    result = evaluate(tools, folder)
    again = Model(ModelDesc.load(folder / "full_arch.json"), droppath=True, affine=True)
    load_weights(again, folder / "weights.safetensors")
    ours, theirs = result.model.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    x = tools.source.test.images
    torch.testing.assert_close(result.model.eval()(x)[0], again.eval()(x)[0])  # one of them is in channels_last


def test_resuming_a_finished_training_changes_no_file(tools: Any) -> None:
    folder = with_found(tools)
    first = evaluate(tools, folder)
    before = {p.name: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}
    again = evaluate(tools, folder, resume=True)
    assert list(again.train_metrics) == list(first.train_metrics)
    assert torch.equal(again.confusion, first.confusion)
    assert {p.name: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("epoch", [1, 2], ids=["while training", "while testing"])
def test_interrupted_retraining_leaves_the_files_of_an_uninterrupted_one(
    tools: Any, without_seconds: Any, epoch: int
) -> None:
    whole, parts = with_found(tools, "whole"), with_found(tools, "parts")
    evaluate(tools, whole, drop_path=0.3)
    with pytest.raises(tools.killed):
        evaluate(tools, parts, drop_path=0.3, listener=tools.kill_after("retrain", epoch))
    evaluate(tools, parts, drop_path=0.3, resume=True)
    assert (whole / "weights.safetensors").read_bytes() == (parts / "weights.safetensors").read_bytes()
    assert without_seconds(whole.read_lines("metrics.jsonl")) == without_seconds(parts.read_lines("metrics.jsonl"))


def test_files_of_a_second_network_lie_in_its_own_folder(tools: Any) -> None:
    folder = tools.folder()
    (folder / "baseline").mkdir()
    random_member(Model(tools.space.build(), affine=False), 0, 0).save(folder / "baseline" / "arch.json")
    Evaluater(tools.context(folder), phase="baseline_retrain", subfolder="baseline").evaluate(
        tools.retrain_conf(), tools.space
    )
    assert (folder / "baseline" / "weights.safetensors").is_file()
    assert not (folder / "weights.safetensors").exists()
    assert len(folder.metrics("baseline_retrain")) == 3


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights at .*; the run has not been retrained"):
        load_weights(small("avg_pool_3x3"), tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"nonsense" * 9])
def test_damaged_weights_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="does not hold the weights of this network"):
        load_weights(small("avg_pool_3x3"), tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("op", "why"), [("sep_conv_3x3", "Missing key"), ("max_pool_3x3", "they are of the architecture")]
)
def test_weights_of_another_network_are_refused(tmp_path: Path, op: str, why: str) -> None:
    save_weights(small(op), tmp_path / "w.safetensors")
    path = tmp_path / "w.safetensors"
    if op == "sep_conv_3x3":  # of a version that did not say what they are of
        path.write_bytes(save(load(path.read_bytes())))
    with pytest.raises(ValueError, match=rf"does not hold the weights of this network: .*{why}|Unexpected key"):
        load_weights(small("avg_pool_3x3"), path)


def small(op: str) -> Model:
    """Networks of pools have the same weights, whatever the pools."""
    genotype = Genotype(normal=[(op, 0), (op, 1)], normal_concat=[2], reduce=[(op, 0), (op, 1)], reduce_concat=[2])
    return Model(DartsSpace(1, 8, 3, channels=2, cells=3, nodes=1, reductions=1).from_genotype(genotype, channels=2))


def test_evaluater_without_a_folder_says_so(tools: Any) -> None:
    with pytest.raises(ValueError, match="give the run a folder"):
        Evaluater(tools.context()).create_model(tools.retrain_conf(), tools.space)
