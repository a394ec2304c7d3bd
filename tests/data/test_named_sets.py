"""Tests of ``src/gradnas/data/named_sets.py``: the table against torchvision and against itself."""

import pytest

from gradnas.data import Augmentation, Normalization, dataset_names
from gradnas.data.named_sets import NAMED_SETS, set_name


@pytest.mark.parametrize("name", NAMED_SETS)
def test_an_entry_says_everything_and_nothing_twice(name: str) -> None:
    known = NAMED_SETS[name]
    assert set_name(name.upper().replace("-", "_")) == name
    assert (known.origin == "torchvision") == bool(known.class_name)
    assert known.channels == (1 if known.layout == "NHW" else 3)
    assert known.layout is None or known.side is not None
    if known.normalization is not None:
        assert len(known.normalization.mean) == known.channels
        assert known.published(known.channels) is known.normalization
        assert known.published(4 - known.channels) is None
    side = known.side or known.image_size
    known.augmentation(side).check_fits(side, side)
    assert known.where


def test_published_constants() -> None:
    cifar, imagenet = NAMED_SETS["cifar10"].normalization, NAMED_SETS["imagenet"].normalization
    assert cifar == Normalization(mean=(0.49140, 0.48216, 0.44653), std=(0.24703, 0.24349, 0.26159))
    assert imagenet == Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert {name for name in NAMED_SETS if NAMED_SETS[name].normalization is not None} == {
        "cifar10",
        "cifar100",
        "fashion-mnist",
        "imagenet",
        "mnist",
        "svhn",
    }


def test_sizes_and_augmentation() -> None:
    assert [NAMED_SETS["cifar10"].size(size) for size in (None, 16)] == [None, 16]
    assert [NAMED_SETS["food101"].size(size) for size in (None, 64)] == [224, 64]
    assert NAMED_SETS["imagenet"].augmentation(224) == Augmentation(resized_crop=0.08, flip=True)
    assert NAMED_SETS["imagenet"].augmentation_text(224) == "resized crop 0.08, flip"
    assert NAMED_SETS["cifar10"].augmentation_text(32) == "crop 4, flip"
    assert NAMED_SETS["mnist"].augmentation(28) == Augmentation(crop_padding=2)


def test_other_names() -> None:
    assert set(dataset_names()) == set(NAMED_SETS)
    assert set_name("./cifar10") is None
    assert set_name(3) is None
