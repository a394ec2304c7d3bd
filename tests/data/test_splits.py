"""Tests of ``src/gradnas/data/splits.py``."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnas.data import stratified_split


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=120),
    percent=st.integers(0, 99),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=200, deadline=None)
def test_sizes_disjointness_and_class_balance(labels: list[int], percent: int, seed: int) -> None:
    ratio = Fraction(percent, 100)
    n_train = math.floor(len(labels) * (1 - ratio))
    if n_train == 0:
        with pytest.raises(ValueError, match="leaves none for training"):
            stratified_split(torch.tensor(labels), percent / 100, seed=seed)
        return
    train, val = stratified_split(torch.tensor(labels), percent / 100, seed=seed)
    assert train.dtype == val.dtype == torch.int64
    assert (len(train), len(val)) == (n_train, len(labels) - n_train)
    assert train.tolist() == sorted(train.tolist())
    assert val.tolist() == sorted(val.tolist())
    assert sorted(train.tolist() + val.tolist()) == list(range(len(labels)))
    for label in set(labels):
        held_out = sum(labels[i] == label for i in val.tolist())
        assert abs(held_out - labels.count(label) * ratio) < 1


def test_known_answer_in_decimal_digits() -> None:
    # 100 * (1 - 0.9) is 9.999999999999998 in floating point.
    train, val = stratified_split(torch.arange(100) % 10, 0.9, seed=0)
    assert (len(train), len(val)) == (10, 90)
    assert sorted((train % 10).tolist()) == list(range(10))


def test_rounding_favors_the_classes_that_lost_most() -> None:
    # Shares 1.2, 0.9 and 0.9: rounded down they make 1, and the two that are missing belong to the smaller classes.
    labels = torch.tensor([0] * 4 + [1] * 3 + [2] * 3)
    val = stratified_split(labels, 0.3, seed=0)[1]
    assert labels[val].tolist() == [0, 1, 2]


def test_same_seed_same_split_and_other_seed_other_split() -> None:
    labels = torch.arange(200) % 4
    first, again, other = (stratified_split(labels, 0.5, seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_members_of_a_class_are_drawn_evenly() -> None:
    # Position 0 of ten equal labels is held out in about 3 of 10 seeds, and so is the last.
    labels = torch.zeros(10, dtype=torch.int64)
    held_out = torch.zeros(10)
    for seed in range(300):
        held_out[stratified_split(labels, 0.3, seed=seed)[1]] += 1
    assert bool(((held_out > 55) & (held_out < 125)).all())


def test_ratio_zero_leaves_validation_empty() -> None:
    train, val = stratified_split(torch.tensor([0, 1, 1]), 0.0, seed=0)
    assert train.tolist() == [0, 1, 2]
    assert val.shape == (0,)
    assert val.dtype == torch.int64


@pytest.mark.parametrize("ratio", [1.0, -0.1, float("nan")])
def test_ratios_outside_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"0 <= val_ratio < 1, got"):
        stratified_split(torch.tensor([0, 1]), ratio, seed=0)


@pytest.mark.parametrize("labels", [torch.tensor([0.5, 1.0]), torch.tensor([[0], [1]]), torch.tensor([]).long()])
def test_what_are_no_labels_is_refused(labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"non-empty int64 tensor of shape \(n,\)"):
        stratified_split(labels, 0.5, seed=0)
