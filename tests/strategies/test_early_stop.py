"""Tests of ``src/gradnas/strategies/early_stop.py``: hand-written records, and naive loops over many of them."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnas.strategies.early_stop import eigenvalue_rise, last_within, too_many_skips

Values = Sequence[float | None]


def decisions(values: Values, **rule: float) -> list[int | None]:
    """What the rule says after each epoch."""
    return [eigenvalue_rise(values[: epoch + 1], **rule) for epoch in range(len(values))]  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------- eigenvalue


def test_search_stops_at_the_right_epoch_and_goes_back_by_the_lag() -> None:
    # Means of five end at epochs 4, 5, …; ten epochs of 1 and then of 2: 1, 1, …, 1.2, 1.4 > 1 / 0.75.
    values = [1.0] * 10 + [2.0] * 5
    assert decisions(values) == [None] * 11 + [6, 7, 8, 9]


def test_small_window_by_hand() -> None:
    values = [1.0, 1.0, 2.0, 4.0]
    # Means of two: 1, 1.5, 3. After epoch 2: 1 / 1.5 = 0.67; after epoch 3: 1.5 / 3 = 0.5.
    assert decisions(values, window=2, lag=1, ratio=0.75) == [None, None, 1, 2]
    assert decisions(values, window=2, lag=1, ratio=0.6) == [None, None, None, 2]
    assert decisions(values, window=2, lag=2, ratio=0.6) == [None, None, None, 1]
    assert decisions(values, window=1, lag=3, ratio=0.6) == [None, None, None, 0]


@pytest.mark.parametrize(("window", "lag"), [(5, 5), (3, 1), (1, 4), (2, 2)])
def test_means_that_are_not_full_decide_nothing(window: int, lag: int) -> None:
    values = [10.0**epoch for epoch in range(window + lag + 3)]
    said = decisions(values, window=window, lag=lag)
    full = window + lag
    assert said == [None] * (full - 1) + [epoch - lag for epoch in range(full - 1, len(values))]


def test_constant_and_falling_values_never_stop() -> None:
    assert decisions([3.0] * 40) == [None] * 40
    assert decisions([2.0**-epoch for epoch in range(40)]) == [None] * 40


def test_ratio_itself_does_not_stop() -> None:
    assert eigenvalue_rise([3.0, 4.0], window=1, lag=1, ratio=0.75) is None
    assert eigenvalue_rise([3.0, 4.0000001], window=1, lag=1, ratio=0.75) == 0
    assert eigenvalue_rise([2.9999999, 4.0], window=1, lag=1, ratio=0.75) == 0


@pytest.mark.parametrize(
    "values", [[-1.0, 4.0], [0.0, 4.0], [1.0, -4.0], [1.0, 0.0], [-4.0, -1.0], [-1.0, -4.0], [0.0, 0.0]]
)
def test_means_that_are_not_positive_decide_nothing(values: list[float]) -> None:
    assert eigenvalue_rise(values, window=1, lag=1) is None


def test_sign_is_that_of_the_mean_and_not_of_each_value() -> None:
    assert eigenvalue_rise([-1.0, 3.0, -1.0, 9.0], window=2, lag=2) == 1  # 1 and 4


def test_epoch_without_a_value_decides_nothing_while_it_is_in_a_mean() -> None:
    values: Values = [1.0, None, 1.0, 9.0, 9.0]
    # Epoch 1 is in the means that end at epochs 1 and 2; from those of epochs 3 and 4, 5 and 9, something follows.
    assert decisions(values, window=2, lag=1) == [None, None, None, None, 3]
    assert decisions([None, 1.0, 1.0, 9.0, 9.0], window=2, lag=1) == [None, None, None, 2, 3]
    assert decisions([None] * 30) == [None] * 30


def test_no_record_decides_nothing() -> None:
    assert eigenvalue_rise([]) is None
    assert eigenvalue_rise([], window=1, lag=1) is None


def naive_rise(values: Values, window: int, lag: int, ratio: float) -> int | None:
    means: dict[int, float] = {}
    for epoch in range(len(values)):
        inside = [values[e] for e in range(epoch - window + 1, epoch + 1) if e >= 0]
        if len(inside) == window and None not in inside:
            means[epoch] = sum(v for v in inside if v is not None) / window
    last = len(values) - 1
    if last in means and last - lag in means:
        now, before = means[last], means[last - lag]
        if now > 0 and before > 0 and before / now < ratio:
            return last - lag
    return None


@given(
    values=st.lists(st.none() | st.integers(-2, 6).map(float), max_size=14),
    window=st.integers(1, 4),
    lag=st.integers(1, 4),
    ratio=st.sampled_from([0.25, 0.5, 0.75, 0.99]),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_rise_is_that_of_a_naive_loop(values: Values, window: int, lag: int, ratio: float) -> None:
    found = eigenvalue_rise(values, window=window, lag=lag, ratio=ratio)
    assert found == naive_rise(values, window, lag, ratio)
    assert found is None or 0 <= found < len(values)


# ---------------------------------------------------------------------------------------------------------------- skips


def skip_decisions(counts: Sequence[int], **rule: int) -> list[bool]:
    """What the rule says after each epoch."""
    return [too_many_skips(counts[: epoch + 1], **rule) for epoch in range(len(counts))]


def test_an_epoch_with_more_than_allowed_is_one_too_many() -> None:
    assert skip_decisions([0, 1, 1, 0, 3], earliest=1) == [False] * 4 + [True]
    assert skip_decisions([0, 1, 3, 3], earliest=4) == [False] * 3 + [True]


def test_last_epoch_within_the_limit_is_the_one_to_go_back_to() -> None:
    assert last_within([0, 1, 1, 0, 3], 1) == 3
    assert last_within([0, 1, 3, 3], 1) == 1
    assert last_within([2, 0, 3, 2, 4], 2) == 3
    assert last_within([2, 0, 3, 2, 4], 0) == 1
    assert last_within([9, 9, 1], 1) == 2  # the last one itself


def test_nothing_is_decided_before_the_earliest_epoch() -> None:
    counts = [0, *[4] * 14]
    assert skip_decisions(counts) == [False] * 9 + [True] * 6
    assert skip_decisions(counts, earliest=3) == [False] * 2 + [True] * 13


def test_exactly_as_many_as_allowed_are_no_reason() -> None:
    assert too_many_skips([0, 0, 2], most=2, earliest=1) is False
    assert too_many_skips([0, 0, 2], most=1, earliest=1) is True
    assert too_many_skips([0, 0, 1], most=0, earliest=1) is True
    assert last_within([3, 2], 2) == 1
    assert last_within([3, 2], 1) is None


def test_limit_that_was_never_kept_is_told_although_there_is_nothing_to_go_back_to() -> None:
    counts = [5] * 20
    assert skip_decisions(counts, earliest=1) == [True] * 20
    assert [last_within(counts[:n], 4) for n in range(21)] == [None] * 21


def test_only_the_last_epoch_is_judged() -> None:
    assert too_many_skips([0, 9, 9, 1], earliest=1) is False


def test_no_epochs_decide_nothing() -> None:
    assert too_many_skips([], earliest=1) is False
    assert too_many_skips([], most=0, earliest=0) is False
    assert last_within([], 5) is None


@given(counts=st.lists(st.integers(0, 5), max_size=12), most=st.integers(0, 4), earliest=st.integers(1, 8))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_skip_rule_is_that_of_a_naive_loop(counts: list[int], most: int, earliest: int) -> None:
    expected, too_many = None, False
    for epoch, count in enumerate(counts):
        if count <= most:
            expected, too_many = epoch, False
        else:
            too_many = epoch + 1 >= earliest
    assert too_many_skips(counts, most=most, earliest=earliest) is too_many
    found = last_within(counts, most)
    assert found == expected
    assert found is None or counts[found] <= most
    assert found is None or not too_many or found < len(counts) - 1
