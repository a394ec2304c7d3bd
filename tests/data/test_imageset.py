"""Tests of ``src/gradnas/data/imageset.py``."""

import pytest
import torch

from gradnas.data import ImageSet

IMAGES = torch.zeros(4, 3, 5, 7, dtype=torch.uint8)
LABELS = torch.tensor([0, 1, 1, 0])


def make(images=IMAGES, labels=LABELS, classes=("cat", "dog")):
    return ImageSet(images=images, labels=labels, classes=classes)


def test_sizes_of_images_that_are_not_square() -> None:
    images = make()
    assert (len(images), images.shape, images.n_classes) == (4, (3, 5, 7), 2)


def test_subset_keeps_order_and_repetitions() -> None:
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1)
    part = make(images).subset(torch.tensor([3, 1, 1]))
    assert part.images.flatten().tolist() == [3, 1, 1]
    assert part.labels.tolist() == [0, 1, 1]
    assert part.classes == ("cat", "dog")


@pytest.mark.parametrize("indices", [torch.tensor([4]), torch.tensor([-1, 0])])
def test_subset_refuses_positions_outside(indices: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"indices must lie in 0\.\.3, got values from"):
        make().subset(indices)


@pytest.mark.parametrize("indices", [torch.tensor([], dtype=torch.int64), torch.tensor([True] * 4), torch.tensor(1)])
def test_subset_refuses_what_is_no_list_of_positions(indices: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="non-empty int64 tensor"):
        make().subset(indices)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES[0]}, r"images must have shape \(N, C, H, W\), got \(3, 5, 7\)"),
        ({"images": IMAGES.double()}, "uint8 .* or float32, got torch.float64"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "at least one sample"),
        ({"labels": LABELS[:3]}, r"labels must be int64 of shape \(4,\).*got \(3,\)"),
        ({"labels": LABELS.int()}, "labels must be int64.*torch.int32"),
        ({"classes": ("cat",)}, r"at least two classes.*\['cat'\]"),
        ({"labels": torch.tensor([0, 1, 2, 7])}, r"label 2 of sample 2 is not one of the 2 classes, numbered 0\.\.1"),
        ({"labels": torch.tensor([0, -1, 0, 0])}, "label -1 of sample 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused_by_index(bad: float) -> None:
    # Large enough for several chunks; the first of two bad samples is named.
    images = torch.zeros(40, 3, 256, 256)
    images[37, 2, 255, 255] = bad
    images[39, 0, 0, 0] = bad
    with pytest.raises(ValueError, match="image 37 holds NaN or an infinity"):
        make(images, torch.arange(40) % 2)


def test_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match="images must be a torch tensor, got ndarray"):
        make(IMAGES.numpy())
