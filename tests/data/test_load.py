"""Tests of ``src/gradnas/data/load.py``."""

import subprocess
import sys
from pathlib import Path

import pytest

from gradnas.data import dataset_names, load_data


def test_names_start_with_the_set_that_needs_no_download() -> None:
    names = dataset_names()
    assert names[0] == "digits"
    assert {"cifar10", "cifar100", "mnist", "fashion-mnist", "kmnist", "svhn", "stl10", "flowers102"} < set(names)


def test_unknown_names_get_the_nearest_known_one() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'cifar-10'.*Did you mean 'cifar10'\?.*Known: digits, "):
        load_data("cifar-10")


def test_missing_paths_get_the_nearest_file(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").touch()
    with pytest.raises(FileNotFoundError, match=r"no data set at .*photo\.zip\. Did you mean 'photos\.zip'\?"):
        load_data(tmp_path / "photo.zip")
    with pytest.raises(FileNotFoundError, match=r"The folder .*nowhere does not exist or is empty"):
        load_data(str(tmp_path / "nowhere" / "photo.zip"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").touch()
    with pytest.raises(ValueError, match=r"data\.csv is no known form of a data set. Expected a folder or \.zip"):
        load_data(tmp_path / "data.csv")


@pytest.mark.parametrize(
    ("arguments", "message"), [({"image_size": 0}, "image_size is the side"), ({"max_bytes": 0}, "max_bytes must be")]
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data("digits", **arguments)


def test_a_name_wins_over_a_folder_and_a_path_object_does_not(tmp_path: Path, monkeypatch, write_images) -> None:
    import numpy as np

    write_images({f"train/{i}/1.png": np.zeros((2, 2), np.uint8) for i in range(2)}, folder="digits")
    monkeypatch.chdir(tmp_path)
    assert len(load_data("digits").train) == 1437
    assert len(load_data("./digits").train) == 2
    assert len(load_data(Path("digits")).train) == 2
    assert load_data(Path("digits")).name == "digits"


def test_a_missing_package_names_the_command_that_installs_it(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"'digits' needs the package scikit-learn.*pip install scikit-learn"):
        load_data("digits")


def test_importing_the_package_imports_no_optional_one() -> None:
    code = "import sys, gradnas.data; print([m for m in ('torchvision', 'sklearn', 'PIL') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
