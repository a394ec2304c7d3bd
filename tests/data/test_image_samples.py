"""Tests of ``src/gradnas/data/image_samples.py``: what is streamed, and what happens to files that cannot be read."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gradnas.data import ImageSet, Normalization, StreamedSet, class_balance, load_data
from gradnas.data.image_samples import measured_normalization

RNG = np.random.default_rng(0)
SIDE = 6
DAMAGED = ("train/a/03.png", "train/b/00.png", "test/a/01.png")


@pytest.fixture
def folder(write_images: Callable[..., Path]) -> Path:
    """Ten training images and four test images of each of two classes."""
    names = [f"train/{name}/{i:02}.png" for name in "ab" for i in range(10)]
    names += [f"test/{name}/{i:02}.png" for name in "ab" for i in range(4)]
    return write_images({name: RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for name in names})


def damage(folder: Path, names: tuple[str, ...] = DAMAGED) -> None:
    for name in names:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])


# ------------------------------------------------------------------------------------------------- what is streamed

NEEDED = 28 * 3 * SIDE * SIDE


@pytest.mark.parametrize(
    ("arguments", "streamed"),
    [
        ({}, False),
        ({"image_size": SIDE}, False),
        ({"image_size": SIDE, "max_bytes": NEEDED}, False),
        ({"image_size": SIDE, "max_bytes": NEEDED - 1}, True),
        ({"image_size": SIDE, "max_bytes": NEEDED - 1, "channels": 1}, False),
        ({"image_size": SIDE, "stream": "always"}, True),
        ({"image_size": SIDE, "stream": "never"}, False),
    ],
)
def test_what_fits_is_read_and_what_does_not_is_streamed(folder: Path, arguments: dict, streamed: bool) -> None:
    source = load_data(folder, **arguments)
    assert isinstance(source.train, StreamedSet if streamed else ImageSet)
    assert source.train.streamed is source.test.streamed is streamed


def test_the_files_of_an_archive_count_too(folder: Path, zip_folder) -> None:
    path = zip_folder(folder)
    limit = 28 * 3 * 2 * 2  # the images fit when they are small, their files do not
    assert load_data(path, image_size=2, max_bytes=limit + 2000).train.streamed
    assert not load_data(folder, image_size=2, max_bytes=limit + 2000).train.streamed
    with pytest.raises(ValueError, match=r"the files in .*set.zip: .*Without stream='never' they would be read batch"):
        load_data(path, image_size=2, max_bytes=limit, stream="never")


def test_refusals_say_how_to_stream(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"28 images of 3x6x6: 3,024 bytes.*Pass image_size=: files that then still"):
        load_data(folder, max_bytes=NEEDED - 1)
    with pytest.raises(ValueError, match=r"28 images of 3x6x6: 3,024 bytes.*Without stream='never' they would be read"):
        load_data(folder, max_bytes=NEEDED - 1, image_size=SIDE, stream="never")
    with pytest.raises(ValueError, match=r"set: images that are read batch by batch .* Pass image_size=, or leave"):
        load_data(folder, stream="always")
    with pytest.raises(
        ValueError, match="digits is one array, which lies in memory: stream='always' needs image files"
    ):
        load_data("digits", stream="always")
    np.savez(folder / "x.npz", x_train=np.zeros((4, 2, 2, 3), np.uint8), y_train=[0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"x\.npz is one array, which lies in memory"):
        load_data(folder / "x.npz", stream="always")


def test_a_photograph_larger_than_the_limit_is_refused_when_it_is_wanted(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"the image train/a/00.png of 6x6: 144 bytes needed in memory, 143 allowed"):
        load_data(folder, image_size=2, stream="always", max_bytes=143)


# -------------------------------------------------------------------------------------------------- unreadable files


@pytest.mark.parametrize("stream", ["never", "always"])
def test_unreadable_files_are_an_error_unless_they_are_to_be_skipped(folder: Path, stream: str) -> None:
    whole = load_data(folder, image_size=SIDE)
    damage(folder)
    with pytest.raises(ValueError, match=r"cannot read the image (train/a/03|train/b/00).png: .*Repair"):
        load_data(folder, image_size=SIDE, stream=stream)
    with pytest.warns(UserWarning, match="cannot be read") as caught:
        source = load_data(folder, image_size=SIDE, stream=stream, skip_unreadable=True)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "set: 3 of 28 images cannot be read and are left out (skip_unreadable). cannot read the image " in message
    assert all(name in message for name in DAMAGED)
    assert "…" not in message
    kept = [i for i in range(20) if i not in (3, 10)]
    train = source.train if stream == "never" else source.train.loaded()
    assert torch.equal(train.images, whole.train.images[kept])
    assert torch.equal(train.labels, whole.train.labels[kept])
    assert (len(source.test), source.test.labels.tolist()) == (7, [0] * 3 + [1] * 4)
    assert class_balance(source).counts == {"a": 9, "b": 9}


def test_several_unreadable_files_are_counted_at_once(folder: Path) -> None:
    damage(folder)
    with pytest.raises(
        ValueError, match=r"set: 3 of 28 images cannot be read; data.skip_unreadable leaves them"
    ) as error:
        load_data(folder, image_size=SIDE)
    assert all(name in str(error.value) for name in DAMAGED)


def test_the_warning_names_the_first_of_many(folder: Path) -> None:
    damage(folder, tuple(f"train/a/{i:02}.png" for i in range(8)))
    with pytest.warns(UserWarning, match=r"8 of 28 images cannot be read.*00\.png.*04\.png.*…") as caught:
        load_data(folder, skip_unreadable=True)
    assert "05.png" not in str(caught[0].message)


@pytest.mark.parametrize("stream", ["never", "always"])
@pytest.mark.parametrize("part", ["training", "test"])
def test_nothing_left_is_an_error(folder: Path, stream: str, part: str) -> None:
    folders = ("train",) if part == "training" else ("test",)
    damage(folder, tuple(str(file.relative_to(folder)) for name in folders for file in (folder / name).rglob("*.png")))
    with pytest.raises(ValueError, match=rf"set: none of its {part} images can be read\. cannot read the image"):
        load_data(folder, image_size=SIDE, stream=stream, skip_unreadable=True)


def test_without_unreadable_files_nothing_is_said(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_data(folder, skip_unreadable=True).train) == 20
        assert len(load_data(folder, image_size=SIDE, stream="always", skip_unreadable=True).train) == 20


# ----------------------------------------------------------------------------------------------------- normalization


def test_a_large_streamed_set_is_measured_on_a_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed, here = load_data(folder, image_size=SIDE, stream="always"), load_data(folder)
    assert streamed.normalization == here.normalization
    monkeypatch.setattr("gradnas.data.image_samples._MEASURED", 8)
    part = measured_normalization(streamed.train)
    assert part == measured_normalization(load_data(folder, image_size=SIDE, stream="always").train)
    assert part != here.normalization
    assert part.mean == pytest.approx(here.normalization.mean, abs=0.1)
    assert measured_normalization(here.train) == Normalization.of(here.train)
