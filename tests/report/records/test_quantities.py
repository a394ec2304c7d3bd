"""Tests of ``src/gradnas/report/records/quantities.py``."""

import pytest

from gradnas.report.records.quantities import millions, milliseconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (37, "37"),
        (999, "999"),
        (1000, "1.00 k"),
        (14_330, "14.3 k"),
        (99_999, "100 k"),
        (100_000, "0.10 M"),
        (427_136, "0.43 M"),
        (3.3e6, "3.30 M"),
        (27.4e6, "27.4 M"),
        (530e6, "530 M"),
    ],
)
def test_counts_keep_digits_that_say_something(count: float, text: str) -> None:
    assert millions(count) == text


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0.0123, "0.0123 ms"),
        (1.2345, "1.23 ms"),
        (999.4, "999 ms"),
        (999.6, "1.0 s"),
        (1100, "1.1 s"),
        (65e3, "1 min 05 s"),
    ],
)
def test_long_passes_are_told_in_seconds(time_ms: float, text: str) -> None:
    assert milliseconds(time_ms) == text
