"""Tests of ``src/gradnas/data/endless.py``."""

import pytest
import torch

from gradnas.data import Augmentation, BatchLoader, DataLoaders, EndlessBatches, Normalization


@pytest.fixture
def loader(make_set) -> BatchLoader:
    return BatchLoader(
        make_set(n=10),
        batch_size=4,
        normalization=Normalization(mean=(0.0,) * 3, std=(1.0,) * 3),
        shuffle=True,
        seed=0,
        purpose="val",
        augmentation=Augmentation(crop_padding=1),
    )


def test_passes_follow_each_other(loader: BatchLoader) -> None:
    endless = EndlessBatches(loader)
    expected = [batch for epoch in range(3) for batch in loader.batches(epoch)]
    for x, y in expected:
        got_x, got_y = endless.next()
        assert torch.equal(got_x, x)
        assert torch.equal(got_y, y)
    assert endless.drawn == 9


@pytest.mark.parametrize("drawn", [0, 2, 3, 7])
def test_drawn_is_the_whole_state(loader: BatchLoader, drawn: int) -> None:
    through, resumed = EndlessBatches(loader), EndlessBatches(loader, drawn)
    for _ in range(drawn):
        through.next()
    for _ in range(4):
        assert torch.equal(through.next()[0], resumed.next()[0])
    assert through.drawn == resumed.drawn == drawn + 4


def test_negative_state_is_refused(loader: BatchLoader) -> None:
    with pytest.raises(ValueError, match=r"drawn counts the batches.*got -1"):
        EndlessBatches(loader, -1)


def test_loaders_without_validation_and_test(loader: BatchLoader) -> None:
    loaders = DataLoaders(train=loader)
    assert loaders.train is loader
    assert loaders.val is None
    assert loaders.test is None
