"""Tests of ``rules.py``: every setting has a role, and equal settings are equal however they are written."""

import dataclasses
import sys
import typing

import pytest

from gradnas.config import SPACES, ComponentConf, ModelConf, RetrainConf, RunConf, SearchConf
from gradnas.report.comparison.rules import (
    ROLES,
    Role,
    counted,
    departures,
    differing,
    distinguishing,
    key_of,
    role_of,
    settings_of,
    short_name,
    value_key,
    value_text,
)
from gradnas.training import OptimConf

WHOLE = ("search.optimizer", "search.stabilize", "retrain.optimizer", "space.options", "strategy.options")
"""Parts of the settings that have one role as a whole."""


def fields_of(kind: type, place: str = "") -> list[str]:
    names = []
    for name, hint in typing.get_type_hints(kind).items():
        path = f"{place}{name}"
        inner = dataclasses.is_dataclass(hint) and path not in WHOLE
        names += fields_of(typing.cast("type", hint), f"{path}.") if inner else [path]
    return names


def test_every_setting_is_classified_and_nothing_else() -> None:
    options = {name for name in ROLES if ".options." in name}
    assert set(fields_of(RunConf)) == set(ROLES) - options


def test_options_with_a_role_of_their_own_are_options_of_the_spaces() -> None:
    for name in (name for name in ROLES if name.startswith("space.options.")):
        for space in SPACES.values():
            assert name.rpartition(".")[2] in space.__init__.__annotations__


@pytest.mark.parametrize(
    ("setting", "role"),
    [
        ("data.source", Role.DATASET),
        ("search.epochs", Role.BUDGET),
        ("search.val_ratio", Role.BUDGET),
        ("search.batch_size", Role.BUDGET),
        ("retrain.optimizer.lr", Role.BUDGET),
        ("retrain.cells", Role.BUDGET),
        ("space.options.cells", Role.BUDGET),
        ("space.options.nodes", Role.METHOD),
        ("strategy.options.lr", Role.METHOD),
        ("search.optimizer.lr", Role.METHOD),
        ("search.stabilize.skip_dropout", Role.METHOD),
        ("search.finalizers", Role.METHOD),
        ("search.fused", Role.TECHNICAL),
        ("seed", Role.SEED),
        ("baseline.samples", Role.BASELINE),
    ],
)
def test_roles(setting: str, role: Role) -> None:
    assert role_of(setting) is role


def test_all_settings_of_a_run_have_a_role() -> None:
    conf = RunConf(strategy=ComponentConf(name="somebody.Strategy", options={"deep": {"er": 1}}))
    settings = settings_of(conf)
    assert settings["strategy.options.deep.er"] == 1
    assert {role_of(name) for name in settings} == set(Role)


def test_an_option_left_out_is_its_default() -> None:
    given = RunConf(strategy=ComponentConf(name="darts", options={"order": 1, "betas": [0.5, 0.999]}))
    left_out = RunConf(strategy=ComponentConf(name="darts"), space=ComponentConf(options={"cells": 8}))
    assert key_of(settings_of(given)) == key_of(settings_of(left_out))
    other = RunConf(strategy=ComponentConf(name="darts", options={"order": 2}))
    assert key_of(settings_of(other)) != key_of(settings_of(given))


def test_a_class_path_is_not_imported() -> None:
    conf = RunConf(strategy=ComponentConf(name="this.Darts", options={"a": 1}))
    assert settings_of(conf)["strategy.options.a"] == 1
    assert "this" not in sys.modules


def test_what_counts() -> None:
    settings = settings_of(RunConf(search=SearchConf(), retrain=RetrainConf()))
    searched, retrained = counted(settings, retrained=False), counted(settings, retrained=True)
    assert {role_of(name) for name in retrained} == {Role.BUDGET, Role.METHOD}
    assert {name for name in retrained if name not in searched} == {n for n in retrained if n.startswith("retrain.")}


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), ((1, 2.5), [1.0, 2.5]), ("a", "a"), (None, None), ([[1]], ((1.0,),))]
)
def test_equal_values(one: object, other: object) -> None:
    assert value_key(one) == value_key(other)


