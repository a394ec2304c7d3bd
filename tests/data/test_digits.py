"""Tests of ``src/gradnas/data/digits.py``."""

import importlib.machinery
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gradnas.data import Augmentation, load_data


def test_sizes_and_defaults() -> None:
    digits = load_data("digits")
    assert (len(digits.train), len(digits.test), digits.train.shape) == (1437, 360, (1, 8, 8))
    assert digits.train.classes == tuple("0123456789")
    assert digits.train.images.dtype == torch.uint8
    assert int(digits.train.images.max()) == 255
    assert digits.augmentation == Augmentation(crop_padding=1)
    assert min(torch.bincount(digits.test.labels).tolist()) >= 34


def test_train_and_test_are_scikit_learns_images_each_once() -> None:
    from sklearn.datasets import load_digits

    digits = load_data("Digits")
    bunch = load_digits()
    ours = torch.cat([digits.train.images, digits.test.images])[:, 0].flatten(1).numpy()
    labels = torch.cat([digits.train.labels, digits.test.labels]).numpy()
    rows = np.column_stack([np.rint(bunch.data * 255 / 16), bunch.target])
    assert sorted(map(tuple, np.column_stack([ours, labels]))) == sorted(map(tuple, rows))


def test_the_split_is_the_same_every_time() -> None:
    assert torch.equal(load_data("digits").test.images, load_data("digits").test.images)


def test_resized_and_refused_when_too_large() -> None:
    digits = load_data("digits", image_size=16)
    assert digits.test.shape == (1, 16, 16)
    assert digits.augmentation.crop_padding == 2
    with pytest.raises(ValueError, match=r"1797 images of 1x16x16: 460,032 bytes needed in memory, 460,031 allowed"):
        load_data("digits", image_size=16, max_bytes=460_031)


def test_scikit_learn_itself_is_not_imported() -> None:
    code = "import sys, gradnas.data; gradnas.data.load_data('digits'); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_its_file_lies_elsewhere_scikit_learn_reads_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = load_data("digits")
    elsewhere = importlib.machinery.ModuleSpec("sklearn", None, is_package=True)
    elsewhere.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: elsewhere)
    digits = load_data("digits")
    assert torch.equal(digits.train.images, expected.train.images)
    assert torch.equal(digits.test.labels, expected.test.labels)
