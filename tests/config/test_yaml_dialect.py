"""Tests of ``src/gradnas/config/yaml_dialect.py``."""

import pytest

from gradnas.config.yaml_dialect import MAX_DEPTH, dump_yaml, load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("12", 12), ("-0", 0), ("+3", 3), ("0x1F", 31), ("0o17", 15), ("1e-3", 0.001), ("-1.5", -1.5), (".5", 0.5)),
        *(("1.", 1.0), ("-.inf", -float("inf")), ("yes", True), ("off", False), ("~", None), ("", None)),
        *(("1_000", "1_000"), ("010", "010"), ("1:30", "1:30"), ("1:30.5", "1:30.5"), ("0b11", "0b11"), ("=", "=")),
        *(("2024-01-01", "2024-01-01"), ("!!str 12", "12"), ("!!float 12", 12.0), ("12 apes", "12 apes")),
    ],
)
def test_numbers_are_those_of_json_and_of_yaml_1_2(text: str, value: object) -> None:
    found = load_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["1_000", "010", "0o17", "0x1F", "1:30", "2024-01-01", "=", "yes", "1e5", "~", "12"])
def test_text_that_looks_like_something_else_survives(text: str) -> None:
    assert load_yaml(dump_yaml({"a": text})) == {"a": text}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "its aliases stand for more than 100,000 values"),
        (BOMB + "z: {<<: [{y: *i}]}", "its aliases stand for more than 100,000 values"),
        ("a: &a [*a]", "an alias stands for what is around it"),
        ("a: &a {b: *a}", "an alias stands for what is around it"),
        ("[" * 5000, f"nested more than {MAX_DEPTH} levels deep"),
        ("a: " + "{a: " * 40 + "1" + "}" * 40, f"nested more than {MAX_DEPTH} levels deep"),
        ("!!python/object/apply:os.getcwd []", "python/object/apply:os.getcwd is no kind of value"),
        ("!!binary aGk=", "binary is no kind of value"),
        ("!!set {a}", "set is no kind of value"),
        ("!!timestamp 2024-01-01", "timestamp is no kind of value"),
        ("!mine 3", "!mine is no kind of value"),
        ("!!int 1:30", "'1:30' is no whole number"),
        ("!!float x", "'x' is no number"),
        ("!!bool x", "'x' is neither true nor false"),
        ("9223372036854775808", "more than 64 bits"),
        ("0x" + "f" * 9000, "more than 64 bits"),
        ('"\\ud800"', "half a character"),
        ('"\\UFFFFFFFF"', "too large"),
        ("{a: 1, a: 2}", "the key 'a' comes twice"),
        ("[a]: 1", "a key is a list or a mapping, not a name"),
        ("a: 1\n---\nb: 1", "expected a single document"),
        ("a: <<", "could not determine a constructor"),
    ],
)
def test_what_is_no_plain_document_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_yaml(text)


def test_aliases_and_merged_keys_within_reason_are_read() -> None:
    text = "base: &b {x: 1, y: 2}\nmine: {<<: *b, y: 3}\ninner: {z: &z {<<: *b, x: 5}}\nlast: {<<: *z}\nagain: *b"
    assert load_yaml(text) == {
        "base": {"x": 1, "y": 2},
        "mine": {"x": 1, "y": 3},
        "inner": {"z": {"x": 5, "y": 2}},
        "last": {"x": 5, "y": 2},
        "again": {"x": 1, "y": 2},
    }


def test_longer_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradnas.config.yaml_dialect.MAX_CHARACTERS", 3)
    assert load_yaml("abc") == "abc"
    with pytest.raises(ValueError, match="it has 4 characters, at most 3 are read"):
        load_yaml("abcd")


def test_numbers_that_could_not_be_read_back_are_not_written() -> None:
    with pytest.raises(ValueError, match="whole numbers of up to 64 bits, got 18446744073709551616"):
        dump_yaml({"a": [2**64]})
