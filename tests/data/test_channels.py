"""Tests of ``src/gradnas/data/channels.py``: PIL's conversion is the second answer."""

import numpy as np
import pytest
import torch
from PIL import Image

from gradnas.data import load_data
from gradnas.data.channels import with_channels


def test_gray_levels_are_those_of_pil() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in colors])
    gray = with_channels(torch.from_numpy(colors).permute(0, 3, 1, 2), 1)
    assert (gray.shape, gray.dtype) == ((3, 1, 40, 50), torch.uint8)
    np.testing.assert_array_equal(gray[:, 0].numpy(), expected)


def test_floats_are_weighed_by_hand() -> None:
    gray = with_channels(torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1), 1)
    assert gray.item() == pytest.approx(0.299 + 5.87 + 11.4, abs=1e-3)
    assert gray.dtype == torch.float32


def test_colors_of_gray_images_are_three_equal_channels() -> None:
    gray = torch.rand(2, 1, 3, 4)
    colors = with_channels(gray, 3)
    assert colors.shape == (2, 3, 3, 4)
    assert all(torch.equal(colors[:, channel], gray[:, 0]) for channel in range(3))
    assert with_channels(gray, 1) is gray
    with pytest.raises(ValueError, match="images of 2 channels are neither gray nor RGB; channels=3 has no meaning"):
        with_channels(torch.zeros(1, 2, 3, 3), 3)


def test_whole_sets(tmp_path) -> None:
    digits, colors = load_data("digits"), load_data("digits", channels=3)
    assert colors.train.shape == colors.test.shape == (3, 8, 8)
    assert torch.equal(colors.train.images[:, 2:], digits.train.images)
    assert colors.normalization.mean == pytest.approx(digits.normalization.mean * 3)
    assert colors.augmentation == digits.augmentation
    assert load_data("digits", channels=3, max_bytes=1797 * 192).train.shape == (3, 8, 8)
    with pytest.raises(ValueError, match="1797 images of 3x8x8: 345,024 bytes needed in memory, 345,023 allowed"):
        load_data("digits", channels=3, max_bytes=1797 * 192 - 1)
    x = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=[0, 1] * 3, x_test=x[:2], y_test=[0, 1])
    source = load_data(tmp_path / "x.npz", channels=1)
    assert source.train.shape == source.test.shape == (1, 4, 4)
    assert torch.equal(source.test.images, with_channels(torch.from_numpy(x[:2]).permute(0, 3, 1, 2), 1))


def test_folders_of_gray_and_colored_files(write_images) -> None:
    gray, color = np.full((4, 4), 9, np.uint8), np.full((4, 4, 3), (200, 100, 50), np.uint8)
    mixed = write_images({"train/a/1.png": gray, "train/b/1.png": color})
    assert load_data(mixed).train.shape == (3, 4, 4)
    source = load_data(mixed, channels=1)
    assert source.train.images[:, 0, 0, 0].tolist() == [9, 124]
    only_gray = write_images({"train/a/1.png": gray, "train/b/1.png": gray}, "gray")
    assert load_data(only_gray).train.shape == (1, 4, 4)
    assert load_data(only_gray, channels=3).train.shape == (3, 4, 4)
