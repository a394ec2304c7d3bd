"""Tests of ``plain_text.py``."""

import pytest

from gradnas.report.records.plain_text import aligned, columns_of, one_line


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain ×±", "plain ×±"),
        ("two\nlines\tand  gaps ", "two lines and gaps"),
        ("\x1b[31mred\x1b[0m", "�[31mred�[0m"),
        ("a\x07b\x9bc", "a�b�c"),
        ("abc\u202edef\u2066", "abc�def�"),
        ("\ud800", "�"),
        (3, "3"),
    ],
)
def test_one_line_has_nothing_that_acts(text: object, clean: str) -> None:
    assert one_line(text) == clean


def test_columns_are_aligned_also_with_wide_and_combining_letters() -> None:
    lines = aligned([["name", "n"], ["数字", "10"], ["e\u0301", "7"]], [False, True])
    assert lines == ["name   n", "数字  10", "e\u0301      7"]
    assert {columns_of(line) for line in lines} == {8}


def test_no_space_is_left_at_the_end_of_a_line() -> None:
    assert aligned([["a", ""], ["b", "long"]], [False, False]) == ["a", "b  long"]
