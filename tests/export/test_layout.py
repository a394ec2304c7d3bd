"""Tests of ``src/gradnas/export/layout.py``."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnas.export.layout import WIDTH, call, flat, lines, listed, literal, multiple, summed, tupled, words


@given(st.text())
def test_a_string_comes_back_from_its_literal(text: str) -> None:
    written = literal(text)
    assert ast.literal_eval(written) == text
    assert "\n" not in written
    assert written.isprintable()


@given(st.text())
def test_words_stay_inside_a_docstring(text: str) -> None:
    assert ast.literal_eval(f'"""{words(text)}\n"""') == f"{text}\n"
    assert words(text).isprintable()


@pytest.mark.parametrize(
    ("value", "text"), [(0.1, "0.1"), (3, "3"), ("a", '"a"'), ('say "x"', "'say \"x\"'"), ("it's", '"it\'s"')]
)
def test_literals_look_as_a_formatter_writes_them(value: object, text: str) -> None:
    assert literal(value) == text


def test_what_is_no_plain_value_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a string or a number, got None"):
        literal(None)
    with pytest.raises(TypeError, match="got True"):
        literal(True)
    with pytest.raises(ValueError, match="expected a finite number, got nan"):
        literal(float("nan"))


def test_what_fits_stays_on_one_line_and_what_does_not_is_broken() -> None:
    exact = call("f", "x" * (WIDTH - 8 - 3), "y")
    assert lines(exact, 0, "a = ") == [f"a = {flat(exact)}"]
    assert len(f"a = {flat(exact)}") == WIDTH - 1
    assert lines(exact, 2, "a = ") == ["  a = f(", f"      {'x' * (WIDTH - 11)},", "      y,", "  )"]


def test_a_list_that_is_the_only_argument_has_no_comma_behind_it() -> None:
    long = call("f", listed(["x" * 50, "y" * 50]))
    assert lines(long, 0) == ["f(", "    [", f"        {'x' * 50},", f"        {'y' * 50},", "    ]", ")"]


def test_a_tuple_of_one_has_its_comma() -> None:
    assert flat(tupled([0.5])) == "(0.5,)"
    assert lines(tupled(["x" * 100]), 0)[1] == f'    "{"x" * 100}",'
    assert flat(tupled(["a", "b"])) == '("a", "b")'


def test_characters_outside_ascii_are_broken_lines_whatever_their_width() -> None:
    assert lines(tupled(["é", "b"]), 0) == ["(", '    "é",', '    "b",', ")"]


def test_sums_are_broken_before_the_plus() -> None:
    assert summed(["a", "b"], 4, "n = ") == ["    n = a + b"]
    terms = ["x" * 30, "y" * 30, "z" * 20]
    assert summed(terms, 0, "n = ") == [
        "n = (",
        f"    {terms[0]} + {terms[1]} + {terms[2]}"[:0] + f"    {terms[0]}",
        f"    + {terms[1]}",
        f"    + {terms[2]}",
        ")",
    ]
    short = ["x" * 29, "y" * 29, "z" * 19]
    assert summed(short, 0, "node = ") == ["node = (", f"    {' + '.join(short)}", ")"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(4, "ch"), (8, "2 * ch"), (6, "3 * ch // 2"), (2, "ch // 2"), (5, "5 * ch // 4"), (1, "ch // 4")],
)
def test_channels_in_terms_of_others(count: int, text: str) -> None:
    assert multiple(count, 4, "ch") == text
    assert eval(text, {"ch": 4}) == count  # noqa: S307 - the text of the line above


def test_channels_that_have_little_to_do_with_each_other_are_numbers() -> None:
    assert multiple(11, 8, "ch") == "11"
