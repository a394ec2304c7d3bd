"""Tests of ``src/gradnas/data/normalization.py``."""

import numpy as np
import pytest
import torch

from gradnas.data import ImageSet, Normalization


@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 255.0), ("float32", 1.0)])
def test_of_equals_numpy_in_float64(make_set, dtype: str, scale: float) -> None:
    images = make_set(n=7, height=5, width=3, dtype=dtype)
    array = images.images.numpy().astype(np.float64) / scale
    measured = Normalization.of(images)
    np.testing.assert_allclose(measured.mean, array.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(measured.std, array.std(axis=(0, 2, 3)), rtol=1e-12)


def test_several_chunks_agree_with_one(monkeypatch, make_set) -> None:
    images = make_set(n=50)
    whole = Normalization.of(images)
    monkeypatch.setattr("gradnas.data.imageset._CHUNK_VALUES", 7 * 3 * 6 * 6)
    parts = Normalization.of(images)
    np.testing.assert_allclose(parts.mean + parts.std, whole.mean + whole.std, rtol=1e-13)


def test_a_large_mean_does_not_cancel() -> None:
    values = torch.tensor([1e6, 1e6 + 2]).view(2, 1, 1, 1)
    measured = Normalization.of(ImageSet(images=values, labels=torch.tensor([0, 1]), classes=("a", "b")))
    assert measured == Normalization(mean=(1e6 + 1,), std=(1.0,))


@pytest.mark.parametrize("value", [0.0, 0.1, -3e7])
def test_a_constant_channel_gets_std_one(value: float) -> None:
    images = torch.full((3, 1, 7, 7), value)
    measured = Normalization.of(ImageSet(images=images, labels=torch.tensor([0, 1, 1]), classes=("a", "b")))
    assert measured.std == (1.0,)


def test_scale_and_shift_is_the_formula() -> None:
    normalization = Normalization(mean=(0.5, 0.25), std=(0.1, 2.0))
    x = torch.tensor([0, 17, 255], dtype=torch.uint8)
    scale, shift = normalization.scale_and_shift(torch.uint8)
    for c in range(2):
        expected = (x.double() / 255 - normalization.mean[c]) / normalization.std[c]
        torch.testing.assert_close((x.float() * scale[c] + shift[c]).double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), (1.0, 1.0), "one value per channel"),
        ((), (), "one value per channel"),
        ((0.5,), (0.0,), "std positive"),
        ((float("nan"),), (1.0,), "finite"),
    ],
)
def test_values_that_make_no_sense_are_refused(mean: tuple, std: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalization(mean=mean, std=std)
