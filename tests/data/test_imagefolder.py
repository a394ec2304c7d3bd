"""Tests of ``src/gradnas/data/imagefolder.py`` and ``decode.py``: the same checks on a folder and on a zip of it."""

import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from gradnas.data import DataSource, load_data

RNG = np.random.default_rng(0)


def color(height: int = 6, width: int = 5) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def gray(height: int = 6, width: int = 5) -> np.ndarray:
    return RNG.integers(0, 256, (height, width), dtype=np.uint8)


SMALL = {
    "train/dog/2.png": color(),
    "train/dog/1.PNG": color(),
    "train/cat/b.bmp": color(),
    "train/cat/deep/a.ppm": color(),
    "test/cat/x.png": color(),
}
# Most of the sets here have test images of one class only; the warning has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*there are no test images of . of . classes:UserWarning")


@pytest.fixture(params=["folder", "zip", "zip with a folder around"])
def load(request, zip_folder):
    """Load a folder as it is or packed."""

    def run(folder: Path, **arguments) -> DataSource:
        if request.param == "folder":
            return load_data(folder, **arguments)
        return load_data(zip_folder(folder, "around/" if "around" in request.param else ""), **arguments)

    return run


def test_pixels_labels_and_classes(load, write_images) -> None:
    source = load(write_images(SMALL))
    expected = [SMALL[f"train/{name}"] for name in ("cat/b.bmp", "cat/deep/a.ppm", "dog/1.PNG", "dog/2.png")]
    np.testing.assert_array_equal(source.train.images.permute(0, 2, 3, 1).numpy(), np.stack(expected))
    assert source.name == "set"
    assert source.train.classes == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(source.test.images[0].permute(1, 2, 0).numpy(), SMALL["test/cat/x.png"])
    assert source.test.labels.tolist() == [0]
    assert source.test.classes == ("cat", "dog")


def test_without_test_images_and_with_files_passed_over(load, write_images) -> None:
    folder = write_images({name: image for name, image in SMALL.items() if name.startswith("train")})
    (folder / "train" / "dog" / "notes.txt").write_text("no image")
    (folder / "train" / "dog" / ".hidden.png").write_bytes(b"no image")
    (folder / "train" / ".cache").mkdir()
    source = load(folder)
    assert source.test is None
    assert len(source.train) == 4


def test_val_takes_the_place_of_a_missing_test(load, write_images) -> None:
    images = {name.replace("test/", "val/"): image for name, image in SMALL.items()}
    source = load(write_images(images))
    np.testing.assert_array_equal(source.test.images[0].permute(1, 2, 0).numpy(), SMALL["test/cat/x.png"])
    source = load(write_images(images | {"test/dog/1.png": SMALL["train/dog/2.png"]}))
    assert source.test.labels.tolist() == [1]
    with pytest.raises(ValueError, match="test has the class 'wolf', which train lacks"):
        load(write_images(images | {"val/wolf/1.png": color()}, "other"))


@pytest.mark.filterwarnings("error:.*there are no test images:UserWarning")
def test_classes_missing_in_the_test_images_are_warned_of(load, write_images) -> None:
    complete = SMALL | {"test/dog/y.png": color()}
    assert len(load(write_images(complete, "complete")).test) == 2
    without = {name: image for name, image in SMALL.items() if name.startswith("train")}
    assert load(write_images(without, "without")).test is None
    many = {f"train/{i:02}/1.png": color() for i in range(14)} | {"test/05/1.png": color()}
    for images, message in (
        (SMALL, r"there are no test images of 1 of 2 classes \(dog\): nothing will be known of the accuracy on these"),
        (many, r"no test images of 13 of 14 classes \(00, 01, 02, 03, 04, 06, 07, 08, 09, 10, …\)"),
    ):
        with pytest.warns(UserWarning, match=message):
            source = load(write_images(images, f"set{len(images)}"))
        assert source.test.n_classes == source.train.n_classes


