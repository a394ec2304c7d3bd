"""Tests of ``src/gradnas/training/settings.py``."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from gradnas.training import OptimConf, TrainConf


def test_defaults_are_those_of_darts_on_cifar() -> None:
    optimizer = OptimConf()
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.025, None, 3e-4)
    assert (optimizer.schedule, optimizer.lr_min, optimizer.nesterov) == ("cosine", 0.0, False)
    assert (TrainConf().grad_clip, TrainConf().epochs) == (5.0, 600)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"lr": float("nan")}, "lr must be positive, got nan"),
        ({"lr_min": 0.1, "lr": 0.05}, "lr_min must be between 0 and lr=0.05, got 0.1"),
        ({"momentum": 1.0}, "momentum .* got 1.0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0 and finite, got -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay must be at least 0 and finite, got nan"),
        ({"weight_decay": float("inf")}, "weight_decay must be at least 0 and finite, got inf"),
        ({"lr": float("inf")}, "lr must be positive, got inf"),
        ({"lr_min": float("nan")}, "lr_min must be between 0 and lr=0.025, got nan"),
        ({"momentum": float("nan")}, "momentum .* got nan"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov=True needs"),
        ({"nesterov": True, "name": "adam"}, "nesterov=True needs"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
        ({"momentum": 0.9, "name": "adam"}, "momentum=0.9 is a setting of sgd, not of 'adam'"),
        ({"momentum": 0.9, "name": "torch.optim.RMSprop"}, "goes into the options of the optimizer"),
        ({"lr_min": 0.01, "schedule": "constant"}, "lr_min=0.01 would have no effect with schedule='constant'"),
        ({"lr_min": 0.01, "schedule": "multistep"}, "lr_min=0.01 would have no effect with schedule='multistep'"),
        ({"factor": 0.5}, "factor=0.5 would have no effect with schedule='cosine'.*set it to null"),
        ({"factor": 0.5, "schedule": "onecycle"}, "a setting of exponential and multistep"),
        ({"factor": 0.0, "schedule": "exponential"}, "factor must be above 0 and at most 1, got 0.0"),
        ({"factor": 1.1, "schedule": "exponential"}, "factor must be above 0 and at most 1, got 1.1"),
        ({"milestones": (0.5,)}, r"milestones=\(0.5,\) would have no effect with schedule='cosine'"),
        ({"milestones": (0.5, 3), "schedule": "multistep"}, r"milestones must rise, .* got \[0.5, 3.0\]"),
        ({"milestones": (0.5, 0.5), "schedule": "multistep"}, "milestones must rise"),
        ({"milestones": (5, 3), "schedule": "multistep"}, "milestones must rise"),
        ({"milestones": (2.5,), "schedule": "multistep"}, "milestones must rise"),
        ({"milestones": (0.0, 0.5), "schedule": "multistep"}, "milestones must rise"),
        ({"milestones": (float("inf"),), "schedule": "multistep"}, "milestones must rise"),
        ({"milestones": (float("nan"),), "schedule": "multistep"}, "milestones must rise"),
        ({"warmup_factor": 0.0, "warmup_epochs": 2}, "warmup_factor must be above 0 and at most 1, got 0.0"),
        ({"warmup_factor": 0.5}, "warmup_factor=0.5 would have no effect without warmup_epochs"),
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
        ({"ema": 1.0}, "ema must be at least 0 and below 1, got 1.0"),
        ({"ema": -0.1}, "ema must be at least 0 and below 1"),
        ({"mixup": -0.1}, "mixup must be at least 0 and finite, got -0.1"),
        ({"cutmix": float("inf")}, "cutmix must be at least 0 and finite, got inf"),
        ({"aux_weight": float("inf")}, "aux_weight must be at least 0 and finite, got inf"),
        ({"l1_alphas": float("inf")}, "l1_alphas must be at least 0 and finite, got inf"),
        ({"grad_clip": float("nan")}, "grad_clip must be at least 0 and finite, got nan"),
        ({"checkpoint_every_seconds": float("inf")}, "checkpoint_every_seconds must be at least 0 and finite, got inf"),
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup": True}, "mixup must be a number, got True"),
        ({"mixup": "x"}, "mixup must be a number, got 'x'"),
        ({"cutmix": None}, "cutmix must be a number, got None"),
        ({"optimizer": {"lr": 0.1}}, "optimizer must be OptimConf, got {'lr': 0.1}"),
    ],
)
def test_training_setting_of_another_type_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        TrainConf(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": "0.1"}, "lr must be a number, got '0.1'"),
        ({"momentum": True}, "momentum must be a number, got True"),
        ({"nesterov": 1}, "nesterov must be True or False, got 1"),
        ({"milestones": 0.5, "schedule": "multistep"}, "milestones must be a list of numbers, got 0.5"),
        ({"milestones": ("0.5",), "schedule": "multistep"}, "each of milestones must be a number, got '0.5'"),
        ({"options": [("betas", (0.9, 0.95))]}, "options must be a mapping of names to values"),
    ],
)
def test_optimizer_setting_of_another_type_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        OptimConf(**settings)


def test_settings_are_those_that_a_file_gives_back() -> None:
    conf = OptimConf(
        name="adam", lr=1, weight_decay=0, options={"betas": (0.9, 0.95)}, schedule="multistep", milestones=[2, 4]
    )
    assert repr(conf) == (
        "OptimConf(name='adam', lr=1.0, momentum=None, weight_decay=0.0, nesterov=False, "
        "options={'betas': [0.9, 0.95]}, schedule='multistep', lr_min=0.0, factor=None, milestones=(2.0, 4.0), "
        "warmup_epochs=0, warmup_factor=None)"
    )


@pytest.mark.parametrize(("milestones", "late"), [((150, 225), 225), ((150, 200), 200), ((1,), None), ((199,), None)])
def test_milestones_at_or_behind_the_last_epoch_are_refused(milestones: tuple[int, ...], late: int | None) -> None:
    optimizer = OptimConf(schedule="multistep", milestones=milestones)
    assert TrainConf(epochs=0, optimizer=optimizer).optimizer == optimizer
    if late is None:
        assert TrainConf(epochs=200, optimizer=optimizer).optimizer == optimizer
        return
    with pytest.raises(ValueError, match=rf"after epochs=200: at {late} the rate would not fall.*\[0.5, 0.75\]"):
        TrainConf(epochs=200, optimizer=optimizer)


def test_milestones_that_are_shares_suit_every_training() -> None:
    assert TrainConf(epochs=1, optimizer=OptimConf(schedule="multistep", milestones=(0.5, 0.75))).epochs == 1


def test_a_shorter_training_keeps_the_shares_of_its_milestones() -> None:
    conf = TrainConf(epochs=200, ema=0.5, optimizer=OptimConf(lr=0.3, schedule="multistep", milestones=(100, 150)))
    assert conf.for_epochs(5) == TrainConf(
        epochs=5, ema=0.5, optimizer=OptimConf(lr=0.3, schedule="multistep", milestones=(0.5, 0.75))
    )
    assert TrainConf(epochs=0).for_epochs(3) == TrainConf(epochs=3)
    assert TrainConf(epochs=9).for_epochs(3) == TrainConf(epochs=3)
