"""Settings refuse what cannot be, when they are made."""

import dataclasses

import pytest

from gradnas.config import BaselineConf, GridConf, RetrainConf, RunConf, SearchConf, from_yaml, to_yaml
from gradnas.training import OptimConf


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
