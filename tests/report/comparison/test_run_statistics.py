"""Tests of ``run_statistics.py``: against numpy, scipy and numbers from tables."""

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from gradnas.report.comparison.run_statistics import Spread, difference, spread, student_quantile
from gradnas.report.records.share_intervals import wilson_interval

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
        ([97.0] * 2, [96.0] * 2, False),
    ],
)
def test_difference_is_shown_when_zero_lies_outside(first: list[float], second: list[float], shown: bool) -> None:
    a, b = spread(first), spread(second)
    assert a is not None
    assert b is not None
    assert difference(a, b).shown is shown
    assert difference(b, a).shown is shown
    assert not difference(a, a).shown


def test_equal_accuracies_do_not_mean_that_nothing_varies() -> None:
    one = spread([100 * 356 / 360] * 2)
    other = spread([100 * 355 / 360] * 2)
    assert one is not None
    assert other is not None
    image = 100 / 360
    found = difference(one, other, 360)
    half = scipy.stats.t.ppf(0.975, 2) * image / 12**0.5  # two runs each: 2 degrees of freedom, variance image²/12
    assert found.points == pytest.approx(image)
    assert found.low == pytest.approx(image - half, rel=1e-6)
    assert found.high == pytest.approx(image + half, rel=1e-6)
    assert not found.shown
    assert difference(one, other).low is None  # nobody knows how fine these accuracies are


@given(accuracies, accuracies)
def test_spreads_above_the_resolution_are_taken_as_they_are(first: list[float], second: list[float]) -> None:
    a, b = spread(first), spread(second)
    assert a is not None
    assert b is not None
    plain, fine = difference(a, b), difference(a, b, 10_000)  # a step of 0.01; these differ by 0.1 at least
    assert (fine.low, fine.high) == (plain.low, plain.high)
    assert fine.wide_low is not None
    assert fine.wide_high is not None
    assert plain.low is not None
    assert plain.high is not None
    assert fine.wide_low <= plain.low
    assert fine.wide_high >= plain.high
    assert not fine.general or fine.shown


def test_the_choice_of_test_images_is_that_of_newcombe() -> None:
    # His example (a) of table II: 56 of 70 and 48 of 80, method 10: 0.0524 to 0.3339.
    a, b = (Spread(n=2, mean=100 * k / n, std=2.0, low=0, high=100) for k, n in ((56, 70), (48, 80)))
    low, high = (100 * end for end in (0.0524, 0.3339))
    down, up = _image_reach_of(a.mean, 70), _image_reach_of(b.mean, 80)
    assert a.mean - b.mean - math.hypot(down[0], up[1]) == pytest.approx(low, abs=0.006)
    assert a.mean - b.mean + math.hypot(down[1], up[0]) == pytest.approx(high, abs=0.006)
    found = difference(a, b, 70)
    assert found.high is not None
    one, other, runs = _image_reach_of(a.mean, 70), _image_reach_of(b.mean, 70), found.high - found.points
    assert found.wide_low == pytest.approx(20 - math.hypot(one[0], other[1], runs), abs=1e-6)
    assert found.wide_high == pytest.approx(20 + math.hypot(one[1], other[0], runs), abs=1e-6)


def _image_reach_of(accuracy: float, n_test: int) -> tuple[float, float]:
    low, high = (100 * end for end in wilson_interval(accuracy / 100, n_test))
    return accuracy - low, high - accuracy


def test_one_difference_may_hold_on_these_images_and_not_on_others() -> None:
    a, b = spread([95.0, 95.1, 95.2]), spread([94.0, 94.1, 94.2])
    assert a is not None
    assert b is not None
    few, many = difference(a, b, 1000), difference(a, b, 100_000)
    assert (few.shown, few.general) == (True, False)
    assert (many.shown, many.general) == (True, True)
    assert not difference(a, b).general
