"""Tests of ``src/gradnas/data/resized_crop.py``: torchvision draws the windows and resizes them a second time."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as T

from gradnas.data.resized_crop import RandomWindows, resize_windows

SHARE = 0.08


def drawn(batch: int, share: float = SHARE, seed: int = 0) -> RandomWindows:
    return RandomWindows.draw(batch, share, torch.Generator().manual_seed(seed))


def one_by_one(windows: RandomWindows, height: int, width: int) -> list[list[int]]:
    """The algorithm as it is published, attempt after attempt, from the same numbers."""
    found = []
    for attempts in windows.numbers.tolist():
        for area, ratio, down, right in attempts:
            target = height * width * (windows.smallest_share + (1 - windows.smallest_share) * area)
            aspect = math.exp(math.log(3 / 4) + ratio * (math.log(4 / 3) - math.log(3 / 4)))
            w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
            if 0 < w <= width and 0 < h <= height:
                found.append([int(down * (height - h + 1)), int(right * (width - w + 1)), h, w])
                break
        else:
            in_ratio = width / height
            h, w = height, width
            if in_ratio < 3 / 4:
                h = round(w / (3 / 4))
            elif in_ratio > 4 / 3:
                w = round(h * (4 / 3))
            found.append([(height - h) // 2, (width - w) // 2, h, w])
    return found


@pytest.mark.parametrize(("height", "width"), [(32, 32), (7, 11), (60, 12), (12, 60), (1, 1)])
@pytest.mark.parametrize("share", [0.08, 0.9, 1.0])
def test_windows_of_a_batch_equal_those_of_a_loop(height: int, width: int, share: float) -> None:
    windows = drawn(300, share)
    assert windows.in_image(height, width).tolist() == one_by_one(windows, height, width)


def test_windows_are_distributed_like_those_of_torchvision() -> None:
    n, height, width = 3000, 90, 120
    image = torch.empty(3, height, width)
    transform = RandomResizedCrop(32, scale=(SHARE, 1.0))
    torch.manual_seed(0)
    theirs = [transform.make_params([image]) for _ in range(n)]
    theirs = np.array([[box["top"], box["left"], box["height"], box["width"]] for box in theirs])
    ours = drawn(n).in_image(height, width).numpy()
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.01
    for quantity in (lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 3] / box[:, 2]):
        assert ks_2samp(quantity(ours), quantity(theirs)).pvalue > 0.01


def test_windows_lie_in_the_image_and_have_their_share() -> None:
    top, left, height, width = drawn(2000, 0.3).in_image(64, 64).T
    assert int(top.min()) >= 0
    assert int(left.min()) >= 0
    assert int((top + height).max()) <= 64
    assert int((left + width).max()) <= 64
    assert float((height * width).min()) > 0.3 * 64 * 64 - 64
    part = drawn(10).of(3, 5)
    assert torch.equal(part.in_image(64, 64), drawn(10).in_image(64, 64)[3:5])


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (9, 14, 1)])
def test_pixels_equal_those_of_torchvision(height: int, width: int, channels: int) -> None:
    draws = torch.Generator().manual_seed(1)
    x_BHWC = torch.rand((40, height, width, channels), generator=draws)
    windows = drawn(40).in_image(height, width)
    windows[0] = torch.tensor([0, 0, height, width])
    windows[1] = torch.tensor([height - 1, width - 1, 1, 1])
    expected = torch.stack(
        [
            T.resized_crop(x.permute(2, 0, 1), *box, size=[height, width], antialias=True).permute(1, 2, 0)
            for x, box in zip(x_BHWC, windows.tolist(), strict=True)
        ]
    )
    actual = resize_windows(x_BHWC, windows)
    assert torch.allclose(actual, expected, atol=1e-5)
    assert torch.equal(actual[0], x_BHWC[0])
    assert torch.equal(actual[1], x_BHWC[1, -1, -1].expand(height, width, channels))
    assert actual.is_contiguous()
    in_bytes = resize_windows((x_BHWC * 255).to(torch.uint8), windows)
    assert in_bytes.dtype == torch.uint8
    assert float((in_bytes.float() - 255 * expected).abs().max()) < 1.6


def test_numbers_follow_from_the_generator() -> None:
    assert torch.equal(drawn(5).numbers, drawn(5).numbers)
    assert not torch.equal(drawn(5).numbers, drawn(5, seed=1).numbers)
    assert drawn(5).numbers.dtype == torch.float64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_the_accelerator() -> None:
    x_BHWC = torch.rand((40, 32, 32, 3), generator=torch.Generator().manual_seed(1))
    windows = drawn(40).in_image(32, 32)
    assert torch.allclose(resize_windows(x_BHWC.cuda(), windows.cuda()).cpu(), resize_windows(x_BHWC, windows))
