"""Tests of ``src/gradnas/arch/params.py``."""

import copy
import enum
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from gradnas.arch import ConvMacroParams, Params


def test_clone_of_channel_counts_is_equal_but_another_object() -> None:
    conv = ConvMacroParams(3, 16)
    assert conv.clone() == conv
    assert conv.clone() is not conv


def test_channel_counts_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        ConvMacroParams(3, 16).ch_in = 4  # type: ignore[misc]  # what the test is about


@pytest.mark.parametrize(("counts", "message"), [((0, 1), "ch_in must be at least 1, got 0"), ((1, -1), "ch_out")])
def test_channel_count_below_one_is_refused(counts: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvMacroParams(*counts)


@pytest.mark.parametrize("count", [1.0, "1", None, True])
def test_channel_count_that_is_no_whole_number_is_refused(count: object) -> None:
    with pytest.raises(TypeError, match="ch_out must be a whole number"):
        ConvMacroParams(1, count)  # type: ignore[arg-type]


def test_params_read_like_a_mapping_in_alphabetical_order() -> None:
    params = Params({"stride": 2}, conv=ConvMacroParams(1, 2))
    assert params["stride"] == 2
    assert list(params) == ["conv", "stride"]
    assert len(params) == 2
    assert params.get("absent") is None


def test_order_of_arguments_does_not_matter() -> None:
    assert Params(a=1, b=2) == Params(b=2, a=1)
    assert hash(Params(a=1, b=2)) == hash(Params(b=2, a=1))


def test_lists_become_tuples_at_any_depth() -> None:
    assert Params(a=[1, [2, (3,)]])["a"] == (1, (2, (3,)))


def test_params_compare_with_a_plain_mapping() -> None:
    assert Params(a=1) == {"a": 1}


@pytest.mark.parametrize("other", [1.0, True, "1", (1,)])
def test_values_that_differ_in_a_file_are_not_equal(other: object) -> None:
    assert Params(a=1) != Params(a=other)


def test_equal_params_print_and_hash_alike() -> None:
    one, two = Params(a=1.5, b="x"), Params(b="x", a=1.5)
    assert repr(one) == repr(two) == "Params(a=1.5, b='x')"
    assert hash(one) == hash(two)


def test_replace_changes_and_adds_in_a_copy() -> None:
    params = Params(a=1, b=2)
    assert params.replace(b=3, c=4) == Params(a=1, b=3, c=4)
    assert params == Params(a=1, b=2)


def test_params_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="item assignment"):
        Params(a=1)["a"] = 2  # type: ignore[index]
    with pytest.raises(AttributeError):
        Params(a=1).b = 2  # type: ignore[attr-defined]


def test_params_can_be_copied_and_sent_to_another_process() -> None:
    params = Params(conv=ConvMacroParams(1, 2), names=("a", "b"))
    assert copy.deepcopy(params) == params
    assert pickle.loads(pickle.dumps(params)) == params  # noqa: S301 - our own bytes


def test_subclasses_of_plain_types_become_plain() -> None:
    class Color(str, enum.Enum):  # noqa: UP042 - prints otherwise than StrEnum, which is the point
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    params = Params(a=np.float64(0.5), b=Color.RED, c=Level.HIGH)
    assert [type(value) for value in params.values()] == [float, str, int]
    assert params == Params(a=0.5, b="red", c=3)


@pytest.mark.parametrize("value", [object(), {"a": 1}, {1}, b"x", 1j, np.arange(2), [object()]])
def test_value_that_is_not_plain_is_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match="parameter 'colour' must be None, bool, int, float, str"):
        Params(colour=value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), (1.0, float("nan"))])
def test_number_that_is_not_finite_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match="parameter 'eps' must be finite, got"):
        Params(eps=value)


def test_name_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match="names of parameters must be strings, got 1"):
        Params({1: 2})  # type: ignore[dict-item]
