"""Tests of ``src/gradnas/report/records/share_intervals.py``."""

import math

import pytest

from gradnas.report.records.share_intervals import difference_interval, wilson_interval


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_differences_are_those_of_newcombe(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    shares = first[0] / first[1], second[0] / second[1]
    interval = difference_interval(*shares, first[1], second[1])
    assert interval == pytest.approx((low, high), abs=6e-5)  # Newcombe 1998, table II, method 10


def test_differences_turn_with_their_order() -> None:
    low, high = difference_interval(0.9, 0.7, 50, 60)
    assert difference_interval(0.7, 0.9, 60, 50) == pytest.approx((-high, -low))


def test_nineteen_of_twenty_intervals_hold_the_true_difference() -> None:
    n = 40
    coverage = []
    for first, second in [(0.9, 0.9), (0.9, 0.8), (0.7, 0.4), (0.95, 0.6), (0.5, 0.5), (0.97, 0.93)]:
        weights = [[math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)] for p in (first, second)]
        held = 0.0
        for i in range(n + 1):
            for j in range(n + 1):
                low, high = difference_interval(i / n, j / n, n, n)
                held += weights[0][i] * weights[1][j] * (low <= first - second <= high)
        coverage.append(held)
    assert min(coverage) > 0.93
    assert sum(coverage) / len(coverage) == pytest.approx(0.95, abs=0.02)


def test_wilson_by_its_defining_equation() -> None:
    for share, count in [(0.9, 40), (0.0, 10), (0.5, 1000), (1.0, 7)]:
        for end in wilson_interval(share, count):
            if 0 < end < 1:  # at an end the share lies 1.96 standard deviations of the end away from it
                assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count))
