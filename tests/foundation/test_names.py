"""Tests of ``src/gradnas/foundation/names.py``."""

from gradnas.foundation.names import did_you_mean


def test_close_name_is_suggested_before_all_known_ones() -> None:
    assert did_you_mean("abd", ["abc", "xyz"]) == "Did you mean 'abc'? Known: abc, xyz."


def test_nothing_is_suggested_when_no_name_is_close() -> None:
    assert did_you_mean("qqqq", ["abc", "xyz"]) == "Known: abc, xyz."


def test_empty_list_of_names_is_spelled_out() -> None:
    assert did_you_mean("abc", []) == "Known: none."


def test_known_names_keep_their_order() -> None:
    assert did_you_mean("0", iter(["c", "a", "b"])) == "Known: c, a, b."
