"""Tests of ``src/gradnas/export/facts.py``."""

from typing import Any

import pytest
import torch

from gradnas.data import Augmentation, DataSource, ImageSet, Normalization, load_data
from gradnas.export import NetworkFacts

SUMMARY: dict[str, Any] = {
    "dataset": "digits",
    "classes": ["0", "1"],
    "pixels": "uint8",
    "normalization": {"mean": [0.25], "std": [0.5]},
    "test_accuracy": 98.5,
    "n_test": 360,
    "space": "darts",
    "strategy": "xnas",
    "seed": 0,
    "params": 1,
}


def test_what_a_summary_says() -> None:
    facts = NetworkFacts.of_run("a", SUMMARY)
    assert facts == NetworkFacts(
        name="a",
        dataset="digits",
        classes=("0", "1"),
        normalization=Normalization(mean=(0.25,), std=(0.5,)),
        pixel_scale=255,
        test_accuracy=98.5,
        n_test=360,
        space="darts",
        strategy="xnas",
        seed=0,
    )
    assert NetworkFacts.of_run("a", {**SUMMARY, "pixels": "float32"}).pixel_scale == 1


def test_a_summary_may_say_nothing() -> None:
    assert NetworkFacts.of_run("a", {}) == NetworkFacts(name="a")
    unknown = {key: value for key, value in SUMMARY.items() if key != "pixels"}
    assert NetworkFacts.of_run("a", unknown).normalization is None  # of bytes, or of numbers?
    assert NetworkFacts().metadata() == {}


def test_the_data_set_fills_in_what_is_not_known() -> None:
    data = load_data("digits")
    facts = NetworkFacts(seed=1).with_data(data)
    assert (facts.classes, facts.normalization, facts.pixel_scale) == (data.train.classes, data.normalization, 255)
    known = NetworkFacts.of_run("a", SUMMARY)
    assert known.with_data(data) == known
    assert facts.seed == 1


def test_metadata_holds_what_is_known() -> None:
    values = NetworkFacts.of_run("a", SUMMARY).metadata()
    assert values["mean"] == [0.25]
    assert values["pixel_scale"] == 255
    assert values["test_accuracy_percent"] == 98.5
    assert "mean" not in NetworkFacts(name="a").metadata()


def test_another_pixel_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pixel_scale must be 255 for images of bytes, or 1 .* got 256"):
        NetworkFacts(pixel_scale=256)


def test_float_images_are_taken_as_they_are() -> None:
    images = ImageSet(images=torch.rand(4, 1, 4, 4), labels=torch.tensor([0, 1, 0, 1]), classes=("a", "b"))

    data = DataSource(
        name="x", train=images, test=None, augmentation=Augmentation(), normalization=Normalization.of(images)
    )
    assert NetworkFacts().with_data(data).pixel_scale == 1
