"""Tests of ``src/gradnas/data/streamed.py``: the same images in memory are the second answer."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gradnas.data import Augmentation, BatchLoader, DataFacts, DataSource, ImageSet, StreamedSet, load_data
from gradnas.data.streamed import StreamedPixels

N, SIDE = 45, 24


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Training and test images of three classes and of different sizes, JPEG and PNG, one of them gray."""
    draws = np.random.default_rng(0)
    for split, n in (("train", N), ("test", 9)):
        for i in range(n):
            folder = tmp_path / "set" / split / "abc"[i % 3]
            folder.mkdir(parents=True, exist_ok=True)
            height, width = draws.integers(20, 60, 2)
            noise = draws.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            image = Image.fromarray(noise[..., 0] if i == 7 else noise).resize((int(width), int(height)))
            image.save(folder / f"{i:02}.{'jpg' if i % 2 else 'png'}")
    return tmp_path / "set"


def loader_of(images: ImageSet | StreamedSet, source: DataSource, **arguments: object) -> BatchLoader:
    settings = {"batch_size": 10, "shuffle": True, "seed": 3, "purpose": "train"} | arguments
    return BatchLoader(images, normalization=source.normalization, **settings)


def batches(loader: BatchLoader, epochs: int = 2) -> list[tuple[Tensor, Tensor]]:
    return [batch for epoch in range(epochs) for batch in loader.batches(epoch)]


def equal(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(x, a) and torch.equal(y, b) for (x, y), (a, b) in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_batches_are_those_of_the_same_set_in_memory(photographs: Path, zip_folder, packed: bool, channels) -> None:
    path = zip_folder(photographs) if packed else photographs
    here = load_data(path, image_size=SIDE, channels=channels)
    streamed = load_data(path, image_size=SIDE, channels=channels, stream="always", workers=3)
    assert isinstance(here.train, ImageSet)
    assert isinstance(streamed.train, StreamedSet)
    assert streamed.train.streamed
    assert not here.train.streamed
    for question in ("shape", "dtype", "classes", "n_classes"):
        assert getattr(here.train, question) == getattr(streamed.train, question)
    assert (len(streamed.train), len(streamed.test)) == (N, 9)
    assert torch.equal(here.train.labels, streamed.train.labels)
    assert (here.normalization, here.augmentation) == (streamed.normalization, streamed.augmentation)
    policy = "none" if channels == 1 else "trivialaugment"
    augmentation = Augmentation(crop_padding=3, flip=True, cutout=5, policy=policy)
    for arguments in ({"augmentation": augmentation}, {"shuffle": False}, {"drop_last": True}):
        expected = batches(loader_of(here.train, here, **arguments))
        assert equal(batches(loader_of(streamed.train, streamed, **arguments)), expected)
    assert equal(
        batches(loader_of(streamed.test, streamed, shuffle=False)), batches(loader_of(here.test, here, shuffle=False))
    )
    assert DataFacts.of(streamed).bytes_of(2) == 16


def test_a_batch_is_a_function_of_seed_epoch_and_index(photographs: Path) -> None:
    one, four = (load_data(photographs, image_size=SIDE, stream="always", workers=n) for n in (1, 4))
    augmentation = Augmentation(resized_crop=0.2, flip=True)
    expected = batches(loader_of(one.train, one, augmentation=augmentation), 3)
    loader = loader_of(four.train, four, augmentation=augmentation)
    assert loader.sample_numbers(1, 2) == loader_of(one.train, one).sample_numbers(1, 2)
    for place in (9, 3, 4, 0, 9, 14, 8):  # 5 batches an epoch
        assert equal([loader.batch(*divmod(place, 5))], [expected[place]])
    assert equal(list(loader.batches(1, start=2)), expected[7:10])
    assert not equal(batches(loader_of(one.train, one, augmentation=augmentation, seed=4), 3), expected)


def test_random_windows_are_cut_out_of_whole_photographs(photographs: Path) -> None:
    from torchvision.transforms.v2 import functional as T

    from gradnas.foundation.seeds import generator

    source = load_data(photographs, image_size=SIDE, stream="always")
    loader = loader_of(source.train, source, augmentation=Augmentation(resized_crop=0.1))
    x, _ = loader.batch(1, 2)
    draws = torch.rand((10, 10, 4), generator=generator(3, "train.windows", 1, 2), dtype=torch.float64)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (source.normalization.mean, source.normalization.std)
    )
    for place, number in enumerate(loader.sample_numbers(1, 2)):
        with Image.open(photographs / source.train.samples[number].name) as image:
            from gradnas.data.resized_crop import RandomWindows

            windows = RandomWindows(numbers=draws[place : place + 1], smallest_share=0.1)
            top, left, height, width = windows.in_image(image.height, image.width)[0].tolist()
            cropped = T.resized_crop(image.convert("RGB"), top, left, height, width, [SIDE, SIDE])
        expected = (torch.from_numpy(np.array(cropped)).permute(2, 0, 1) / 255 - mean) / std
        assert torch.allclose(x[place], expected, atol=1e-5)


