"""Tests of ``src/gradnas/foundation/durations.py``."""

import pytest

from gradnas.foundation.durations import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        (90, 90),
        (0.5, 0.5),
        (1e-5, 1e-5),
        (1e16, 1e16),
        ("45s", 45),
        ("90m", 5400),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1d2h3m4.5s", 93784.5),
        (" 1H30M ", 5400),
        ("1h30", 3630),
    ],
)
def test_known_durations(text: str | float, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1x", "-5", "30m1h", "1h1h", "1 h", "nan", "inf", "1e3", ".5h"])
def test_other_forms_are_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"max_time must be a duration such as 90m, 1h30m or 3600 \(seconds\), got"):
        seconds_of(text, "max_time")


@pytest.mark.parametrize("text", ["0", "0h0m", 0, -5, -0.5, float("nan"), float("inf"), 10**400])
def test_no_time_at_all_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="longer than nothing"):
        seconds_of(text)
