"""Tests of ``src/gradnas/data/torchvision_sets.py``, without a network: the sets are made up."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from gradnas.data import Augmentation, Normalization, load_data
from gradnas.data.named_sets import NAMED_SETS
from gradnas.data.torchvision_sets import default_root

X = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
Y = [0, 1, 2, 2, 1, 0]


class Fake:
    """Present under the root; holds arrays like the sets of torchvision."""

    layout = (0, 1, 2, 3)
    present = True
    calls: ClassVar[list[dict]]

    def __init__(self, root: Path, download: bool = False, **part: object) -> None:
        type(self).calls.append({"root": root, "download": download, **part})
        if not self.present:
            raise RuntimeError("Dataset not found or corrupted")
        self.data = X[: 6 if part.get("train", part.get("split") in ("train", "trainval")) else 3]
        self.data = self.data.transpose(self.layout)
        self.targets = self.labels = Y[: len(self.data)]
        self.classes = ["a", "b", "c"]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> object:
        raise AssertionError("the array was there, no sample needs decoding")


def install(monkeypatch, class_name: str, **attributes: object) -> type[Fake]:
    fake = type(class_name, (Fake,), {"calls": [], **attributes})
    monkeypatch.setattr(torchvision.datasets, class_name, fake)
    return fake


def test_every_recipe_names_a_class_and_arguments_it_takes() -> None:
    import inspect

    for recipe in (known for known in NAMED_SETS.values() if known.origin == "torchvision"):
        parameters = inspect.signature(getattr(torchvision.datasets, recipe.class_name).__init__).parameters
        assert {"root", "download"} <= set(parameters)
        for part in recipe.parts:
            assert set(part) <= set(parameters)


def test_cifar10_is_taken_from_its_array(monkeypatch, tmp_path: Path) -> None:
    fake = install(monkeypatch, "CIFAR10")
    source = load_data("CIFAR10", root=tmp_path)
    assert torch.equal(source.train.images, torch.from_numpy(X).permute(0, 3, 1, 2))
    assert source.train.labels.tolist() == Y
    assert (len(source.test), source.name, source.test.classes) == (3, "cifar10", ("a", "b", "c"))
    assert source.augmentation == Augmentation(crop_padding=4, flip=True)
    assert [(call["root"], call["download"], call["train"]) for call in fake.calls] == [
        (tmp_path, False, True),
        (tmp_path, False, False),
    ]


def test_svhn_has_channels_first_and_labels(monkeypatch) -> None:
    install(monkeypatch, "SVHN", layout=(0, 3, 1, 2))
    source = load_data("svhn")
    assert torch.equal(source.train.images, torch.from_numpy(X).permute(0, 3, 1, 2))
    assert source.augmentation == Augmentation(crop_padding=2)


def test_mnist_is_a_tensor_without_channels(monkeypatch) -> None:
    class Mnist(Fake):
        calls: ClassVar[list[dict]] = []

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self.data = torch.from_numpy(self.data[:, :28, :28, 0].copy())
            self.targets = torch.tensor(self.targets)

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", Mnist)
    source = load_data("fashion_mnist")
    assert source.train.shape == (1, 28, 28)
    assert source.augmentation == Augmentation(crop_padding=2)
    assert load_data("fashion-mnist", image_size=14).train.shape == (1, 14, 14)


def test_photographs_of_different_sizes_are_brought_to_one(monkeypatch) -> None:
    class Photographs(Fake):
        calls: ClassVar[list[dict]] = []

        def __getitem__(self, index: int) -> object:
            return Image.new("RGB", (20 + index, 30)), Y[index]

    monkeypatch.setattr(torchvision.datasets, "Flowers102", Photographs)
    assert load_data("flowers102").train.shape == (3, 224, 224)
    source = load_data("flowers102", image_size=16)
    assert source.train.shape == source.test.shape == (3, 16, 16)
    assert source.augmentation == Augmentation(crop_padding=2, flip=True)


def test_absent_and_not_to_be_downloaded(monkeypatch, tmp_path: Path) -> None:
    install(monkeypatch, "CIFAR10", present=False)
    with pytest.raises(FileNotFoundError, match=r"CIFAR10\(root=.*train=True\) failed.*download=True.*root=.*\.npz"):
        load_data("cifar10", root=tmp_path, download=False)


def test_a_failing_download_says_what_was_tried(monkeypatch, tmp_path: Path) -> None:
    fake = install(monkeypatch, "CIFAR10", present=False)
    with pytest.raises(ConnectionError, match=r"could not be downloaded.*CIFAR10\(root=.*not found.*train/CLASS/"):
        load_data("cifar10", root=tmp_path / "new")
    assert [call["download"] for call in fake.calls] == [False, True]


def test_train_and_test_share_the_limit(monkeypatch) -> None:
    install(monkeypatch, "CIFAR10")
    assert len(load_data("cifar10", max_bytes=9 * 3072).train) == 6
    with pytest.raises(ValueError, match="3 images of 3x32x32: 9,216 bytes needed in memory, 9,215 allowed"):
        load_data("cifar10", max_bytes=9 * 3072 - 1)


def test_default_root_is_in_the_cache_folder(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "gradnas" / "datasets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_root() == Path.home() / ".cache" / "gradnas" / "datasets"


class Photographs(Fake):
    """Files of different sizes with labels under a private name, like those of torchvision."""

    calls: ClassVar[list[dict]] = []
    read: ClassVar[list[int]] = []

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._labels = list(self.targets)
        self._samples = [(f"{i}.png", label) for i, label in enumerate(self.targets)]

    def __getitem__(self, index: int) -> object:
        type(self).read.append(index)
        return Image.fromarray(X[index]).resize((20 + index, 30)), Y[index]


@pytest.mark.parametrize(("name", "class_name"), [("flowers102", "Flowers102"), ("gtsrb", "GTSRB")])
def test_photographs_are_streamed_where_they_do_not_fit(monkeypatch, name: str, class_name: str) -> None:
    monkeypatch.setattr(torchvision.datasets, class_name, Photographs)
    here = load_data(name, image_size=16)
    Photographs.read.clear()
    streamed = load_data(name, image_size=16, max_bytes=9 * 3 * 16 * 16 - 1)
    assert (here.train.streamed, streamed.train.streamed, streamed.test.streamed) == (False, True, True)
    assert len(Photographs.read) <= 9 + 6  # the labels need no reading: the heads and the normalization do
    assert torch.equal(streamed.train.loaded().images, here.train.images)
    assert torch.equal(streamed.test.labels, here.test.labels)
    assert streamed.normalization == here.normalization
    assert streamed.train.classes == ("a", "b", "c")


def test_labels_under_another_name_are_read_from_the_samples(monkeypatch) -> None:
    class Renamed(Photographs):
        calls: ClassVar[list[dict]] = []

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            del self._labels

    monkeypatch.setattr(torchvision.datasets, "Flowers102", Renamed)
    assert load_data("flowers102", image_size=8).train.labels.tolist() == Y


def test_published_constants_where_there_are_any(monkeypatch) -> None:
    install(monkeypatch, "CIFAR10")
    published = NAMED_SETS["cifar10"].normalization
    assert load_data("cifar10").normalization == published
    assert load_data("cifar10", image_size=16).normalization == published
    gray = load_data("cifar10", channels=1)
    assert gray.train.shape == (1, 32, 32)
    assert gray.normalization == Normalization.of(gray.train)
    install(monkeypatch, "STL10", layout=(0, 3, 1, 2))
    stl = load_data("stl10")
    assert stl.normalization == Normalization.of(stl.train)


def test_stanford_cars_cannot_be_downloaded_and_what_to_do_is_said(monkeypatch, tmp_path: Path) -> None:
    fake = install(monkeypatch, "StanfordCars", present=False)
    with pytest.raises(
        FileNotFoundError, match=r"'stanford-cars' is not in .*cannot download it any more: .*root=.*zip"
    ):
        load_data("stanford_cars", root=tmp_path)
    assert [call["download"] for call in fake.calls] == [False]


def test_imagenet_is_a_folder_with_train_and_val(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'imagenet' is not in .*register.*train/CLASS/.*val/CLASS/.*root="):
        load_data("imagenet", root=tmp_path)
    for split in ("train", "val"):
        for name in ("n01", "n02"):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(X[0]).resize((50, 40)).save(folder / "1.JPEG")
    for root in (tmp_path, tmp_path / "imagenet"):
        source = load_data("imagenet", root=root, stream="always")
        assert (source.name, source.train.shape, len(source.test)) == ("imagenet", (3, 224, 224), 2)
        assert source.normalization == NAMED_SETS["imagenet"].normalization
        assert source.augmentation == Augmentation(resized_crop=0.08, flip=True)
    assert load_data("imagenet", root=tmp_path, image_size=8).train.shape == (3, 8, 8)
