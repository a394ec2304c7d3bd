"""Settings refuse what cannot be, when they are made."""

import dataclasses
import typing
from typing import Any

import pytest

from gradnas.config import (
    BaselineConf,
    ComponentConf,
    GridConf,
    ModelConf,
    OptimConf,
    PhaseConf,
    RetrainConf,
    RunConf,
    SearchConf,
    StabilizeConf,
    from_yaml,
    same_run,
    to_yaml,
)
from gradnas.training.identity import shaping_settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SearchConf(epochs=0), "epochs of the search must be at least 1, got 0"),
        (lambda: SearchConf(val_ratio=1.0), "val_ratio must be at least 0 and below 1, got 1.0"),
        (lambda: SearchConf(val_ratio=-0.1), "val_ratio must be at least 0"),
        (lambda: SearchConf(batch_size=0), "batch_size must be at least 1"),
        (lambda: SearchConf(eval_batch_size=0), "eval_batch_size must be at least 1"),
        (lambda: RetrainConf(cutout=-1), "cutout must be at least 0"),
        (lambda: RetrainConf(policy="autoagment"), "unknown policy 'autoagment'. Did you mean 'autoaugment'"),
        (lambda: SearchConf(policy="x"), "unknown policy 'x'. Known: none, autoaugment"),
        (lambda: RetrainConf(channels=0), "channels of the retrained network must be at least 1"),
        (lambda: RetrainConf(cells=0), "cells of the retrained network must be at least 1"),
        (lambda: RetrainConf(stems="imagnet"), "stems must be 'space' or 'imagenet', got 'imagnet'"),
        (lambda: SearchConf(ema=0.9), "ema is a setting of trainings after a search: .*Set ema to 0"),
        (lambda: SearchConf(mixup=0.1), "mixup is a setting of trainings after a search"),
        (lambda: SearchConf(cutmix=0.1), "cutmix is a setting of trainings after a search"),
        (
            lambda: SearchConf(cuda_graph=True, optimizer=OptimConf(schedule="onecycle")),
            "a recorded step keeps its rate: search.optimizer.schedule=onecycle needs search.cuda_graph=false",
        ),
        (lambda: RetrainConf(drop_path=1.0), "drop_path must be at least 0 and below 1"),
        (lambda: BaselineConf(samples=-1), "samples of the baseline must be at least 0"),
        (lambda: RunConf(seed=-1), "seed must be at least 0"),
    ],
)
def test_values_out_of_range(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


def test_a_run_without_settings_does_not_retrain() -> None:
    assert (RunConf().retrain.epochs, RetrainConf().epochs) == (0, 600)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="seed"):
        RunConf().seed = 3  # type: ignore[misc]  # what the test is about


def test_policy_of_a_phase_is_read_from_yaml_and_written_to_it() -> None:
    conf = from_yaml("retrain: {policy: autoaugment}")
    assert (conf.search.policy, conf.retrain.policy) == ("none", "autoaugment")
    assert from_yaml(to_yaml(conf)) == conf
    assert from_yaml("search: {policy: none}") == RunConf()
    with pytest.raises(ValueError, match=r"retrain.policy must be one of 'none', ?'autoaugment', .*, got 'auto'"):
        from_yaml("retrain: {policy: auto}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_cells": 0}, r"grid\.max_cells must be at least 1, got 0"),
        ({"max_nodes": 0}, r"grid\.max_nodes must be at least 1"),
        ({"max_reductions": -1}, r"grid\.max_reductions must be at least 0"),
        ({"max_cells": 8, "epochs": 0}, r"brief training of each combination of the grid \(grid\.epochs\) must be at"),
        ({"epochs": 3}, r"grid\.epochs=3 has no effect without a grid: set grid\.max_reductions"),
    ],
)
def test_grids_that_cannot_be(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridConf(**settings)


def test_a_grid_is_read_from_yaml_and_written_to_it() -> None:
    conf = from_yaml("grid: {max_reductions: 0, epochs: 3}")
    assert conf.grid == GridConf(max_reductions=0, epochs=3)
    assert conf.grid.enabled
    assert from_yaml(to_yaml(conf)) == conf
    assert not RunConf().grid.enabled
    assert conf.grid.largest() == {"reductions": 0, "cells": None, "nodes": None}


_VALUES = {"lr": 1, "factor": 1, "warmup_factor": 1, "perturb_radius": 1, "milestones": (2, 4)}
_COMPANIONS: dict[str, dict[str, Any]] = {
    "factor": {"schedule": "exponential"},
    "milestones": {"schedule": "multistep"},
    "warmup_factor": {"warmup_epochs": 2},
    "perturb_radius": {"perturb": "random"},
}
_NEVER_WHOLE = {"eigenvalue_ratio"}  # lies between 0 and 1


def _numbers(kind: type[Any]) -> list[tuple[type[Any], str]]:
    hints = typing.get_type_hints(kind)
    found = [name for name, hint in hints.items() if hint is float or float in typing.get_args(hint)]
    return [(kind, name) for name in found if name not in _NEVER_WHOLE]


@pytest.mark.parametrize(
    ("kind", "name"),
    [case for kind in (OptimConf, StabilizeConf, PhaseConf, SearchConf, RetrainConf) for case in _numbers(kind)],
)
def test_a_run_whose_settings_hold_whole_numbers_can_go_on(kind: type[Any], name: str) -> None:
    part = kind(**{name: _VALUES.get(name, 0), **_COMPANIONS.get(name, {})})
    value = getattr(part, name)
    assert {type(number) for number in (value if name == "milestones" else [value])} == {float}
    settings = {OptimConf: "optimizer", StabilizeConf: "stabilize"}
    search = part if kind is SearchConf else SearchConf(**{settings[kind]: part}) if kind in settings else SearchConf()
    retrain = part if kind is RetrainConf else RetrainConf(optimizer=part) if kind is OptimConf else RetrainConf()
    conf = RunConf(search=search, retrain=retrain)
    stored = from_yaml(to_yaml(conf))
    assert same_run(stored, conf)
    assert shaping_settings(stored.search) == shaping_settings(conf.search)
    assert shaping_settings(stored.retrain) == shaping_settings(conf.retrain)


def test_options_with_tuples_are_those_that_a_file_gives_back() -> None:
    options = {"sizes": (1, (2, 3)), "more": {"betas": (0.9, 0.95)}}
    plain = {"sizes": [1, [2, 3]], "more": {"betas": [0.9, 0.95]}}
    assert ComponentConf(options=options).options == plain
    assert ModelConf(name="resnet20", options=options).options == plain
    search = SearchConf(optimizer=OptimConf(name="adam", options={"betas": (0.9, 0.95)}))
    conf = RunConf(space=ComponentConf(options=options), strategy=ComponentConf(options=options), search=search)
    stored = from_yaml(to_yaml(conf))
    assert same_run(stored, conf)
    assert shaping_settings(stored.search) == shaping_settings(conf.search)


def test_identity_in_stored_checkpoints_is_the_one_they_were_written_with() -> None:
    assert shaping_settings(SearchConf())["optimizer"] == (
        "OptimConf(name='sgd', lr=0.025, momentum=None, weight_decay=0.0003, nesterov=False, options={}, "
        "schedule='cosine', lr_min=0.001, factor=None, milestones=(), warmup_epochs=0, warmup_factor=None)"
    )
