"""Tests of ``src/gradnas/foundation/names.py``."""

from gradnas.foundation.names import did_you_mean, nearest


def test_close_name_is_suggested_before_all_known_ones() -> None:
    assert did_you_mean("abd", ["abc", "xyz"]) == "Did you mean 'abc'? Known: abc, xyz."


def test_nothing_is_suggested_when_no_name_is_close() -> None:
    assert did_you_mean("qqqq", ["abc", "xyz"]) == "Known: abc, xyz."


def test_empty_list_of_names_is_spelled_out() -> None:
    assert did_you_mean("abc", []) == "Known: none."


def test_known_names_keep_their_order() -> None:
    assert did_you_mean("0", iter(["c", "a", "b"])) == "Known: c, a, b."


def test_upper_and_lower_case_are_the_same() -> None:
    assert did_you_mean("darts_v2", ["DARTS_V2", "PC_DARTS"]) == "Did you mean 'DARTS_V2'? Known: DARTS_V2, PC_DARTS."
    assert nearest("STRASSE", ["straße"]) == "straße"
    assert nearest("ABC", ["abc", "ABC "]) == "abc"


def test_how_like_names_must_be_can_be_said() -> None:
    assert nearest("abcd", ["abxx"]) == "abxx"
    assert nearest("abcd", ["abxx"], likeness=0.75) is None
    assert nearest("abcd", []) is None
