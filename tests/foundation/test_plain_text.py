"""Tests of ``src/gradnas/foundation/plain_text.py``."""

import pytest

from gradnas.foundation.plain_text import one_line


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
