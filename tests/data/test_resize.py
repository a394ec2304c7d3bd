"""Tests of ``src/gradnas/data/resize.py``."""

import numpy as np
import pytest
import torch
from PIL import Image

from gradnas.data.resize import check_image_size, resize_image, resize_tensor


@pytest.mark.parametrize(("height", "width", "size"), [(40, 60, 16), (60, 40, 16), (16, 16, 40), (33, 32, 7)])
def test_tensor_and_pil_forms_agree_with_torchvision(height: int, width: int, size: int) -> None:
    from torchvision.transforms.v2 import functional

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, height, width), generator=generator).to(torch.uint8)
    expected = functional.resize(functional.center_crop(images.double(), min(height, width)), [size, size])
    ours = resize_tensor(images, size)
    assert (ours.shape, ours.dtype) == ((2, 3, size, size), torch.uint8)
    assert float((ours - expected).abs().max()) <= 1.5
    for image, one in zip(images, expected, strict=True):
        resized = resize_image(Image.fromarray(image.permute(1, 2, 0).numpy()), size)
        assert np.abs(np.asarray(resized) - one.permute(1, 2, 0).numpy()).max() <= 1.5


def test_images_of_that_size_stay_the_same_object() -> None:
    images = torch.zeros(1, 3, 8, 8)
    image = Image.new("RGB", (8, 8))
    assert resize_tensor(images, 8) is images
    assert resize_image(image, 8) is image


def test_a_long_and_narrow_image_needs_no_huge_intermediate_result() -> None:
    assert resize_image(Image.new("L", (60_000, 1)), 512).size == (512, 512)
    assert resize_tensor(torch.zeros(1, 1, 1, 60_000), 512).shape == (1, 1, 512, 512)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "8"])
def test_sizes_that_make_no_sense_are_refused(size: object) -> None:
    check_image_size(None)
    with pytest.raises(ValueError, match="image_size is the side in pixels"):
        check_image_size(size)
