"""Tests of ``src/gradnas/arch/codec.py``."""

from dataclasses import dataclass, field
from enum import Enum

import pytest

from gradnas.arch import ConvMacroParams, Params
from gradnas.arch.codec import decode, encode


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Part:
    number: int
    weight: object = field(default=None, metadata={"stored": False})

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("number is negative")


@dataclass(frozen=True)
class Whole:
    color: Color
    ratio: float
    flag: bool
    name: str | None
    pair: tuple[int, int]
    parts: tuple[Part, ...]
    params: Params


WHOLE = Whole(Color.BLUE, 0.5, True, None, (1, 2), (Part(3),), Params(conv=ConvMacroParams(1, 2), ids=(1, 2)))
DATA = {
    "color": "blue",
    "ratio": 0.5,
    "flag": True,
    "name": None,
    "pair": [1, 2],
    "parts": [{"number": 3}],
    "params": {"conv": {"ch_in": 1, "ch_out": 2}, "ids": [1, 2]},
}


def test_known_encoding() -> None:
    assert encode(WHOLE) == DATA


def test_known_decoding() -> None:
    assert decode(Whole, DATA, "top") == WHOLE


def test_fields_marked_as_not_stored_are_left_out() -> None:
    assert encode(Part(1, weight=object())) == {"number": 1}


def test_whole_number_is_read_as_a_fraction_where_one_is_due() -> None:
    ratio = decode(Whole, {**DATA, "ratio": 2}, "top").ratio
    assert isinstance(ratio, float)
    assert ratio == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"color": "green"}, r"^top\.color: expected one of \['red', 'blue'\], got 'green'\.$"),
        ({"color": ["red"]}, r"^top\.color: expected one of"),
        ({"ratio": "x"}, r"^top\.ratio: expected float, got 'x'\.$"),
        ({"ratio": True}, r"^top\.ratio: expected float, got True\.$"),
        ({"flag": 1}, r"^top\.flag: expected bool, got 1\.$"),
        ({"name": 3}, r"^top\.name: expected str, got 3\.$"),
        ({"pair": [1, 2, 3]}, r"^top\.pair: expected 2 entries, got 3\.$"),
        ({"pair": [1, True]}, r"^top\.pair\[1\]: expected int, got True\.$"),
        ({"pair": [1, 2.0]}, r"^top\.pair\[1\]: expected int, got 2\.0\.$"),
        ({"pair": None}, r"^top\.pair: expected a list, got None\.$"),
        ({"parts": {"0": 1}}, r"^top\.parts: expected a list, got"),
        ({"parts": [{"number": 1}, 2]}, r"^top\.parts\[1\]: expected an object with the fields of Part, got 2\.$"),
        ({"parts": [{"number": 1}, {"number": -1}]}, r"^top\.parts\[1\]: number is negative$"),
        ({"parts": [{}]}, r"^top\.parts\[0\]: field 'number' is missing\.$"),
        ({"parts": [{"number": 1, "weight": 2}]}, r"^top\.parts\[0\]: unknown field 'weight'\."),
        ({"params": [1]}, r"^top\.params: expected an object, got \[1\]\.$"),
        ({"params": {"conv": {"ch_in": 0, "ch_out": 2}}}, r"^top\.params\.conv: ch_in must be at least 1, got 0"),
        ({"params": {"conv": {"ch_in": 1}}}, r"^top\.params\.conv: field 'ch_out' is missing\.$"),
        ({"params": {"ids": [1, {"py/object": "os.system"}]}}, r"^top\.params\.ids\[1\]: unknown field 'py/object'\."),
        ({"params": {"eps": float("nan")}}, r"^top\.params: parameter 'eps' must be finite, got nan\.$"),
    ],
)
def test_wrong_content_is_refused_with_its_place(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(Whole, {**DATA, **changes}, "top")


def test_unknown_field_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"top: unknown field 'colour'\. Did you mean 'color'\? Known: color, ratio"):
        decode(Whole, {**DATA, "colour": "red"}, "top")


def test_missing_field_is_refused_even_when_it_has_a_default() -> None:
    @dataclass(frozen=True)
    class Defaulted:
        number: int = 3

    with pytest.raises(ValueError, match="top: field 'number' is missing"):
        decode(Defaulted, {}, "top")
