"""Tests of ``src/gradnas/export/samples.py``."""

from dataclasses import replace

import pytest
import torch

from gradnas.data import ImageSet, load_data
from gradnas.export import Samples


def test_test_images_are_taken_and_normalized_as_in_the_run() -> None:
    data = load_data("digits")
    assert data.test is not None
    samples = Samples.of(data, (1, 8, 8))
    assert samples.what == "16 test images of digits"
    factor, shift = data.normalization.scale_and_shift(torch.uint8)
    positions = [i * 360 // 16 for i in range(16)]
    torch.testing.assert_close(samples.images, data.test.images[positions].float() * factor + shift)
    assert samples.images.is_contiguous()


def test_training_images_are_taken_where_there_are_no_others() -> None:
    samples = Samples.of(replace(load_data("digits"), test=None), (1, 8, 8))
    assert samples.what == "16 training images of digits"


def test_sets_of_few_images_do() -> None:
    data = load_data("digits")
    for count, taken in ((1, 2), (2, 2), (5, 5)):
        few = ImageSet(images=data.train.images[:count], labels=data.train.labels[:count], classes=data.train.classes)
        assert len(Samples.of(replace(data, test=few), (1, 8, 8)).images) == taken


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes images of \(3, 8, 8\), those of digits are of \(1, 8, 8\) now"):
        Samples.of(load_data("digits"), (3, 8, 8))


def test_noise_is_the_same_each_time_and_says_why() -> None:
    samples = Samples.noise((3, 32, 32), "no data")
    assert samples.what == "16 images of noise (no data)"
    sentence = "no data set at v1. final/my.npz"
    for reason in (f"{sentence}. Choose one.", f"{sentence}.", sentence, f"{sentence}.\nKnown: a"):
        assert Samples.noise((3, 32, 32), reason).what == f"16 images of noise ({sentence})"
    assert samples.images.shape == (16, 3, 32, 32)
    assert torch.equal(samples.images, Samples.noise((3, 32, 32), "").images)
    assert abs(float(samples.images.mean())) < 0.02
    assert abs(float(samples.images.std()) - 1) < 0.02


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 8, 8)])
def test_fewer_than_two_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="needs at least two images"):
        Samples(images=torch.zeros(shape), what="")
