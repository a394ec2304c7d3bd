"""Tests of ``plain_text.py``."""

from gradnas.report.records.plain_text import aligned, columns_of


def test_columns_are_aligned_also_with_wide_and_combining_letters() -> None:
    lines = aligned([["name", "n"], ["数字", "10"], ["e\u0301", "7"]], [False, True])
    assert lines == ["name   n", "数字  10", "e\u0301      7"]
    assert {columns_of(line) for line in lines} == {8}


def test_no_space_is_left_at_the_end_of_a_line() -> None:
    assert aligned([["a", ""], ["b", "long"]], [False, False]) == ["a", "b  long"]
