"""Tests of ``src/gradnas/foundation/declared_types.py``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pytest

from gradnas.foundation.declared_types import bring_to_declared_types, plain_values


@dataclass(frozen=True, kw_only=True)
class Part:
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    rate: float = 0.1
    limit: float | None = None
    ends: tuple[float, ...] = ()
    fast: bool = False
    name: str | None = None
    way: Literal["up", "down"] = "up"
    count: int = 1
    part: Part = field(default_factory=Part)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bring_to_declared_types(self)


@dataclass(frozen=True, kw_only=True)
class More(Settings):
    share: float = 0.5


@pytest.mark.parametrize("one", [1, 1.0, np.int64(1), np.float32(1), np.float64(1), Fraction(1)])
def test_numbers_become_floats_of_python(one: Any) -> None:
    made = More(rate=one, limit=one, ends=[one, one], share=one)
    for number in (made.rate, made.limit, *made.ends, made.share):
        assert (type(number), number) == (float, 1.0)
    assert repr(made) == repr(More(rate=1.0, limit=1.0, ends=(1.0, 1.0), share=1.0))


def test_what_needs_no_change_stays() -> None:
    part = Part(depth=3)
    made = Settings(limit=None, name="x", fast=True, part=part, count=2, way="down", ends=(0.5,))
    assert (made.limit, made.name, made.fast, made.count, made.way, made.ends) == (None, "x", True, 2, "down", (0.5,))
    assert made.part is part


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": True}, "^rate must be a number, got True"),
        ({"rate": None}, "^rate must be a number, got None"),
        ({"rate": 1j}, "^rate must be a number, got 1j"),
        ({"limit": "1"}, "^limit must be a number, got '1'"),
        ({"ends": 1.0}, "^ends must be a list of numbers, got 1.0"),
        ({"ends": "12"}, "^ends must be a list of numbers, got '12'"),
        ({"ends": {1: 2}}, "^ends must be a list of numbers, got {1: 2}"),
        ({"ends": [0.5, "1"]}, "^each of ends must be a number, got '1'"),
        ({"fast": 1}, "^fast must be True or False, got 1"),
        ({"name": 3}, "^name must be text, got 3"),
        ({"part": {"depth": 3}}, "^part must be Part, got {'depth': 3}"),
        ({"options": [1]}, r"^options must be a mapping of names to values, got \[1\]"),
    ],
)
def test_what_a_field_does_not_declare_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Settings(**settings)


def test_a_number_beyond_floats_is_refused() -> None:
    with pytest.raises(ValueError, match="rate must be a number that a float can hold, got 1000"):
        Settings(rate=10**400)


def test_options_are_plain_at_any_depth_and_a_copy() -> None:
    inner: Mapping[str, Any] = MappingProxyType({"b": ((1, np.float64(2.5)), None, True)})
    options = {"a": inner, "n": np.int32(3), "text": "x", "whole": 2}
    made = Settings(options=options)
    options["later"] = 1
    assert repr(made.options) == "{'a': {'b': [[1, 2.5], None, True]}, 'n': 3, 'text': 'x', 'whole': 2}"
    assert plain_values(made.options) == made.options
