"""Tests of ``run_statistics.py``: against numpy, scipy and numbers from tables."""

import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from gradnas.report.comparison.run_statistics import Spread, difference, spread, student_quantile

percents = st.floats(0, 100)
accuracies = st.lists(st.integers(0, 1000).map(lambda right: right / 10), min_size=2, max_size=6, unique=True)


@given(st.lists(percents, min_size=2, max_size=9))
def test_spread_is_that_of_numpy(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert found.std == pytest.approx(np.std(values, ddof=1), rel=1e-9, abs=1e-9)
    assert found.std == statistics.stdev(values)
    assert (found.low, found.high) == (min(values), max(values))


def test_one_value_has_no_spread_and_none_is_left_out() -> None:
    assert spread([None, 97.5]) == Spread(n=1, mean=97.5, std=None, low=97.5, high=97.5)
    assert spread([None]) is None
    assert spread([]) is None


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (10, 2.2281), (120, 1.9799)])
def test_quantiles_of_the_tables(freedom: int, t: float) -> None:
    assert student_quantile(freedom) == pytest.approx(t, abs=5e-5)


@given(st.floats(1, 500))
def test_quantile_is_that_of_scipy(freedom: float) -> None:
    assert student_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-6)


@given(accuracies, accuracies)
def test_interval_is_that_of_welch(first: list[float], second: list[float]) -> None:
    a, b = spread(first), spread(second)
    assert a is not None
    assert b is not None
    found = difference(a, b)
    assert found.points == a.mean - b.mean
    assert found.low is not None
    assert found.high is not None
    expected = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low, rel=1e-5, abs=1e-5)
    assert found.high == pytest.approx(expected.high, rel=1e-5, abs=1e-5)


def test_difference_needs_two_runs_each() -> None:
    many, one = spread([97.0, 98.0]), spread([90.0])
    assert many is not None
    assert one is not None
    assert difference(many, one).low is None
    assert difference(one, many).points == -7.5
    assert not difference(many, one).shown


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ([97.0, 97.1, 97.2], [95.0, 95.1, 95.2], True),
        ([97.0, 97.9], [96.8, 97.5], False),
        ([97.0] * 2, [96.0] * 2, True),
    ],
)
def test_difference_is_shown_when_zero_lies_outside(first: list[float], second: list[float], shown: bool) -> None:
    a, b = spread(first), spread(second)
    assert a is not None
    assert b is not None
    assert difference(a, b).shown is shown
    assert difference(b, a).shown is shown
    assert not difference(a, a).shown or a.std == 0
