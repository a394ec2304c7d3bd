"""Tests of ``src/gradnas/data/class_balance.py``."""

import pytest
import torch

from gradnas.data import ClassBalance, DataSource, ImageSet, Normalization, class_balance, load_data
from gradnas.data.source import default_augmentation


def source_of(counts: list[int], tested: list[int] | None = None) -> DataSource:
    def images(labels: list[int]) -> ImageSet:
        classes = tuple(f"c{i}" for i in range(len(counts)))
        pixels = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
        return ImageSet(images=pixels, labels=torch.tensor(labels), classes=classes)

    train = images([label for label, n in enumerate(counts) for _ in range(n)])
    return DataSource(
        name="x",
        train=train,
        test=None if tested is None else images(tested),
        augmentation=default_augmentation(train),
        normalization=Normalization.of(train),
    )


def test_an_even_set_has_no_warning() -> None:
    assert class_balance(source_of([20, 20])) == ClassBalance(counts={"c0": 20, "c1": 20}, ratio=1.0, warnings=())
    digits = class_balance(load_data("digits"))
    assert (sum(digits.counts.values()), digits.warnings) == (1437, ())


@pytest.mark.parametrize(("counts", "warned"), [([100, 10], False), ([101, 10], True)])
def test_more_than_ten_times_as_many_are_warned_of(counts: list[int], warned: bool) -> None:
    balance = class_balance(source_of(counts))
    assert balance.ratio == counts[0] / counts[1]
    assert bool(balance.warnings) == warned
    if warned:
        expected = "the class 'c0' has 101 training images, 'c1' 10: 10 times as many."
        assert balance.warnings[0].startswith(expected)


def test_small_and_absent_classes_are_named() -> None:
    balance = class_balance(source_of([10, 9, 0, 12]))
    assert balance.counts == {"c0": 10, "c1": 9, "c2": 0, "c3": 12}
    assert balance.ratio == 12 / 9
    assert balance.warnings == (
        "fewer than 10 training images of the class 'c1': hardly enough to learn from.",
        "no training image of the class 'c2': nothing can be learnt of it.",
    )
    many = class_balance(source_of([1] * 7)).warnings
    assert many == (
        "fewer than 10 training images of 7 classes ('c0', 'c1', 'c2', 'c3', 'c4' and 2 more): hardly enough to learn "
        "from.",
    )


def test_test_images_are_not_looked_at() -> None:
    even = source_of([10, 10, 10])
    assert class_balance(source_of([10, 10, 10], [1])) == class_balance(even)
