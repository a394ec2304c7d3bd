"""Tests of ``src/gradnas/data/mapstyle.py``."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, Subset, TensorDataset

from gradnas.data import from_dataset

RNG = np.random.default_rng(0)
HWC = RNG.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
CHW = torch.from_numpy(HWC).permute(0, 3, 1, 2)
LABELS = [0, 1, 1, 0]


@pytest.mark.parametrize(
    "images",
    [list(CHW), list(HWC), [Image.fromarray(image) for image in HWC]],
    ids=["tensor", "array", "PIL"],
)
def test_all_kinds_of_uint8_images_agree(images: list) -> None:
    data = from_dataset(list(zip(images, LABELS, strict=True)), classes=["a", "b"])
    assert data.images.dtype == torch.uint8
    assert torch.equal(data.images, CHW)
    assert data.labels.tolist() == LABELS
    assert data.classes == ("a", "b")


@pytest.mark.parametrize("as_array", [False, True])
def test_float_images_keep_their_scale(as_array: bool) -> None:
    images = CHW.double() / 100 - 1
    samples = [(image.numpy() if as_array else image, label) for image, label in zip(images, LABELS, strict=True)]
    assert torch.equal(from_dataset(samples).images, images.float())


@pytest.mark.parametrize("convert", [lambda x: x, lambda x: x.numpy(), lambda x: Image.fromarray(x.numpy())])
def test_images_without_channels(convert) -> None:
    data = from_dataset([(convert(image[0]), label) for image, label in zip(CHW, LABELS, strict=True)])
    assert torch.equal(data.images, CHW[:, :1])


@pytest.mark.parametrize("convert", [torch.tensor, np.int64, np.array, lambda x: torch.tensor([x])])
def test_labels_of_other_types(convert) -> None:
    data = from_dataset([(image, convert(label)) for image, label in zip(CHW, LABELS, strict=True)])
    assert data.labels.tolist() == LABELS


def test_tensor_dataset_equals_the_loop() -> None:
    for images in (CHW, CHW.float(), CHW[:, 0]):
        dataset = TensorDataset(images, torch.tensor(LABELS))
        fast, slow = from_dataset(dataset), from_dataset(Subset(dataset, range(4)))
        assert torch.equal(fast.images, slow.images)
        assert torch.equal(fast.labels, slow.labels)
        assert fast.classes == slow.classes == ("0", "1")


def test_classes_of_the_dataset_are_used() -> None:
    class Named(TensorDataset):
        classes = ("cat", "dog", "cow")

    dataset = Named(CHW, torch.tensor(LABELS))
    assert from_dataset(dataset).classes == ("cat", "dog", "cow")
    assert from_dataset(dataset, classes=["x", "y"]).classes == ("x", "y")


def test_gray_and_color_pil_images_may_be_mixed() -> None:
    samples = [(Image.fromarray(HWC[0, :, :, 0]), 0), (Image.fromarray(HWC[1]), 1)]
    data = from_dataset(samples)
    assert torch.equal(data.images[0], CHW[0, :1].expand(3, -1, -1))
    assert torch.equal(data.images[1], CHW[1])


def test_image_size_brings_all_to_one_size() -> None:
    samples = [(torch.zeros(3, 8, 9), 0), (np.zeros((5, 4, 3), np.uint8), 1), (Image.new("RGB", (7, 7)), 1)]
    for sample in samples:
        assert from_dataset([(sample[0], 0), (sample[0], 1)], image_size=4).shape == (3, 4, 4)
    assert from_dataset(TensorDataset(CHW, torch.tensor(LABELS)), image_size=3).shape == (3, 3, 3)


def test_every_sample_is_read_once() -> None:
    reads = []

    class Counting:
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple:
            reads.append(index)
            return CHW[index], LABELS[index]

    from_dataset(Counting())
    assert reads == [0, 1, 2, 3]


GOOD = (CHW[0], 0)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (CHW[0], TypeError, r"sample 1 must be \(image, label\), got Tensor of shape \(3, 5, 6\)"),
        ((CHW[0], 1, 2), TypeError, r"sample 1 must be \(image, label\), got tuple of length 3"),
        (("a.png", 1), TypeError, "the image of sample 1 is str 'a.png'. Expected a tensor"),
        ((torch.zeros(3), 1), ValueError, r"the image of sample 1 is Tensor of shape \(3,\)"),
        ((CHW[0].long(), 1), ValueError, "sample 1 .* dtype torch.int64. Expected dtype uint8"),
        ((CHW[0].numpy(), 1), ValueError, r"sample 1 is ndarray of shape \(3, 5, 6\).*transpose\(1, 2, 0\)"),
        ((HWC[0].astype(object), 1), TypeError, "sample 1 is ndarray .* dtype object"),
        ((CHW[0, :, :4], 1), ValueError, "sample 0 is 5x6 pixels .* sample 1 is 4x6. Pass image_size="),
        ((CHW[0, :1], 1), ValueError, "differ in channels: sample 0 has 3, sample 1 has 1"),
        ((CHW[0].float(), 1), ValueError, "differ in dtype: sample 0 is uint8, sample 1 is float32"),
        ((Image.new("F", (6, 5)), 1), ValueError, "sample 1: its mode 'F' has more than 8 bits"),
        ((CHW[0], "dog"), TypeError, "the label of sample 1 is str 'dog'. Expected a class number"),
        ((CHW[0], 1.0), TypeError, "the label of sample 1 is float 1.0"),
        ((CHW[0], torch.tensor([0, 1])), TypeError, r"the label of sample 1 is Tensor of shape \(2,\)"),
        ((CHW[0], 0), ValueError, "at least two classes"),
    ],
)
def test_bad_samples_are_named(bad: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_dataset([GOOD, bad])


def test_label_outside_the_given_classes_and_nan_are_named() -> None:
    with pytest.raises(ValueError, match="label 2 of sample 1 is not one of the 2 classes"):
        from_dataset([GOOD, (CHW[0], 2)], classes=["a", "b"])
    with pytest.raises(ValueError, match="label -1 of sample 1"):
        from_dataset([GOOD, (CHW[0], -1)], classes=["a", "b"])
    with pytest.raises(ValueError, match="image 1 holds NaN"):
        from_dataset([(torch.zeros(1, 2, 2), 0), (torch.full((1, 2, 2), torch.nan), 1)])


def test_datasets_without_positions_or_samples_are_refused() -> None:
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([GOOD])

    with pytest.raises(TypeError, match="Stream is no map-style dataset"):
        from_dataset(Stream())
    with pytest.raises(TypeError, match="generator is no map-style dataset"):
        from_dataset(sample for sample in [GOOD])
    with pytest.raises(ValueError, match="the dataset list is empty"):
        from_dataset([])


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ((CHW,), TypeError, r"must hold \(images, labels\), got 1 tensors"),
        ((CHW, torch.eye(4)), ValueError, r"one class number per image.*\(4, 4\)"),
        ((CHW[:, 0, 0], torch.tensor(LABELS)), ValueError, r"\(N, C, H, W\) or \(N, H, W\), got \(4, 6\)"),
        ((CHW.int(), torch.tensor(LABELS)), ValueError, "uint8 .* or float, got torch.int32"),
    ],
)
def test_tensor_datasets_that_do_not_fit_are_refused(tensors: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_dataset(TensorDataset(*tensors))


@pytest.mark.parametrize("fast", [True, False])
def test_too_large_is_refused_with_both_numbers(fast: bool) -> None:
    dataset = TensorDataset(CHW.float(), torch.tensor(LABELS))
    dataset = dataset if fast else Subset(dataset, range(4))
    assert len(from_dataset(dataset, max_bytes=1440)) == 4
    with pytest.raises(ValueError, match="4 images of 3x5x6: 1,440 bytes needed in memory, 1,439 allowed"):
        from_dataset(dataset, max_bytes=1439)
