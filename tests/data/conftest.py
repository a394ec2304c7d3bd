"""Images made from a seed, and files made from images."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gradnas.data import ImageSet


@pytest.fixture
def make_set() -> Callable[..., ImageSet]:
    """Random images with labels ``i % n_classes``."""

    def make(
        n: int = 12, channels: int = 3, height: int = 6, width: int = 6, n_classes: int = 3, dtype: str = "uint8"
    ) -> ImageSet:
        generator = torch.Generator().manual_seed(n)
        images = torch.randint(0, 256, (n, channels, height, width), generator=generator).to(torch.uint8)
        return ImageSet(
            images=images if dtype == "uint8" else images.float() / 100 - 1,
            labels=torch.arange(n) % n_classes,
            classes=tuple(f"class{i}" for i in range(n_classes)),
        )

    return make


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Write ``{"train/cat/1.png": array}`` to a folder; lossless, gray for 2 dimensions and RGB for 3."""
    from PIL import Image

    def write(images: dict[str, np.ndarray], folder: str = "set") -> Path:
        for name, array in images.items():
            target = tmp_path / folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(target)
        return tmp_path / folder

    return write


@pytest.fixture
def zip_folder() -> Callable[..., Path]:
    """Pack a folder into a zip beside it, below an optional top-level folder."""

    def pack(folder: Path, top: str = "") -> Path:
        target = folder.with_suffix(".zip")
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, top + str(file.relative_to(folder)))
        return target

    return pack


@pytest.fixture
def shared_file() -> Callable[[str], Path]:
    """A file handed to the developers beside the checkout; skips where it is absent."""

    def find(name: str) -> Path:
        path = Path(__file__).parents[2].parent / "shared" / "data" / name
        if not path.exists():
            pytest.skip(f"{name} lies outside the repository and is not on this machine")
        return path

    return find