def test_subsets_and_fingerprints(photographs: Path) -> None:
    def print_of(**arguments: object) -> str:
        source = load_data(photographs, stream="always", **({"image_size": SIDE} | arguments))
        return loader_of(source.train, source).fingerprint

    source = load_data(photographs, image_size=SIDE, stream="always")
    chosen = torch.tensor([7, 3, 3])
    part = source.train.subset(chosen)
    assert [sample.name for sample in part.samples] == [source.train.samples[i].name for i in chosen.tolist()]
    assert torch.equal(part.labels, source.train.labels[chosen])
    assert torch.equal(part.loaded().images, load_data(photographs, image_size=SIDE).train.images[chosen])
    with pytest.raises(ValueError, match=r"indices must lie in 0\.\.44, got values from 0 to 45"):
        source.train.subset(torch.tensor([0, 45]))
    fingerprint = print_of()
    assert fingerprint == print_of(workers=5)
    assert fingerprint != print_of(image_size=SIDE + 1)
    assert fingerprint != loader_of(part, source, batch_size=2).fingerprint
    file = photographs / source.train.samples[4].name
    file.write_bytes(file.read_bytes() + b"0")
    assert fingerprint != print_of()


def test_of_an_archive_the_checksums_count(photographs: Path, zip_folder) -> None:
    def print_of() -> str:
        source = load_data(zip_folder(photographs), image_size=SIDE, stream="always")
        return loader_of(source.train, source).fingerprint

    before = print_of()
    assert before == print_of()
    file = next((photographs / "train" / "a").glob("*.png"))
    content, date = bytearray(file.read_bytes()), file.stat().st_mtime_ns
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(date, date))
    assert before != print_of()


