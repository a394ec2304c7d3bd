"""Tests of ``src/gradnas/data/augmentation.py``: every transform against a loop over samples, rows and columns."""

import numpy as np
import pytest
import torch

from gradnas.data import Augmentation
from gradnas.data.augmentation import crop_and_flip, cut_hole


def numbers(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_BHWC(batch: int = 40, height: int = 7, width: int = 5, channels: int = 3) -> torch.Tensor:
    return torch.rand(batch, height, width, channels, generator=numbers(1), dtype=torch.float64) + 1


def brute_force_crop(x: np.ndarray, padding: int, down: list[int], right: list[int], mirror: list[bool]) -> np.ndarray:
    """Value by value: output (h, w) shows padded pixel (h + down, w + right) of the (mirrored) window."""
    batch, height, width, _ = x.shape
    out = np.zeros_like(x)
    for b in range(batch):
        for h in range(height):
            for w in range(width):
                source_h = h + down[b] - padding
                source_w = (width - 1 - w if mirror[b] else w) + right[b] - padding
                if 0 <= source_h < height and 0 <= source_w < width:
                    out[b, h, w] = x[b, source_h, source_w]
    return out


@pytest.mark.parametrize(("padding", "flip"), [(2, False), (0, True), (3, True)])
def test_crop_and_flip_equal_brute_force(padding: int, flip: bool) -> None:
    x = images_BHWC()
    replay = numbers()
    down = right = [0] * len(x)
    mirror = [False] * len(x)
    if padding:
        down, right = torch.randint(0, 2 * padding + 1, (2, len(x), 1), generator=replay)[:, :, 0].tolist()
    if flip:
        mirror = torch.randint(0, 2, (len(x), 1), generator=replay, dtype=torch.bool)[:, 0].tolist()
    expected = brute_force_crop(x.numpy(), padding, down, right, mirror)
    actual = crop_and_flip(x, Augmentation(crop_padding=padding, flip=flip), numbers())
    np.testing.assert_array_equal(actual.numpy(), expected)


def test_every_crop_is_a_window_of_the_padded_image_and_all_offsets_occur() -> None:
    # Found by search in the padded image, not by replaying the draws.
    x = images_BHWC(batch=400, height=4, width=4, channels=1)
    out = crop_and_flip(x, Augmentation(crop_padding=1), numbers())[..., 0].numpy()
    padded = np.pad(x[..., 0].numpy(), ((0, 0), (1, 1), (1, 1)))
    found = set()
    for b in range(len(out)):
        offsets = [(i, j) for i in range(3) for j in range(3) if (padded[b, i : i + 4, j : j + 4] == out[b]).all()]
        assert len(offsets) == 1
        found.update(offsets)
    assert len(found) == 9


def test_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    x = images_BHWC(batch=400)
    out = crop_and_flip(x, Augmentation(flip=True), numbers())
    kept = (out == x).flatten(1).all(dim=1)
    mirrored = (out == x.flip(2)).flatten(1).all(dim=1)
    assert bool((kept ^ mirrored).all())
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_hole_equals_brute_force(side: int) -> None:
    x = images_BHWC()
    replay = numbers()
    rows, columns = (torch.randint(0, size, (len(x), 1), generator=replay)[:, 0].tolist() for size in (7, 5))
    expected = x.clone().numpy()
    for b in range(len(x)):
        top, left = rows[b] - side // 2, columns[b] - side // 2
        expected[b, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0
    np.testing.assert_array_equal(cut_hole(x.clone(), side, numbers()).numpy(), expected)


def test_hole_is_one_rectangle_of_at_most_its_side_and_of_full_size_inside() -> None:
    x = images_BHWC(batch=500, height=8, width=8)
    hole = cut_hole(x, 3, numbers())[..., 0] == 0
    heights, widths = hole.any(dim=2).sum(dim=1), hole.any(dim=1).sum(dim=1)
    assert torch.equal(hole.sum(dim=(1, 2)), heights * widths)
    assert set(heights.tolist()) == set(widths.tolist()) == {2, 3}
    # The center is uniform: two of eight center rows are clipped by one row.
    assert 0.18 < float((heights == 2).double().mean()) < 0.32


def test_nothing_on_returns_the_input() -> None:
    x = images_BHWC()
    assert crop_and_flip(x, Augmentation(), numbers()) is x
    assert torch.equal(cut_hole(x.clone(), 0, numbers()), x)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"crop_padding": -1}, ValueError, "crop_padding .* at least 0 .* got -1"),
        ({"cutout": -2}, ValueError, "cutout .* at least 0 .* got -2"),
        ({"cutout": 1.5}, TypeError, "cutout .* must be an int, got 1.5"),
        ({"crop_padding": True}, TypeError, "crop_padding .* must be an int"),
        ({"flip": 1}, TypeError, "flip must be True or False, got 1"),
        ({"policy": "auto-augment"}, ValueError, "unknown policy 'auto-augment'. Did you mean 'autoaugment'"),
        ({"resized_crop": "0.1"}, TypeError, "resized_crop is a share .* must be a number, got '0.1'"),
        ({"resized_crop": True}, TypeError, "resized_crop is a share .* must be a number, got True"),
        ({"resized_crop": -0.1}, ValueError, r"resized_crop is a share .* 0 \(off\) to 1, got -0.1"),
        ({"resized_crop": 1.1}, ValueError, r"resized_crop is a share .* 0 \(off\) to 1, got 1.1"),
        ({"resized_crop": float("nan")}, ValueError, "resized_crop is a share .* got nan"),
        ({"resized_crop": 0.5, "crop_padding": 4}, ValueError, "crop_padding=4 and resized_crop=0.5 both cut a window"),
        ({"policy": None}, ValueError, "unknown policy None. .*Known: none, autoaugment"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Augmentation(**settings)


def test_a_crop_that_is_set_replaces_the_other() -> None:
    padded, resized = Augmentation(crop_padding=4, flip=True), Augmentation(resized_crop=0.1, cutout=3)
    assert padded.changed() == padded
    assert padded.changed(resized_crop=0.5) == Augmentation(resized_crop=0.5, flip=True)
    assert padded.changed(resized_crop=0.0) == padded
    assert padded.changed(crop_padding=0, flip=False) == Augmentation()
    assert resized.changed(crop_padding=2) == Augmentation(crop_padding=2, cutout=3)
    assert resized.changed(crop_padding=0) == resized
    assert resized.changed(resized_crop=0.0, flip=True) == Augmentation(cutout=3, flip=True)
    with pytest.raises(ValueError, match="both cut a window"):
        padded.changed(crop_padding=4, resized_crop=0.5)


def test_a_hole_larger_than_the_image_is_refused() -> None:
    Augmentation(cutout=8).check_fits(8, 9)
    with pytest.raises(ValueError, match=r"cutout=9 is larger than the image of 8x9 pixels.*Use at most 4"):
        Augmentation(cutout=9).check_fits(8, 9)
    with pytest.raises(ValueError, match=r"crop_padding=9 is larger than the image of 8x9 pixels.*Use about 1"):
        Augmentation(crop_padding=9).check_fits(8, 9)


def test_a_policy_is_refused_for_other_than_rgb_images_in_uint8() -> None:
    Augmentation(policy="autoaugment").check_pixels(3, torch.uint8)
    Augmentation().check_pixels(1, torch.float32)
    for channels, dtype in ((1, torch.uint8), (3, torch.float32)):
        with pytest.raises(ValueError, match=rf"needs RGB images.* got {channels} of {dtype}.*policy='none'"):
            Augmentation(policy="autoaugment").check_pixels(channels, dtype)
