"""Spaces and strategies by name, by class path, and back."""

from pathlib import Path

import pytest

from gradnas.arch import DatasetConf
from gradnas.config import (
    SPACES,
    STRATEGIES,
    ComponentConf,
    build_space,
    build_strategy,
    describe_space,
    describe_strategy,
)
from gradnas.spaces import DartsSpace
from gradnas.strategies import Darts, RandomSearch

DATA = DatasetConf(channels=1, image_size=(16, 16), n_classes=3)
SMALL = {"channels": 4, "cells": 3, "nodes": 2, "reductions": 1}


def test_a_space_takes_shape_and_classes_from_the_data() -> None:
    space = build_space(ComponentConf(name="darts", options=SMALL), DATA)
    assert isinstance(space, DartsSpace)
    assert space.settings.dataset == DATA
    assert (space.settings.n_cells, space.settings.n_reductions) == (3, 1)


@pytest.mark.parametrize("path", ["gradnas.spaces.DartsSpace", "gradnas.spaces.darts.DartsSpace"])
def test_a_space_by_class_path_is_the_same(path: str) -> None:
    by_path = build_space(ComponentConf(name=path, options=SMALL), DATA)
    assert by_path.build() == build_space(ComponentConf(name="darts", options=SMALL), DATA).build()


def test_a_strategy_by_name_and_by_class_path() -> None:
    for name in ("darts", "gradnas.strategies.Darts"):
        strategy = build_strategy(ComponentConf(name=name, options={"order": 2, "betas": [0.4, 0.9]}))
        assert isinstance(strategy, Darts)
        assert (strategy.order, strategy.betas) == (2, (0.4, 0.9))
    assert build_strategy(ComponentConf(name="random", options={"samples": 3})) == RandomSearch(samples=3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dart", {}, r"unknown space 'dart'. Did you mean 'darts'\? Known: .* Or give a class path."),
        ("darts", {"chanels": 3}, None),  # further settings are the space's own to refuse
        ("darts", {"n_classes": 3}, "space option 'n_classes' comes from the data set and cannot be set. Remove it."),
        ("darts", {"channels": "many"}, "channels"),
        ("gradnas.spaces.Darts", {}, "space 'gradnas.spaces.Darts' cannot be imported: "),
        ("no_such_package.Space", {}, "space 'no_such_package.Space' cannot be imported: "),
        ("gradnas.spaces", {}, "space 'gradnas.spaces' is not a class"),
        ("gradnas.config.build_space", {}, "is not a class"),
        ("gradnas.strategies.Darts", {}, "space 'gradnas.strategies.Darts' is no ModelDescBuilder"),
    ],
)
def test_wrong_spaces(name: str, options: dict[str, object], message: str | None) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        build_space(ComponentConf(name=name, options=options), DATA)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dartz", {}, r"unknown strategy 'dartz'. Did you mean 'darts'\?"),
        ("darts", {"ordr": 2}, r"strategy 'darts' has no option 'ordr'. Did you mean 'order'\?"),
        ("darts", {"order": 3}, "order must be 1 or 2, got 3"),
        ("random", {"samples": 0}, "samples must be at least 1"),
        ("random", {"samples": "x"}, "strategy 'random' with options {'samples': 'x'}: "),
        ("gradnas.spaces.DartsSpace", {}, "strategy 'gradnas.spaces.DartsSpace' is no MetaOptimizer"),
    ],
)
def test_wrong_strategies(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_strategy(ComponentConf(name=name, options=options))


def test_a_class_that_is_no_strategy_is_not_even_called(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(ValueError, match=r"strategy 'subprocess.Popen' is no MetaOptimizer"):
        build_strategy(ComponentConf(name="subprocess.Popen", options={"args": ["mkdir", str(made)]}))
    with pytest.raises(ValueError, match=r"space 'subprocess.Popen' is no ModelDescBuilder"):
        build_space(ComponentConf(name="subprocess.Popen", options={"args": ["mkdir", str(made)]}), DATA)
    assert not made.exists()


def test_describe_space_and_back() -> None:
    space = DartsSpace(in_channels=1, image_size=16, n_classes=3, channels=4, cells=3, nodes=2, reductions=1)
    conf = describe_space(space)
    assert conf.name == "darts"
    assert build_space(conf, DATA).build() == space.build()


@pytest.mark.parametrize(
    "strategy", [Darts(), Darts(order=2, lr=0.01, betas=(0.4, 0.9), weight_decay=0.0, epsilon_scale=0.1)]
)
def test_describe_darts_and_back(strategy: Darts) -> None:
    conf = describe_strategy(strategy)
    assert conf.name == "darts"
    assert repr(build_strategy(conf)) == repr(strategy)


def test_describe_random_search_and_back() -> None:
    strategy = RandomSearch(samples=3, epochs=2)
    assert build_strategy(describe_strategy(strategy)) == strategy


class MySearch(Darts):
    """A strategy of somebody else."""


def test_a_strategy_without_a_name_is_described_by_its_class_path() -> None:
    assert describe_strategy(MySearch()).name == f"{MySearch.__module__}.MySearch"


def test_every_name_builds_with_its_defaults() -> None:
    data = DatasetConf(channels=3, image_size=(32, 32), n_classes=10)
    for name, kind in SPACES.items():
        assert type(build_space(ComponentConf(name=name), data)) is kind
    for name, strategy in STRATEGIES.items():
        assert type(build_strategy(ComponentConf(name=name))) is strategy