def test_what_is_decoded_is_bounded(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = load_data(photographs, image_size=SIDE, stream="always", workers=2)
    held: list[int] = []
    begin = StreamedPixels._begin

    def counted(self: StreamedPixels, wanted: object) -> object:
        held.append(len(self._begun) + 1)
        return begin(self, wanted)

    monkeypatch.setattr(StreamedPixels, "_begin", counted)
    loader = loader_of(source.train, source, batch_size=4)
    batches(loader)
    for place in (5, 2, 7):
        loader.batch(0, place)
    assert max(held) == 2
    assert len(held) <= 2 * 11 + 3 * 2  # nothing is decoded twice


def test_an_image_that_is_damaged_later_is_named(photographs: Path) -> None:
    source = load_data(photographs, image_size=SIDE, stream="always")
    loader = loader_of(source.train, source)
    whole = batches(loader, 1)
    file = photographs / source.train.samples[4].name
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"cannot read the image {source.train.samples[4].name}: .*Repair the file"):
        batches(loader)
    file.write_bytes(content)
    assert equal(batches(loader, 1), whole)
    file.unlink()
    with pytest.raises(ValueError, match=rf"cannot read the image {source.train.samples[4].name}: .*No such file"):
        batches(loader)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = load_data(photographs, image_size=SIDE, stream="always")
    with Image.open(photographs / source.train.samples[0].name) as image:
        pixels = image.width * image.height
    assert source.train.read(0).shape == (SIDE, SIDE, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    assert source.train.read(0).shape == (SIDE, SIDE, 3)
    for limit in (pixels - 1, pixels // 3):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match=r"cannot read the image .*decompression bomb"):
            source.train.read(0)


def test_threads_end_with_the_loader(photographs: Path) -> None:
    source = load_data(photographs, image_size=SIDE, stream="always", workers=3)
    before = set(threading.enumerate())
    loader = loader_of(source.train, source)
    assert set(threading.enumerate()) <= before  # they start with the first batch
    loader.batch(0, 0)
    begun = set(threading.enumerate()) - before
    assert 0 < len(begun) <= 3
    assert all(thread.name.startswith("gradnas-decode") for thread in begun)
    del loader
    for thread in begun:
        thread.join(timeout=5)
        assert not thread.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal")
def test_an_interrupted_process_ends_at_once(photographs: Path) -> None:
    code = f"""
        import itertools, signal, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what a shell runs in the background
        from gradnas.data import BatchLoader, decode, load_data
        source = load_data({str(photographs)!r}, image_size=24, stream="always", workers=2)
        read = decode.ImageFile.open
        decode.ImageFile.open = lambda file: (time.sleep(0.02), read(file))[1]
        loader = BatchLoader(source.train, batch_size=40, normalization=source.normalization, shuffle=True, seed=0,
                             purpose="x")
        print("ready", flush=True)
        for epoch in itertools.count():
            for batch in loader.batches(epoch):
                pass
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors


def test_many_threads_read_one_archive(photographs: Path, zip_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_folder(photographs)
    expected = load_data(photographs, image_size=SIDE, workers=1).train.images
    monkeypatch.setattr("gradnas.data.streamed._IMAGES_PER_TASK", 1)
    source = load_data(path, image_size=SIDE, stream="always", workers=16)
    for _ in range(5):
        assert torch.equal(source.train.loaded().images, expected)


def test_colors_behind_gray_heads_are_seen(tmp_path: Path, write_images: Callable[..., Path]) -> None:
    images = {f"train/{name}/{i:03}.png": np.zeros((4, 4), np.uint8) for name in "ab" for i in range(100)}
    images["train/a/001.png"] = np.zeros((4, 4, 3), np.uint8)  # not among the heads that are looked at
    folder = write_images(images)
    source = load_data(folder, image_size=4, stream="never")
    assert source.train.shape == (3, 4, 4)
    streamed = load_data(folder, image_size=4, stream="always")
    assert isinstance(streamed.train, StreamedSet)
    assert torch.equal(streamed.train.loaded().images, source.train.images)
    assert load_data(folder, image_size=4, stream="always", channels=1).train.shape == (1, 4, 4)
    assert load_data(folder, image_size=4, stream="always", channels=3).train.shape == (3, 4, 4)


def test_a_gray_image_that_has_become_colored_is_named(tmp_path: Path, write_images: Callable[..., Path]) -> None:
    folder = write_images({f"train/{name}/{i}.png": np.zeros((4, 4), np.uint8) for name in "ab" for i in range(2)})
    source = load_data(folder, image_size=4, stream="always")
    Image.new("RGB", (4, 4)).save(folder / "train" / "a" / "1.png")
    assert isinstance(source.train, StreamedSet)
    with pytest.raises(ValueError, match=r"train/a/1.png is colored now, and was gray when the set was made"):
        source.train.loaded()


def test_what_makes_no_streamed_set() -> None:
    from gradnas.data import LoadOptions

    def make(labels: list[int], size: int | None = 4) -> StreamedSet:
        return StreamedSet(
            samples=[None] * len(labels),
            labels=torch.tensor(labels),
            classes=("a", "b"),
            channels=3,
            options=LoadOptions(image_size=size),
        )

    assert make([0, 1]).shape == (3, 4, 4)
    for arguments, message in (
        (([0, 2],), "label 2 of sample 1 is not one of the 2 classes"),
        (([],), "at least one image"),
        (([0, 1], None), "must be brought to one size. Pass image_size="),
    ):
        with pytest.raises(ValueError, match=message):
            make(*arguments)
