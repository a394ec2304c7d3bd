"""Tests of ``src/gradnas/data/facts.py``."""

import pytest
import torch

from gradnas.data import (
    DataFacts,
    DataSource,
    ImageSet,
    LoadOptions,
    Normalization,
    dataset_names,
    load_data,
    published_facts,
)
from gradnas.data.named_sets import NAMED_SETS
from gradnas.data.source import default_augmentation


def test_what_is_published_of_digits_is_what_they_are() -> None:
    assert published_facts("digits") == DataFacts.of(load_data("digits"))
    assert published_facts("digits", 16) == DataFacts.of(load_data("digits", image_size=16))


def test_every_named_set_has_facts() -> None:
    for name in dataset_names():
        facts = published_facts(name, 40)
        assert facts is not None
        assert facts.shape[1:] == (40, 40)
        assert facts.n_classes >= 2
        assert facts.n_train > 0
        assert facts.n_test is not None


def test_sets_of_one_size_know_it_and_photographs_have_one_to_be_brought_to() -> None:
    for name, known in NAMED_SETS.items():
        facts = published_facts(name)
        assert facts is not None
        assert facts.shape == (1 if known.layout == "NHW" else 3, *2 * (known.side or known.image_size,))
    assert published_facts("imagenet").shape == (3, 224, 224)
    assert published_facts("gtsrb").shape == (3, 48, 48)
    assert published_facts("mnist", options=LoadOptions(channels=3)).shape == (3, 28, 28)


@pytest.mark.parametrize(
    ("name", "image_size", "options", "streamed"),
    [
        ("imagenet", None, {}, True),
        ("food101", None, {}, True),
        ("food101", 64, {}, False),
        ("food101", None, {"stream": "never"}, False),
        ("flowers102", 32, {"stream": "always"}, True),
        ("flowers102", 32, {"max_bytes": 7_169 * 3 * 32 * 32 - 1}, True),
        ("flowers102", 32, {"max_bytes": 7_169 * 3 * 32 * 32}, False),
        ("flowers102", 32, {"max_bytes": 7_169 * 3 * 32 * 32 - 1, "channels": 1}, False),
        ("cifar10", None, {"max_bytes": 1}, False),
    ],
)
def test_what_would_be_streamed(name: str, image_size: int | None, options: dict, streamed: bool) -> None:
    facts = published_facts(name, image_size, LoadOptions(**options))
    assert facts.streamed is streamed
    side = facts.shape[1]
    assert facts.bytes_of(2) == 2 * ((0 if streamed else facts.shape[0] * side * side) + 8)


def test_cifar10_is_known_without_being_here() -> None:
    facts = published_facts("CIFAR10")
    assert facts is not None
    assert (facts.shape, facts.n_classes, facts.n_train, facts.n_test) == ((3, 32, 32), 10, 50_000, 10_000)
    assert facts.bytes_of(2) == 2 * (3 * 32 * 32 + 8)
    assert published_facts("fashion_mnist") == published_facts("fashion-mnist") is not None


def test_a_path_has_no_facts() -> None:
    assert published_facts("./cifar10") is None
    assert published_facts("photographs.zip") is None


def test_facts_of_a_loaded_set_are_its_own() -> None:
    images = ImageSet(images=torch.rand(6, 2, 4, 5), labels=torch.arange(6) % 3, classes=("a", "b", "c"))
    source = DataSource(
        name="x",
        train=images,
        test=None,
        augmentation=default_augmentation(images),
        normalization=Normalization.of(images),
    )
    facts = DataFacts.of(source)
    assert facts == DataFacts(shape=(2, 4, 5), n_classes=3, n_train=6, n_test=None, dtype=torch.float32)
    assert facts.bytes_of(1) == 2 * 4 * 5 * 4 + 8
    assert (facts.network.channels, facts.network.image_size, facts.network.n_classes) == (2, (4, 5), 3)
