"""Settings over settings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnas.config import layered

NESTED = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), NESTED, max_size=3)


@given(base=MAPPINGS, changes=MAPPINGS)
def test_the_changes_win_and_the_rest_stays(base: dict[str, Any], changes: dict[str, Any]) -> None:
    both = layered(base, changes)
    assert layered(both, changes) == both
    assert layered(base, {}) == base
    assert layered({}, changes) == changes
    assert set(both) == set(base) | set(changes)
    assert all(both[key] == base[key] for key in set(base) - set(changes))


def test_known_answer() -> None:
    base = {"seed": 1, "search": {"epochs": 3, "optimizer": {"lr": 0.1, "name": "adam"}}}
    changes = {"search": {"optimizer": {"lr": 0.2}}, "device": "cpu"}
    assert layered(base, changes) == {
        "seed": 1,
        "search": {"epochs": 3, "optimizer": {"lr": 0.2, "name": "adam"}},
        "device": "cpu",
    }
    assert base["search"] == {"epochs": 3, "optimizer": {"lr": 0.1, "name": "adam"}}


def test_options_of_another_component_are_left_out() -> None:
    base = {"strategy": {"name": "darts", "options": {"order": 2}}, "space": {"options": {"cells": 3}}}
    assert layered(base, {"strategy": {"name": "random"}})["strategy"] == {"name": "random", "options": {}}
    new = layered(base, {"strategy": {"name": "random", "options": {"samples": 2}}})
    assert new["strategy"] == {"name": "random", "options": {"samples": 2}}
    assert new["space"] == base["space"]


def test_the_same_name_keeps_options_even_where_the_base_leaves_it_to_the_default() -> None:
    base = {"space": {"options": {"cells": 3}}}
    assert layered(base, {"space": {"name": "darts"}}) == {"space": {"name": "darts", "options": {"cells": 3}}}
    assert layered(base, {"space": {"name": "other"}}) == {"space": {"name": "other", "options": {}}}
    assert base == {"space": {"options": {"cells": 3}}}


@pytest.mark.parametrize("phase", ["search", "retrain"])
def test_another_optimizer_or_schedule_does_not_get_the_settings_of_the_one_below(phase: str) -> None:
    sgd = {"name": "sgd", "momentum": 0.8, "nesterov": True, "lr": 0.1, "schedule": "cosine", "lr_min": 0.01}
    base = {phase: {"epochs": 3, "optimizer": sgd}}

    def over(**changes: Any) -> Any:
        return layered(base, {phase: {"optimizer": changes}})[phase]["optimizer"]

    assert over(name="adam", lr=0.2) == {**sgd, "name": "adam", "lr": 0.2, "momentum": None, "nesterov": False}
    assert over(schedule="constant") == {**sgd, "schedule": "constant", "lr_min": 0.0}
    assert over(name="adam", options={"eps": 1})["options"] == {"eps": 1}
    assert over(schedule="onecycle", lr_min=0.02) == {**sgd, "schedule": "onecycle", "lr_min": 0.02}
    assert over(name="sgd", schedule="cosine") == sgd
    assert layered({phase: {"optimizer": {"lr_min": 0.01}}}, base)[phase]["optimizer"] == sgd
    assert base == {phase: {"epochs": 3, "optimizer": sgd}}
    assert layered({phase: 3}, {phase: {"optimizer": {"name": "adam"}}}) == {phase: {"optimizer": {"name": "adam"}}}


def test_no_name_keeps_options() -> None:
    base = {"strategy": {"name": "random", "options": {"samples": 2}}}
    assert layered(base, {"strategy": {"options": {"epochs": 1}}}) == {
        "strategy": {"name": "random", "options": {"samples": 2, "epochs": 1}}
    }