def test_many_files_keep_their_order(load, write_images) -> None:
    images = {f"train/{name}/{i:03}.png": gray(2, 2) for name in ("a", "b") for i in range(150)}
    train = load(write_images(images)).train
    assert train.shape == (1, 2, 2)
    np.testing.assert_array_equal(train.images[:, 0].numpy(), np.stack(list(images.values())))


def test_gray_among_colors_becomes_three_equal_channels(load, write_images) -> None:
    images = {"train/a/1.png": gray(), "train/a/2.png": gray(), "train/b/1.png": color(), "train/b/2.png": gray()}
    train = load(write_images(images)).train
    for i, image in enumerate(images.values()):
        expected = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
        np.testing.assert_array_equal(train.images[i].permute(1, 2, 0).numpy(), expected)


def test_palettes_with_transparency_and_lossy_formats(load, write_images) -> None:
    from PIL import Image

    folder = write_images({"train/a/1.png": color(16, 16), "train/b/1.png": color(16, 16)})
    smooth = Image.fromarray(np.full((16, 16, 3), (200, 100, 50), np.uint8))
    smooth.save(folder / "train" / "b" / "2.jpg")
    smooth.save(folder / "train" / "b" / "3.webp")
    smooth.quantize(4).save(folder / "train" / "b" / "4.png", transparency=bytes([128, 255]))
    images = load(folder).train.images[2:].float()
    assert images.shape == (3, 3, 16, 16)
    difference = images - torch.tensor([200.0, 100.0, 50.0])[:, None, None]
    assert float(difference.abs().max()) < 6


def test_different_sizes_name_two_files_and_image_size(load, write_images) -> None:
    folder = write_images({"train/a/1.png": color(6, 5), "train/b/7.png": color(8, 5), "test/a/1.png": color(6, 5)})
    with pytest.raises(ValueError, match=r"train/a/1.png is 6x5 pixels.*train/b/7.png is 8x5\. Pass image_size="):
        load(folder)
    source = load(folder, image_size=4)
    assert source.train.shape == source.test.shape == (3, 4, 4)


def test_an_unreadable_image_is_named(load, write_images) -> None:
    folder = write_images(SMALL)
    whole = (folder / "train/dog/2.png").read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (folder / "train/dog/2.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read the image .*train/dog/2\.png: .*Repair .*or remove it"):
            load(folder)


def test_more_than_eight_bits_are_refused(load, write_images) -> None:
    folder = write_images(SMALL | {"train/dog/3.png": gray().astype(np.uint16) * 257})
    with pytest.raises(
        ValueError, match=r"train/dog/3\.png: its mode 'I;16' has more than 8 bits a channel; convert it to 8 bits\.$"
    ):
        load(folder)


@pytest.mark.parametrize("limit", [20, 10])  # 30 pixels: PIL warns above its limit and raises above twice the limit
def test_decompression_bombs_are_refused(load, write_images, monkeypatch, limit: int) -> None:
    from PIL import Image

    folder = write_images(SMALL)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=r"cannot read the image .*decompression bomb"):
        load(folder)


def test_large_files_are_refused(load, write_images, monkeypatch) -> None:
    folder = write_images(SMALL)
    monkeypatch.setattr("gradnas.data.image_listing._LARGEST_FILE_BYTES", 60)
    with pytest.raises(ValueError, match=r"\.(png|bmp|ppm).* bytes, at most 60"):
        load(folder)


