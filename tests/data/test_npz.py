"""Tests of ``src/gradnas/data/npz.py``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gradnas.data import Augmentation, load_data

X = np.random.default_rng(0).integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(**arrays: object) -> Path:
        path = tmp_path / "mine.npz"
        arrays = {"x_train": X, "y_train": Y} | arrays
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        return path

    return write


@pytest.mark.parametrize(
    "x", [X, X.transpose(0, 3, 1, 2), X[..., 0], X[..., :1]], ids=["NHWC", "NCHW", "NHW", "one channel"]
)
def test_layouts_give_the_same_pixels(save, x: np.ndarray) -> None:
    source = load_data(save(x_train=x, x_test=x[:2], y_test=Y[:2]))
    channels = 1 if x.ndim == 3 or x.shape[3] == 1 else 3
    expected = torch.from_numpy(X[..., :channels].copy()).permute(0, 3, 1, 2)
    assert source.name == "mine"
    assert torch.equal(source.train.images, expected)
    assert torch.equal(source.test.images, expected[:2])
    assert source.train.labels.tolist() == Y.tolist()
    assert source.train.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6, 3, 3, 4), (4, 3, 3)),  # channels 3 or 4, but only the last makes square images
        ((6, 13, 8, 8), (13, 8, 8)),  # no usual number of channels, but square images
        ((6, 8, 8, 13), (13, 8, 8)),
    ],
)
def test_square_images_decide_where_channels_do_not(save, shape: tuple, expected: tuple) -> None:
    assert load_data(save(x_train=np.arange(np.prod(shape)).reshape(shape).astype(np.uint8))).train.shape == expected


@pytest.mark.parametrize("shape", [(6, 4, 4, 4), (6, 3, 8, 3), (6, 5, 6, 7), (6, 8), (6, 1, 3, 8, 8)])
def test_layouts_in_doubt_are_refused(save, shape: tuple) -> None:
    with pytest.raises(ValueError, match=r"mine.npz: x_train has shape .* layout cannot be told"):
        load_data(save(x_train=np.zeros(shape, np.uint8)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_keep_their_scale(save, dtype: type) -> None:
    x = (X.astype(np.float64) / 64 - 2).astype(dtype)
    train = load_data(save(x_train=x)).train
    assert train.images.dtype == torch.float32
    np.testing.assert_array_equal(train.images.permute(0, 2, 3, 1).numpy(), x.astype(np.float32))


@pytest.mark.parametrize("y", [Y[:, None], Y.astype(np.uint8), Y.astype(np.float64), Y.astype(np.int32)])
def test_labels_of_other_forms(save, y: np.ndarray) -> None:
    assert load_data(save(y_train=y)).train.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("names", [np.array(["a", "b", "c", "d"]), np.array([b"a", b"b", b"c", b"d"])])
def test_names_of_classes(save, names: np.ndarray) -> None:
    source = load_data(save(classes=names))
    assert source.train.classes == ("a", "b", "c", "d")
    assert source.test is None


def test_resized_to_a_square(save) -> None:
    assert load_data(save(x_test=X, y_test=Y), image_size=4).test.shape == (3, 4, 4)


def test_default_augmentation_of_small_and_larger_images(save) -> None:
    assert load_data(save()).augmentation == Augmentation(crop_padding=1)
    large = np.zeros((6, 32, 40, 3), np.uint8)
    assert load_data(save(x_train=large)).augmentation == Augmentation(crop_padding=4, flip=True)
    assert load_data(save(x_train=large[..., 0])).augmentation == Augmentation(crop_padding=4)


NAN = X.astype(np.float32)
NAN[4, 1, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_train": None}, "mine.npz lacks y_train; it holds x_train"),
        ({"x_test": X}, "lacks y_test; it holds x_train, y_train, x_test"),
        ({"y_test": Y}, "lacks x_test"),
        ({"y_train": Y[:5]}, "mine.npz: x_train holds 6 images but y_train 5 labels"),
        ({"x_test": X, "y_test": Y[:5]}, "x_test holds 6 images but y_test 5 labels"),
        ({"x_test": X[..., 0], "y_test": Y}, "x_test has shape .* but x_train has the layout NHWC"),
        ({"x_test": X[:, :4], "y_test": Y}, r"training images have shape \(C, H, W\) \(3, 8, 10\), the test images"),
        ({"x_train": X.astype(np.int64)}, "x_train must be uint8 .* or float, got int64.*convert with .astype"),
        ({"y_train": Y + 0.5}, "y_train must hold whole class numbers, got 0.5 at index 0"),
        ({"y_train": np.array(list("abcabc"))}, "y_train must hold class numbers .* got dtype <U1"),
        ({"y_train": np.eye(6)}, r"one class number per image.*got \(6, 6\).*argmax"),
        ({"y_train": Y * 0}, "at least two classes"),
        ({"y_train": Y - 1}, "mine.npz, train part: label -1 of sample 0"),
        ({"y_train": Y + 10**9}, "holds the label 1000000002 at index 2, but only 6 samples"),
        ({"x_test": X, "y_test": Y + 2}, r"test part: label 3 of sample 1 is not one of the 3 classes"),
        ({"classes": np.array(["a", "b"])}, "train part: label 2 of sample 2 is not one of the 2 classes"),
        ({"classes": np.array([1, 2, 3])}, "classes must be a vector of names"),
        ({"classes": np.array(["a", None], dtype=object)}, r"Python objects, which are not loaded\. Save [^.]*\.$"),
        ({"x_train": NAN}, "train part: image 4 holds NaN"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "y_train is empty"),
    ],
)
def test_what_does_not_fit_is_refused(save, arrays: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data(save(**arrays))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_train": np.array([0, 1, 2, 0, 1, 2**63], np.uint64)}, "y_train holds 9223372036854775808 at index 5"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 1e300])}, "y_train holds 1e.300 at index 5, which is no class number"),
        ({"x_train": np.zeros((6, 0, 8), np.uint8)}, r"the images of x_train have no pixels, its shape is \(6, 0, 8\)"),
        ({"classes": np.array(["a", "b", "\ud800"])}, "classes holds what is no text"),
        ({"classes": np.array([b"a", b"b", b"\xff"])}, "classes holds what is no text"),
        ({"classes": np.zeros(2**20, "U20")}, "the names of the classes of mine.npz: 83,886,080 bytes needed"),
        ({"x_train": np.zeros(6, [("a", "u1")])}, "array x_train: its values are neither plain numbers nor text"),
    ],
)
def test_values_that_exhaust_or_mislead_are_refused(save, arrays: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data(save(**arrays))


@pytest.mark.parametrize(
    ("x", "advice"),
    [
        (X > 99, r"got bool\. Convert with \.astype\('uint8'\) \* 255\.$"),
        (X.astype(np.int64) % 3, r"got int64\. Its values are 0\.\.2: convert with \.astype"),
        (X.astype(np.uint16) % 3 + 255, r"got uint16\. Its values are 255\.\.257: scale them to 0\.\.255 first, then"),
        ((X % 3).astype(np.int8) - 1, r"got int8\. Its values are -1\.\.1: scale them"),
        (X.astype(np.complex64), r"got complex64\. Save the pixels as numbers of one of these types"),
    ],
)
def test_other_dtypes_are_not_advised_to_wrap(save, x: np.ndarray, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        load_data(save(x_train=x))


def test_labels_up_to_the_number_of_samples_are_read(save) -> None:
    assert load_data(save(y_train=Y + 4)).train.classes == tuple("0123456")
    with pytest.raises(ValueError, match="holds the label 7 at index 2, but only 6 samples"):
        load_data(save(y_train=Y + 5))


def test_labels_count_towards_the_limit(save) -> None:
    x, y = np.zeros((600, 1, 1), np.uint8), np.arange(600) % 2
    assert len(load_data(save(x_train=x, y_train=y), max_bytes=4800).train) == 600
    with pytest.raises(ValueError, match=r"the labels of mine\.npz: 4,800 bytes needed in memory, 4,799 allowed"):
        load_data(save(x_train=x, y_train=y), max_bytes=4799)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_both_memory_orders(save, order: str) -> None:
    x = np.asfortranarray(X.astype(f"{order}f4"))
    train = load_data(save(x_train=x, y_train=Y.astype(f"{order}i4"))).train
    np.testing.assert_array_equal(train.images.permute(0, 2, 3, 1).numpy(), X.astype(np.float32))
    assert train.labels.tolist() == Y.tolist()


def test_damaged_files_are_named(save, tmp_path: Path) -> None:
    path = save()
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"cannot read .*mine\.npz: .*not a zip file.*Copy or download the file again"):
        load_data(path)
    np.save(tmp_path / "array.npy", X)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(ValueError, match=r"cannot read .*array\.npz"):
        load_data(tmp_path / "array.npz")


def test_too_large_is_refused_with_both_numbers(save) -> None:
    x = np.zeros((6, 100, 100, 3), np.uint8)
    assert load_data(save(x_train=x), max_bytes=180_000).train.shape == (3, 100, 100)
    with pytest.raises(ValueError, match=r"mine.npz: 180,000 bytes needed in memory, 179,999 allowed \(max_bytes\)"):
        load_data(save(x_train=x), max_bytes=179_999)
    with pytest.raises(ValueError, match=r"with image_size=1000: 18,000,000 bytes"):
        load_data(save(x_train=x), max_bytes=10**7, image_size=1000)
    with pytest.raises(ValueError, match="1,800,000 bytes needed in memory, 1,000 allowed"):
        load_data(save(x_train=np.zeros((6, 1000, 100, 3), np.uint8)), max_bytes=1000)


def test_half_precision_needs_four_bytes_in_memory(save) -> None:
    path = save(x_train=np.zeros((6, 100, 10, 3), np.float16))
    assert len(load_data(path, max_bytes=72_000).train) == 6
    with pytest.raises(ValueError, match=r"mine.npz: 72,000 bytes needed in memory, 71,999 allowed"):
        load_data(path, max_bytes=71_999)


def test_the_small_cifar10_file(shared_file) -> None:
    source = load_data(shared_file("cifar10-mini.npz"))
    assert (len(source.train), len(source.test), source.train.shape) == (4000, 1000, (3, 32, 32))
    assert source.train.classes[0] == "airplane"
    assert source.augmentation == Augmentation(crop_padding=4, flip=True)
    # Published values of the full set.
    torch.testing.assert_close(source.normalization.mean, (0.4914, 0.4822, 0.4465), rtol=0.02, atol=0)
    torch.testing.assert_close(source.normalization.std, (0.2470, 0.2435, 0.2616), rtol=0.02, atol=0)
