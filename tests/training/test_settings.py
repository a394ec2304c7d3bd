"""Tests of ``src/gradnas/training/settings.py``."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from gradnas.training import OptimConf, TrainConf


def test_defaults_are_those_of_darts_on_cifar() -> None:
    optimizer = OptimConf()
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.025, 0.9, 3e-4)
    assert (optimizer.schedule, optimizer.lr_min, optimizer.nesterov) == ("cosine", 0.0, False)
    assert (TrainConf().grad_clip, TrainConf().epochs) == (5.0, 600)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"lr": float("nan")}, "lr must be positive, got nan"),
        ({"lr_min": 0.1, "lr": 0.05}, "lr_min must be between 0 and lr=0.05, got 0.1"),
        ({"momentum": 1.0}, "momentum .* got 1.0"),
        ({"weight_decay": -1.0}, "weight_decay .* got -1.0"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov=True needs"),
        ({"nesterov": True, "name": "adam"}, "nesterov=True needs"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
    ],
)
def test_optimizer_setting_outside_its_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimConf(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": -1}, "epochs"),
        ({"batch_chunks": 0}, "batch_chunks"),
        ({"log_every_steps": 0}, "log_every_steps"),
        ({"validate_every_epochs": 0}, "validate_every_epochs"),
        ({"checkpoint_every_epochs": 0}, "checkpoint_every_epochs"),
        ({"max_steps_per_epoch": 0}, "max_steps_per_epoch"),
        ({"label_smoothing": 1.0}, "label_smoothing .* got 1.0"),
        ({"drop_path": 1.0}, "drop_path .* got 1.0"),
        ({"grad_clip": -1.0}, "grad_clip .* got -1.0"),
        ({"aux_weight": float("nan")}, "aux_weight .* got nan"),
        ({"l1_alphas": -0.1}, "l1_alphas .* got -0.1"),
    ],
)
def test_training_setting_outside_its_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConf(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adan"}, "unknown optimizer name 'adan'. Did you mean 'adam'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'. Did you mean 'cosine'"),
    ],
)
def test_unknown_optimizer_or_schedule_names_the_nearest(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimConf(**settings)


def test_unknown_precision_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown precision 'float16'. Did you mean 'bfloat16'"):
        TrainConf(precision="float16")  # type: ignore[arg-type]


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainConf().epochs = 3  # type: ignore[misc]
