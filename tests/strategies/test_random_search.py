"""Tests of ``src/gradnas/strategies/random_search.py``."""

import math
from dataclasses import FrozenInstanceError

import pytest

from gradnas.strategies import RandomSearch

NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1.0, 3.0, 2.0], 1), ([5.0], 0), ([-2.0, -1.0], 1), ([-math.inf, 0.0], 1)],
)
def test_highest_score_wins(scores: list[float], expected: int) -> None:
    assert RandomSearch.best(scores) == expected


def test_first_of_equal_scores_wins() -> None:
    assert RandomSearch.best([1.0, 7.0, 7.0, 7.0]) == 1


@pytest.mark.parametrize("scores", [[NAN, 1.0, 2.0], [1.0, NAN, 2.0], [1.0, 0.0, 2.0], [NAN, NAN, -5.0]])
def test_score_that_is_not_a_number_never_wins(scores: list[float]) -> None:
    assert RandomSearch.best(scores) == 2


def test_last_score_that_is_not_a_number_does_not_win() -> None:
    assert RandomSearch.best([2.0, 1.0, NAN]) == 0


@pytest.mark.parametrize("scores", [[NAN, NAN], []])
def test_no_score_at_all_is_an_error(scores: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no random member reached a finite validation score: \["):
        RandomSearch.best(scores)


@pytest.mark.parametrize(
    ("samples", "search_epochs", "expected"), [(8, 50, 6), (8, 8, 1), (8, 16, 2), (8, 3, 1), (1, 50, 50), (8, 0, 1)]
)
def test_epochs_of_the_search_are_divided_among_the_members(samples: int, search_epochs: int, expected: int) -> None:
    assert RandomSearch(samples).epochs_each(search_epochs) == expected


def test_given_epochs_are_taken_whatever_the_search_has() -> None:
    assert RandomSearch(8, epochs=3).epochs_each(50) == 3


@pytest.mark.parametrize("samples", [0, -1])
def test_number_of_members_below_one_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match=rf"samples must be at least 1, got {samples}\."):
        RandomSearch(samples)


@pytest.mark.parametrize("epochs", [0, -2])
def test_number_of_epochs_below_one_is_refused(epochs: int) -> None:
    with pytest.raises(ValueError, match=rf"epochs must be at least 1, got {epochs}\."):
        RandomSearch(epochs=epochs)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RandomSearch().samples = 3  # type: ignore[misc]


def test_equal_settings_are_equal() -> None:
    assert RandomSearch(4, epochs=2) == RandomSearch(4, 2)
