"""Tests of ``gradnas train``, and of other commands on what it leaves."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gradnas.config import ManualConf, RetrainConf, load_config

QUICK = ("--epochs", 1, "--max-steps", 1, "--model.options.width", 2, "--device", "cpu")


def test_a_model_is_trained_resumed_and_exported(gradnas: Callable[..., Any], tmp_path: Path) -> None:
    done = gradnas("train", "resnet20", *QUICK, "--retrain.optimizer.lr", 0.1)
    assert (done.code, done.err) == (0, "")
    assert "run folder: runs/train-1" in done.out
    assert "training: " in done.out
    assert "parameters: 4.46 k" in done.out
    conf = load_config("runs/train-1/config.yaml")
    assert (conf.model.name, conf.model.options, conf.retrain.max_steps_per_epoch) == ("resnet20", {"width": 2}, 1)
    assert (conf.retrain.optimizer.lr, conf.retrain.batch_size) == (0.1, 128)
    for command in ("resume", "report", "watch", "plan"):
        again = gradnas(command, "runs/train-1")
        assert again.code == 0, again.err
    refused = gradnas("export", "runs/train-1")
    assert refused.code == 1
    assert "source is not written by gradnas. Export it in the format 'torch' or 'onnx'" in refused.err
    assert "model.pt2" in gradnas("export", "runs/train-1", "--format", "torch").out
    assert gradnas("retrain", "runs/train-1").code == 1


def test_a_preset_gives_all_but_what_is_said(gradnas: Callable[..., Any]) -> None:
    done = gradnas("train", "resnet32", "--preset", "resnet20-cifar10", "--data", "digits", "--out", "here", *QUICK)
    assert done.code == 0, done.err
    conf = load_config("here/config.yaml")
    assert (conf.model.name, conf.data.source, conf.data.flip) == ("resnet32", "digits", True)
    assert conf.retrain.optimizer.schedule == "multistep"


def test_a_preset_of_a_search_gives_its_retraining_alone(gradnas: Callable[..., Any]) -> None:
    done = gradnas("train", "resnet20", "--preset", "demo", "--out", "here", *QUICK)
    assert done.code == 0, done.err
    conf = load_config("here/config.yaml").retrain
    assert (conf.label_smoothing, conf.optimizer.nesterov, conf.epochs) == (0.1, True, 1)
    assert (conf.channels, conf.cells) == (RetrainConf().channels, RetrainConf().cells)


def test_run_trains_the_model_of_a_preset(gradnas: Callable[..., Any]) -> None:
    done = gradnas(
        *("run", "--preset", "resnet20-cifar10", "--data", "digits", "--max-steps", 1, "--retrain.epochs", 1),
        *("--model.options.width", 2, "--device", "cpu", "--out", "here"),
    )
    assert done.code == 0, done.err
    assert load_config("here/config.yaml").model.options == {"width": 2}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "gradnas train needs MODEL"),
        (("resnet20", "--model.name", "x"), 2, "takes its model as 'resnet20' already; leave out --model.name"),
        (("resnet2000",), 1, "unknown model 'resnet2000'"),
        (("resnet20", "--strategy", "darts"), 2, "unknown option --strategy"),
        (("resnet20", "--preset", "nothing"), 2, "unknown preset 'nothing'"),
        (("os:system", "--model.options.command", "ls"), 1, "model 'os:system' is no class of torch.nn.Module"),
    ],
)
def test_what_is_wrong_is_said(
    gradnas: Callable[..., Any], arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = gradnas("train", *arguments)
    assert done.code == code
    assert message in done.err
    assert not Path("runs").exists()


def test_a_search_has_no_model(gradnas: Callable[..., Any]) -> None:
    done = gradnas("search", "--preset", "resnet20-cifar10")
    assert done.code == 2
    assert "names the model 'resnet20', so that nothing is searched. Use `gradnas run --preset resnet20" in done.err


def test_models_are_listed_with_their_options(gradnas: Callable[..., Any]) -> None:
    lines = gradnas("list", "models").out.splitlines()
    assert any(line.startswith("resnet20 ") and line.endswith("width=16") for line in lines)
    assert any(line.startswith("shakeshake26_2x32d ") and "mode=shake-shake-image" in line for line in lines)
    assert any("classifiers of torchvision" in line for line in lines)


def test_the_help_names_the_model(gradnas: Callable[..., Any]) -> None:
    text = gradnas("train", "--help").out
    assert "gradnas train MODEL" in text
    assert "--retrain.optimizer.lr" in text
    assert "--strategy" not in text
    assert ":func:" not in text


def test_the_help_has_the_settings_of_given_models_and_their_defaults(gradnas: Callable[..., Any]) -> None:
    words = " ".join(gradnas("train", "--help").out.split())
    shown = dict(re.findall(r"--retrain\.([\w.]+) .*?default: (.*?)\) ", words + " "))
    offered = {name for name in shown if "." not in name}
    assert offered == {setting.name for setting in fields(ManualConf)} - {"optimizer", "l1_alphas"}
    plain = {"True": True, "False": False, "null": None}
    for name in offered:
        expected = getattr(ManualConf(), name)
        assert (plain.get(shown[name], type(expected)(shown[name])) if expected is not None else None) == expected, name
    assert (shown["epochs"], shown["batch_size"], shown["drop_path"], shown["optimizer.lr"]) == (
        *("200", "128", "0.0"),
        "0.0333",
    )


@pytest.mark.parametrize("option", ["channels", "cells", "stems", "inherit_weights", "l1_alphas"])
def test_what_belongs_to_found_networks_is_no_option(gradnas: Callable[..., Any], option: str) -> None:
    done = gradnas("train", "resnet20", f"--retrain.{option}", "1")
    assert done.code == 2
    assert f"unknown option --retrain.{option}" in done.err
