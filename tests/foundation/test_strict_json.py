"""Tests of ``src/gradnas/foundation/strict_json.py``."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnas.foundation.strict_json import MAX_DEPTH, read_json

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(PLAIN)
def test_plain_values_are_read_back_equal(value: object) -> None:
    assert read_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "the name 'a' comes twice in one object"),
        ('[{"x": {"a": 1, "a": 2}}]', "comes twice"),
        ("[NaN]", "NaN is no finite number"),
        ("-Infinity", "-Infinity is no finite number"),
        ("1e999", "1e999 is no finite number"),
        (str(2**63), "has more than 64 bits"),
        (str(-(2**63) - 1), "has more than 64 bits"),
        ("9" * 5000, "99999999999999999999… has more than 64 bits"),
        (r'"\ud800"', "has half a character"),
        (r'{"\udfff": 1}', "has half a character"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested more than 64 levels deep"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested more than 64 levels deep"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
    ],
)
def test_what_is_read_in_two_ways_or_never_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_json(text)


def test_the_limits_themselves_are_read() -> None:
    assert read_json(str(2**63 - 1)) == 2**63 - 1
    assert read_json(str(-(2**63))) == -(2**63)
    read_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert read_json(r'"\ud83d\ude00"') == "\U0001f600"


def test_longer_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradnas.foundation.strict_json.MAX_CHARACTERS", 4)
    assert read_json("1234") == 1234
    with pytest.raises(ValueError, match="it has 5 characters, at most 4 are read"):
        read_json("12345")
