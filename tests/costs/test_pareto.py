"""Tests of ``pareto.py``: against the definition, pair by pair."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnas.costs import pareto_front

few = st.integers(0, 4).map(float)  # few values, so that ties and duplicates are common
coordinate = st.one_of(few, st.floats(allow_nan=True, allow_infinity=True), st.none())
Points = list[tuple[float | None, float | None]]


def usable(point: tuple[float | None, float | None]) -> bool:
    return all(value is not None and math.isfinite(value) for value in point)


def beaten(point: tuple[float, float], points: Points) -> bool:
    return any(
        cost <= point[0] and gain >= point[1] and (cost, gain) != point
        for cost, gain in (other for other in points if usable(other))  # type: ignore[misc]  # usable: both are numbers
    )


@given(st.lists(st.tuples(coordinate, coordinate), max_size=12))
def test_front_is_what_nothing_beats(points: Points) -> None:
    expected = {k for k, point in enumerate(points) if usable(point) and not beaten(point, points)}
    front = pareto_front(points)
    assert set(front) == expected
    assert len(front) == len(expected)
    assert list(front) == sorted(front, key=lambda k: (points[k][0], k))


@given(st.lists(st.tuples(coordinate, coordinate), max_size=12))
def test_without_duplicates_the_first_of_equal_points_stands_for_all(points: Points) -> None:
    front = pareto_front(points)
    first = [k for k in front if not any(points[j] == points[k] for j in front if j < k)]
    assert list(pareto_front(points, duplicates=False)) == first


@given(st.lists(st.tuples(few, few), max_size=8), st.randoms())
def test_order_of_the_points_does_not_matter(points: Points, chance: object) -> None:
    shuffled = list(points)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random
    assert sorted(map(points.__getitem__, pareto_front(points))) == sorted(
        map(shuffled.__getitem__, pareto_front(shuffled))
    )


def test_by_hand() -> None:
    points: Points = [(3, 90), (1, 80), (2, 80), (2, 85), (4, 89), (1, 80)]
    assert pareto_front(points) == (1, 5, 3, 0)
    assert pareto_front(points, duplicates=False) == (1, 3, 0)


@pytest.mark.parametrize("points", [[], [(None, 1.0)], [(math.nan, 1.0), (1.0, math.inf)]])
def test_no_point_no_front(points: Points) -> None:
    assert pareto_front(points) == ()
