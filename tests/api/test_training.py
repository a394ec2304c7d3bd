"""Tests of ``gradnas.train``: networks designed by hand, with everything around them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gradnas
from gradnas.config import ModelConf, RunConf, load_config
from gradnas.data import ImageSet, load_data
from gradnas.models import CifarResNet
from gradnas.pipeline import ManualExperimentRunner, RandomExperimentRunner, RunFolder, load_weights
from gradnas.report.comparison.compared_run import State, read_compared_run
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.records.run_settings import settings_rows
from gradnas.report.records.run_status import how_to_go_on, unfinished
from gradnas.training import EpochRecord, Silence, read_checkpoint

QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 32,
    "max_steps_per_epoch": 2,
    "device": "cpu",
    "options": {"width": 2},
    "progress": False,
}
FILES = {
    *("checkpoints", "config.yaml", "environment.json", "metrics.jsonl", "model.json"),
    *("report.html", "summary.json", "weights.safetensors"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> gradnas.Result:
    """ResNet-20 of two channels on digits."""
    return gradnas.train("resnet20", "digits", out=tmp_path_factory.mktemp("trained") / "run", **QUICK)


def test_the_folder_of_a_training_is_a_run_folder(trained: gradnas.Result) -> None:
    assert {path.name for path in trained.folder.iterdir()} - {"run.lock"} == FILES
    records = trained.metrics("retrain")
    assert [record.epoch for record in records.records] == [0, 1, 2]
    assert records.test is not None
    summary = trained.summary
    assert (summary["model"], summary["model_options"]) == ("resnet20", {"width": 2})
    assert summary["params"] == sum(p.numel() for p in trained.model.parameters())
    assert summary["macs"] > 0
    assert summary["latency"]["median_ms"] > 0
    assert summary["test_accuracy"] == records.test.top1
    assert not {"space", "strategy", "arch_hash", "genotype"} & summary.keys()
    stored = load_config(trained.folder / "config.yaml")
    assert stored == trained.config
    assert stored.model == ModelConf(name="resnet20", options={"width": 2})
    assert (stored.retrain.epochs, stored.retrain.drop_path, stored.retrain.grad_clip) == (2, 0.0, 0.0)


def test_the_result_gives_the_trained_network(trained: gradnas.Result) -> None:
    result = gradnas.load(trained.folder)
    assert result.retrained
    assert result.input_shape == (1, 8, 8)
    assert isinstance(result.model, CifarResNet)
    assert not result.model.training
    data = load_data("digits")
    assert data.test is not None
    draws = torch.Generator().manual_seed(0)
    assert result.model(torch.randn(2, 1, 8, 8, generator=draws)).shape == (2, 10)
    weights = read_checkpoint(trained.folder / "checkpoints" / "retrain.pt")["model"]
    assert all(torch.equal(weights[name], tensor) for name, tensor in result.model.state_dict().items())
    assert "resnet20" in repr(result)
    assert "resnet20" in result._repr_html_()
    with pytest.raises(ValueError, match=r"trained the model 'resnet20' as it is: nothing was searched"):
        _ = result.arch


def test_nothing_can_be_retrained_from_it(trained: gradnas.Result) -> None:
    with pytest.raises(ValueError, match=r"no architecture was found that could be retrained.*gradnas.train"):
        gradnas.retrain(trained)


def test_the_report_speaks_of_a_training_alone(trained: gradnas.Result) -> None:
    page = (trained.folder / "report.html").read_text()
    assert "<h1>Training of resnet20 on digits</h1>" in page
    assert "What was trained" in page
    for absent in (
        "Found architecture",
        "Retraining",
        "What the search did",
        "what the search itself is worth",
        "alphas.jsonl",
    ):
        assert absent not in page
    run = read_run_folder(trained.folder)
    rows = dict(settings_rows(run))
    assert list(rows) == ["Data", "Model", "Training", "Seed"]
    assert rows["Model"] == "resnet20: width 2"
    assert "8×8 pixels, 1 channel;" in rows["Data"]
    assert rows["Training"].startswith("2 epochs, batches of 32, SGD with learning rate 0.0333")
    assert "cells" not in rows["Training"]
    assert unfinished(run) == ()


def test_a_finished_training_is_taken_as_it_is(trained: gradnas.Result) -> None:
    files = {path: path.read_bytes() for path in map(trained.folder.joinpath, ("metrics.jsonl", "weights.safetensors"))}
    for again in (gradnas.resume(trained.folder, progress=False), train_again(trained.folder)):
        assert again.summary["test_accuracy"] == trained.summary["test_accuracy"]
    assert {path: path.read_bytes() for path in files} == files
    with pytest.raises(FileExistsError, match="already holds a run"):
        train_again(trained.folder, resume=False)
    with pytest.raises(ValueError, match="another configuration"):
        train_again(trained.folder, options={"width": 3})


def train_again(folder: Path, *, resume: bool = True, **changes: Any) -> gradnas.Result:
    return gradnas.train("resnet20", "digits", out=folder, resume=resume, **{**QUICK, **changes})


class Stopped(Exception):  # noqa: N818 - not an error of ours
    pass


def stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    class Stop(Silence):
        def on_epoch(self, record: EpochRecord) -> None:
            if record.epoch == after:
                raise Stopped

    class Listening:
        def __enter__(self) -> Stop:
            return Stop()

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("gradnas.api.folders.progress_listener", lambda _: Listening())


def test_a_training_that_was_interrupted_says_so_and_goes_on(
    trained: gradnas.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, after=1)
        with pytest.raises(Stopped):
            train_again(tmp_path / "run", resume=False)
    with pytest.raises(FileNotFoundError, match=r"the training in .* is not finished. Continue it with"):
        gradnas.load(tmp_path / "run")
    run = read_run_folder(tmp_path / "run")
    assert unfinished(run)[:2] == ("This run is not finished.", "The training has run 2 of 2 epochs.")
    result = gradnas.resume(tmp_path / "run", progress=False)
    same = [name for name in trained.model.state_dict() if "num_batches" not in name]
    for name in same:
        assert torch.equal(result.model.state_dict()[name], trained.model.state_dict()[name])


def test_a_data_set_given_in_python_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data("digits")
    with monkeypatch.context() as patch:
        stopping(patch, after=0)
        with pytest.raises(Stopped):
            gradnas.train("resnet20", data.train, test_set=data.test, out=tmp_path / "run", **QUICK)
    assert "call gradnas.train again" in str(how_to_go_on(read_run_folder(tmp_path / "run")))
    with pytest.raises(ValueError, match=r"gradnas.train with the data set again"):
        gradnas.resume(tmp_path / "run")
    result = gradnas.train("resnet20", data.train, test_set=data.test, out=tmp_path / "run", resume=True, **QUICK)
    assert result.summary["test_accuracy"] is not None


def test_a_factory_of_ones_own_is_named_and_imported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def tied(n_classes: int, in_channels: int) -> nn.Module:\n"
        "    conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)\n"
        "    return nn.Sequential(conv, conv, nn.Flatten(), nn.Linear(64 * in_channels, n_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    factory = __import__("own_net").tied
    quick = {key: value for key, value in QUICK.items() if key != "options"}
    result = gradnas.train(factory, "digits", out=tmp_path / "run", **quick)
    assert result.config.model == ModelConf(name="own_net:tied")
    assert result.model[0] is result.model[1]
    exported = result.export("torch", tmp_path / "exported")
    assert exported.max_difference <= exported.tolerance
    assert "own_net:tied" in json.dumps(result.summary)


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    def refused(error: type[Exception], message: str, model: Any = "resnet20", **changes: Any) -> None:
        with pytest.raises(error, match=message):
            gradnas.train(model, "digits", out=tmp_path / "run", **{**QUICK, **changes})
        assert not (tmp_path / "run").exists()

    refused(ValueError, "unknown model 'resnet200'", "resnet200")
    refused(TypeError, "unknown setting 'channels'", channels=3)
    refused(TypeError, "got a CifarResNet: what is built already", CifarResNet(8, 10))
    refused(ValueError, "has no option 'wide'", options={"wide": 3})
    refused(ValueError, "drop_path=0.1 is for networks of cells", drop_path=0.1)
    refused(ValueError, "aux_weight=0.4 has no effect", aux_weight=0.4)
    refused(ValueError, "set retrain.epochs to at least 1", epochs=0)
    refused(ValueError, "fewer samples than the batch", batch_size=5000)
    refused(ValueError, r"cannot read images of shape \(1, 8, 8\)", "torchvision.alexnet", options={})


def test_a_lost_file_says_what_brings_it_back(trained: gradnas.Result, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(trained.folder, tmp_path / "run"))
    (folder / "model.json").write_text("{}")
    with pytest.raises(ValueError, match=r"model.json does not say for which images.*gradnas resume"):
        _ = gradnas.load(folder).input_shape
    gradnas.resume(folder, progress=False)
    assert gradnas.load(folder).input_shape == (1, 8, 8)
    with pytest.raises(ValueError, match=r"they are of the architecture resnet20"):
        load_weights(trained.model, folder / "weights.safetensors", "another network of the same shapes")
    stored = RunFolder.open(folder)
    stored.write_config(replace(trained.config, model=ModelConf(name="resnet20", options={"width": 3})))
    with pytest.raises(ValueError, match="does not hold the weights of this network"):
        _ = gradnas.load(folder).model


def test_a_limit_of_time_is_told_of_and_more_time_goes_on(tmp_path: Path) -> None:
    result = gradnas.train("resnet20", "digits", out=tmp_path / "run", **{**QUICK, "epochs": 3}, max_time=1e-6)
    assert result.summary["out_of_time"] == ["retrain"]
    assert "ended the training early" in unfinished(read_run_folder(tmp_path / "run"))[0]
    again = gradnas.resume(tmp_path / "run", max_time=100, on_nonfinite="skip", progress=False)
    assert again.summary["out_of_time"] == []
    assert len([r for r in again.metrics("retrain").records if r.train is not None]) == 3


def test_a_configuration_with_a_model_is_planned(trained: gradnas.Result) -> None:
    for planned in (gradnas.plan(trained.folder), gradnas.plan(trained.config)):
        (phase,) = planned.phases
        assert (phase.phase, phase.network, phase.epochs) == ("retrain", "resnet20", 2)
        assert phase.params == trained.summary["params"]
        assert phase.macs == trained.summary["macs"]


def test_runs_of_given_models_are_compared(trained: gradnas.Result, tmp_path: Path) -> None:
    again = train_again(tmp_path / "seed 1", resume=False, seed=1)
    wide = train_again(tmp_path / "wide", resume=False, options={"width": 3})
    comparison = gradnas.compare([trained.folder, again.folder, wide.folder])
    assert [(row.name, len(row.results)) for row in sorted(comparison.rows, key=lambda row: row.name)] == [
        ("resnet20 (model.width=2)", 2),
        ("resnet20 (model.width=3)", 1),
    ]


def test_without_test_images_a_training_counts_as_done(tmp_path: Path) -> None:
    result = gradnas.train("resnet20", load_data("digits").train, out=tmp_path / "run", **QUICK)
    assert repr(result).count("not tested") == 1
    assert read_compared_run(result.folder).result.state is State.NO_TEST_SET


def test_a_given_model_stands_beside_a_found_network(trained: gradnas.Result, tmp_path: Path) -> None:
    small = {"channels": 2, "cells": 3, "nodes": 1, "reductions": 1}
    conf = gradnas.config.from_values(
        {
            "space": {"options": small},
            "search": {"epochs": 1, "max_steps_per_epoch": 1, "batch_size": 16},
            "retrain": {"epochs": 1, "max_steps_per_epoch": 1, "batch_size": 16, "channels": 2, "cells": 3},
            "device": "cpu",
        }
    )
    found = gradnas.run(conf, out=tmp_path / "found", progress=False)
    comparison = gradnas.compare([trained.folder, found.folder], mixed=True)
    names = {row.name.partition(" ")[0] for row in comparison.rows}
    assert names == {"resnet20", "darts"}


def test_the_manual_runner_trains_the_model_of_a_configuration(trained: gradnas.Result, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(gradnas.config.to_yaml(trained.config))
    searched, evaluated = ManualExperimentRunner(config, "hand", out=tmp_path).run()
    assert searched is None
    assert evaluated is not None
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "hand_eval"}
    result = gradnas.load(tmp_path / "hand_eval")
    assert result.summary["test_accuracy"] == trained.summary["test_accuracy"]
    assert ManualExperimentRunner(config, "hand", out=tmp_path).run(eval=False) == (None, None)
    with pytest.raises(ValueError, match="RandomExperimentRunner searches, the configuration names the model"):
        RandomExperimentRunner(config, "hand", out=tmp_path)
    config.write_text(gradnas.config.to_yaml(RunConf()))
    with pytest.raises(ValueError, match="ManualExperimentRunner trains a given model, the configuration names none"):
        ManualExperimentRunner(config, "hand", out=tmp_path)


def test_test_images_may_be_repaired_until_they_have_been_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):  # noqa: N818 - not an error of ours
        pass

    def killed(self: object, *args: object) -> None:
        raise Killed

    data = load_data("digits")
    assert isinstance(data.test, ImageSet)
    assert isinstance(data.train, ImageSet)
    repaired, others = data.test.subset(torch.arange(100)), data.train.subset(torch.arange(100))
    settings: dict[str, Any] = {**QUICK, "out": tmp_path / "run"}
    with monkeypatch.context() as patched:
        patched.setattr("gradnas.training.trainer.Trainer.post_fit", killed)
        with pytest.raises(Killed):
            gradnas.train("resnet20", data, **settings)
    with pytest.raises(ValueError, match="made with other training images"):
        gradnas.train("resnet20", replace(data, train=others), resume=True, **settings)
    result = gradnas.train("resnet20", replace(data, test=repaired), resume=True, **settings)
    assert result.summary["n_test"] == 100
    with pytest.raises(ValueError, match="made with other test images"):
        gradnas.train("resnet20", data, resume=True, **settings)