def test_too_many_pixels_are_refused_with_both_numbers(load, write_images) -> None:
    folder = write_images({f"train/{i}/1.png": np.zeros((50, 50, 3), np.uint8) for i in range(4)})
    assert len(load(folder, max_bytes=30_000).train) == 4
    with pytest.raises(ValueError, match=r"4 images of 3x50x50: 30,000 bytes needed in memory, 29,999 allowed"):
        load(folder, max_bytes=29_999)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["test/a/1.png"], r"holds no training images. Expected train/CLASS/image.jpg"),
        (["a/1.png", "b/1.png"], r"holds no training images.*found \['a', 'b'\]"),
        (["train/1.png", "train/a/1.png"], "train/1.png lies in no class folder"),
        (
            ["train/a/1.png", "train/b/1.png", "test/c/1.png"],
            "test has the class 'c', which train lacks; train has a, b",
        ),
        (["train/a/1.png"], r"at least two classes.*\['a'\]"),
    ],
)
def test_other_layouts_are_refused(load, write_images, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(write_images({name: color() for name in names}))


def test_an_empty_class_folder_is_refused(load, write_images) -> None:
    folder = write_images(SMALL)
    (folder / "train" / "cow").mkdir()
    with pytest.raises(ValueError, match=r"the class folder train/cow holds no image \(\.png, "):
        load(folder)


def test_a_declared_total_beyond_the_limit_is_refused_before_reading(write_images, zip_folder) -> None:
    path = zip_folder(write_images(SMALL))
    with pytest.raises(ValueError, match=r"the files in .*set\.zip: .* bytes needed in memory, 100 allowed"):
        load_data(path, max_bytes=100)


def test_a_damaged_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=r"cannot read .*set\.zip: File is not a zip file"):
        load_data(tmp_path / "set.zip")


def test_members_that_point_outside_are_never_written(tmp_path: Path, write_images) -> None:
    folder = write_images({"train/a/1.png": color(), "train/b/1.png": color()})
    path = tmp_path / "inner" / "evil.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "train/a/1.png", "../train/a/1.png")
        archive.write(folder / "train/a/1.png", "train/a/1.png")
        archive.write(folder / "train/b/1.png", "train/b/1.png")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"evil\.zip: its member '\.\./train/a/1\.png' points outside the archive"):
        load_data(path)
    assert sorted(tmp_path.rglob("*")) == before