@pytest.mark.parametrize(("one", "other"), [(1, 2), (1, "1"), (True, 1), (None, "null"), ([1, 2], [2, 1]), (0.1, 0.2)])
def test_unequal_values(one: object, other: object) -> None:
    assert value_key(one) != value_key(other)


def test_differing_ignores_what_a_run_does_not_have_but_not_an_option() -> None:
    first = {"seed": 1, "retrain.epochs": 5, "strategy.name": "x", "strategy.options.a": 2}
    assert differing([first, {"seed": 1, "strategy.name": "x"}]) == ["strategy.options.a"]
    assert differing([first, {"seed": 1}]) == []  # nor one of a component that a run does not have
    assert differing([first, {**first, "retrain.epochs": 6}]) == ["retrain.epochs"]


def test_few_settings_tell_all_apart() -> None:
    rows = [{"a": a, "b": b, "c": a, "d": 0} for a in range(3) for b in range(2)]
    assert distinguishing(rows) == ["a", "b"]
    assert distinguishing(rows[:1]) == []
    assert distinguishing([{"a": 1, "b": k} for k in range(4)]) == ["b"]


def test_what_searches_tells_apart_before_the_space_and_the_rest() -> None:
    names = ("search.batch_size", "space.options.nodes", "search.finalizers", "strategy.options.lr")
    rows = [dict.fromkeys(names, value) for value in (1, 2)]
    for k, expected in ((4, "search.finalizers"), (2, "space.options.nodes"), (1, "search.batch_size")):
        assert distinguishing([{name: row[name] for name in names[:k]} for row in rows]) == [expected]
    split = [{names[2]: "random", names[1]: 2}, {names[2]: "default", names[1]: 3}, {names[2]: "default", names[1]: 4}]
    assert distinguishing(split) == [names[2], names[1]]


def test_departures_are_not_at_their_default_and_differ() -> None:
    usual = settings_of(RunConf())
    cut = settings_of(
        RunConf(
            search=SearchConf(max_steps_per_epoch=6, batch_size=8, finalizers="random"),
            strategy=ComponentConf(name="darts", options={"order": 2}),
        )
    )
    other = {**cut, "search.batch_size": 9}
    assert departures(cut, [cut]) == []
    assert departures(cut, [cut, other]) == ["search.batch_size"]
    found = departures(cut, [usual, other])
    assert set(found) == {"strategy.options.order", "search.finalizers", "search.max_steps_per_epoch",
                          "search.batch_size"}  # fmt: skip
    assert set(found[:2]) == {"strategy.options.order", "search.finalizers"}
    assert departures(usual, [cut]) == []
    assert departures({"strategy.name": "my.Own", "strategy.options.a": 1}, [{"strategy.options.a": 2}]) == []


def test_names_are_short_and_clean() -> None:
    assert short_name("strategy.options.order") == "order"
    assert short_name("search.stabilize.skip_dropout") == "skip_dropout"
    assert short_name("space.options.nodes") == "space.nodes"
    assert short_name("retrain.cells") == "retrain.cells"
    assert value_text(True) == "true"
    assert value_text(None) == "null"
    assert value_text("\x1b[1m") == "�[1m"
    assert len(value_text("x" * 99)) == 28


def test_given_networks_have_no_settings_of_what_would_have_searched_them() -> None:
    recipe = RetrainConf(epochs=3, drop_path=0.0, batch_size=32)
    model = settings_of(RunConf(model=ModelConf(name="resnet20"), retrain=recipe))
    cell = settings_of(RunConf(arch="DARTS_V2", retrain=recipe))
    found = settings_of(RunConf(retrain=recipe))
    for settings in (model, cell):
        assert not [name for name in settings if name.startswith(("space.", "strategy.", "search.", "baseline."))]
    budgets = [name for name in differing([model, cell, found]) if role_of(name) is Role.BUDGET]
    assert budgets == []


def test_momentum_that_is_left_out_is_that_of_sgd() -> None:
    given = RunConf(retrain=RetrainConf(optimizer=OptimConf(momentum=0.9)))
    assert settings_of(given)["retrain.optimizer.momentum"] == settings_of(RunConf())["retrain.optimizer.momentum"]
    other = RunConf(retrain=RetrainConf(optimizer=OptimConf(name="adam")))
    assert settings_of(other)["retrain.optimizer.momentum"] is None