def png_of(width: int, height: int, depth: int = 8, color_type: int = 2, data: bytes = b"") -> bytes:
    """A PNG that declares a size, whatever data it has."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_a_declared_size_is_compared_with_the_limit_before_decoding(load, write_images) -> None:
    folder = write_images(SMALL)
    for name in ("train/cat/b.bmp", "train/dog/2.png"):
        (folder / name).write_bytes(png_of(6000, 5000))
    with pytest.raises(
        ValueError, match=r"train/cat/b.bmp of 6000x5000: 120,000,000 bytes needed in memory, 1,000,000"
    ):
        load(folder, max_bytes=10**6, image_size=4)
    with pytest.raises(ValueError, match="5 images of 3x5000x6000: 450,000,000 bytes needed in memory, 200,000,000"):
        load(folder, max_bytes=2 * 10**8)


def test_sixteen_bits_in_color_are_refused_like_those_in_gray(load, write_images) -> None:
    folder = write_images(SMALL)
    (folder / "train/dog/2.png").write_bytes(png_of(5, 6, depth=16, data=(b"\0" + bytes(30)) * 6))
    with pytest.raises(ValueError, match=r"train/dog/2\.png: its mode 'RGB;16' has more than 8 bits"):
        load(folder)


@pytest.mark.parametrize("header", [b"P6 5 6 65535\n", b"P6 5 6 1000\n", b"P3 5 6 1000\n"])
def test_sixteen_bits_in_a_color_ppm_are_refused(write_images, header: bytes) -> None:
    folder = write_images(SMALL)
    (folder / "train/cat/deep/a.ppm").write_bytes(header + b"1 " * 90)
    with pytest.raises(ValueError, match=r"deep/a\.ppm: its mode 'RGB;16' has more than 8 bits"):
        load_data(folder)


@pytest.mark.parametrize("masks", [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)])
def test_bitmaps_of_sixteen_bits_a_pixel_are_read(write_images, masks: tuple[int, int, int]) -> None:
    folder = write_images({"train/a/1.png": color(2, 2), "train/b/1.png": color(2, 2)})
    head = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0) + struct.pack("<III", *masks)
    pixels = struct.pack("<4H", *[masks[0]] * 4)
    data = struct.pack("<2sIHHI", b"BM", 14 + len(head) + 8, 0, 0, 14 + len(head)) + head + pixels
    (folder / "train/b/2.bmp").write_bytes(data)
    assert load_data(folder).train.images[2].flatten(1).tolist() == [[255] * 4, [0] * 4, [0] * 4]


def test_jfif_is_another_name_of_jpeg(write_images) -> None:
    folder = write_images({f"train/{name}/1.jpg": color() for name in "ab"})
    (folder / "train/a/1.jpg").rename(folder / "train/a/1.JFIF")
    assert len(load_data(folder).train) == 2


def test_files_beside_the_folder_around_are_passed_over(write_images, zip_folder) -> None:
    path = zip_folder(write_images(SMALL), "around/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "no image")
    assert len(load_data(path).train) == 4


def test_a_zip_with_backslashes_is_read(write_images) -> None:
    folder = write_images(SMALL)
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("around\\train\\", b"")
        for name in SMALL:
            archive.write(folder / name, "around\\" + name.replace("/", "\\"))
    source = load_data(path)
    assert (source.train.classes, len(source.train), len(source.test)) == (("cat", "dog"), 4, 1)


def test_no_other_format_is_opened_under_a_known_name(load, write_images) -> None:
    folder = write_images(SMALL)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n%%EndComments\nshowpage\n"
    (folder / "train/dog/2.png").write_bytes(postscript)
    with pytest.raises(
        ValueError, match=r"cannot read the image .*train/dog/2\.png: it is damaged, or none of PNG, JPEG, "
    ):
        load(folder)


def test_of_an_animated_image_the_first_frame_is_taken(load, write_images) -> None:
    from PIL import Image

    folder = write_images(SMALL)
    frames = [Image.fromarray(np.full((6, 5, 3), value, np.uint8)) for value in (10, 200)]
    frames[0].save(folder / "train/cat/b.png", save_all=True, append_images=frames[1:])
    (folder / "train/cat/b.bmp").unlink()
    assert load(folder).train.images[0].unique().tolist() == [10]


def test_modes_of_print_become_rgb(load, write_images) -> None:
    from PIL import Image

    folder = write_images(SMALL)
    Image.new("CMYK", (5, 6), (0, 255, 255, 0)).save(folder / "train/cat/c.jpg")
    red = load(folder).train.images[1].float().mean((1, 2))
    assert red[0] > 200
    assert red[1:].max() < 60


def test_links_of_a_folder_are_followed_but_not_in_circles(write_images) -> None:
    folder = write_images(SMALL)
    (folder / "train/dog/linked.png").symlink_to(folder / "train/dog/2.png")
    (folder / "train/wolf").symlink_to(folder / "train/dog")
    source = load_data(folder)
    assert source.train.classes == ("cat", "dog", "wolf")
    assert len(source.train) == 8
    (folder / "train/dog/back").symlink_to(folder / "train")
    with pytest.raises(ValueError, match=r"train/dog/back is a link to .*train, a folder around it.*Remove the link"):
        load_data(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_refused_without_waiting_for_it(write_images) -> None:
    folder = write_images(SMALL)
    os.mkfifo(folder / "train/dog/3.png")
    with pytest.raises(ValueError, match=r"train/dog/3\.png: it is no ordinary file"):
        load_data(folder)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        link = zipfile.ZipInfo("train/a/1.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"set\.zip: its member 'train/a/1\.png' is a link"):
        load_data(tmp_path / "set.zip")


def test_some_images_of_the_cifar10_zip(shared_file, tmp_path: Path) -> None:
    path = tmp_path / "part.zip"
    with zipfile.ZipFile(shared_file("cifar10.zip")) as whole, zipfile.ZipFile(path, "w") as part:
        names = [name for name in whole.namelist() if name.endswith(".jpg")]
        assert len(names) == 60_000
        for name in names:
            if name.split("/")[2] < "0004":
                part.writestr(name, whole.read(name))
    source = load_data(path)
    assert (source.train.shape, source.train.n_classes) == ((3, 32, 32), 10)
    assert torch.bincount(source.train.labels).tolist() == [4] * 10
    assert torch.bincount(source.test.labels).tolist() == [4] * 10
