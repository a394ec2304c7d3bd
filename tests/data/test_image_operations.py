"""Tests of ``src/gradnas/data/image_operations.py``: torchvision's operations, image by image, are the other answer."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, autoaugment
from torchvision.transforms.v2 import AutoAugment, RandAugment, TrivialAugmentWide

from gradnas.data import image_operations as module
from gradnas.data.image_operations import NAMES, OPERATIONS, SIGNED, apply_stages, check_rgb, levels_of
from gradnas.data.random_operations import wide_levels

V2 = AutoAugment()
# Positions that fall between two pixels but for the rounding of float32: torchvision takes the other neighbor.
TIES = {("Rotate", 9): 0.005}


def images_BHWC(batch: int = 62, height: int = 32, width: int = 32) -> Tensor:
    """Noise of different contrast and brightness by image and channel; every tenth image is of one color."""
    draws = torch.Generator().manual_seed(1)
    contrast, brightness = torch.rand(2, batch, 1, 1, 3, generator=draws)
    contrast[::10] = 0
    noise = torch.randint(0, 256, (batch, height, width, 3), generator=draws)
    return (noise * contrast + 255 * (1 - contrast) * brightness).to(torch.uint8)


def images_BCHW(batch: int = 62, height: int = 32, width: int = 32) -> Tensor:
    return images_BHWC(batch, height, width).permute(0, 3, 1, 2).contiguous()


def by_torchvision(image_CHW: Tensor, name: str, magnitude: float) -> Tensor:
    # The second release of its interface counts the threshold of solarize in shares of 255.
    share = magnitude / 255 if name == "Solarize" else magnitude
    return V2._apply_image_or_video_transform(image_CHW, name, share, "nearest", V2._fill)


def magnitudes(name: str, height: int, width: int) -> Tensor:
    """All levels of the wide space with both signs, one for each of 62 images."""
    levels = wide_levels(height, width)
    positive = levels[name].double() if name in levels else torch.zeros(31, dtype=torch.float64)
    return torch.cat((positive, -positive if name in SIGNED else positive))


# -------------------------------------------------------------------------------------------------------- magnitudes


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
def test_levels_and_signs_are_those_of_torchvision(height: int, width: int) -> None:
    for transform, levels in (
        (AutoAugment(), levels_of(10, height, width)),
        (RandAugment(), levels_of(31, height, width)),
        (TrivialAugmentWide(), wide_levels(height, width)),
    ):
        n_levels = 10 if isinstance(transform, AutoAugment) else 31
        for name, (make, signed) in transform._AUGMENTATION_SPACE.items():
            expected = make(n_levels, height, width)
            assert (name in SIGNED) == signed
            if expected is None:
                assert name not in levels
            elif name == "Solarize":
                assert torch.allclose(levels[name], 255 * expected)
            else:
                assert levels[name].tolist() == expected.tolist()


def test_magnitudes_known_from_the_paper() -> None:
    # Level 9 of 0..9 is the end of the range in the paper's list of operations; translation is 150 of 331 pixels.
    levels = levels_of(10, 331, 662)
    ends = {"ShearY": 0.3, "TranslateY": 150.0, "TranslateX": 300.0, "Rotate": 30.0, "Color": 0.9, "Posterize": 4.0}
    for name, end in ends.items():
        assert float(levels[name][9]) == pytest.approx(end)
    assert (float(levels["Solarize"][0]), float(levels["Solarize"][9])) == (255.0, 0.0)


# ----------------------------------------------------------------------------------------------------- the operations


@pytest.mark.parametrize(("height", "width"), [(32, 32), (9, 14)])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_magnitudes_equals_torchvision_image_by_image(name: str, height: int, width: int) -> None:
    x_BCHW, magnitude_B = images_BCHW(height=height, width=width), magnitudes(name, height, width)
    expected = torch.stack(
        [by_torchvision(x, name, magnitude) for x, magnitude in zip(x_BCHW, magnitude_B.tolist(), strict=True)]
    )
    differ = (OPERATIONS[name](x_BCHW, magnitude_B) != expected).any(dim=1)
    assert float(differ.float().mean()) <= TIES.get((name, height), 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_operation_equals_the_first_release_of_torchvision_to_a_gray_level(name: str) -> None:
    # Another implementation of the same operations; these three round their products in another order.
    rounding = 1 if name in ("AutoContrast", "Color", "Sharpness") else 0
    x_BCHW, magnitude_B = images_BCHW(), magnitudes(name, 32, 32)
    nearest = InterpolationMode.NEAREST
    for x, magnitude in zip(x_BCHW[::7], magnitude_B[::7], strict=True):
        expected = autoaugment._apply_op(x, name, float(magnitude), nearest, None)
        actual = OPERATIONS[name](x[None], magnitude[None])[0]
        assert int((actual.int() - expected.int()).abs().max()) <= rounding


def test_translation_shifts_to_the_right_and_down_by_hand() -> None:
    x_BCHW = images_BCHW(batch=3, height=6, width=7)
    right = OPERATIONS["TranslateX"](x_BCHW, torch.tensor([2.9, 0.0, -2.0], dtype=torch.float64))
    assert torch.equal(right[0, ..., 2:], x_BCHW[0, ..., :-2])
    assert not right[0, ..., :2].any()
    assert torch.equal(right[1], x_BCHW[1])
    assert torch.equal(right[2, ..., :-2], x_BCHW[2, ..., 2:])
    up = OPERATIONS["TranslateY"](x_BCHW, torch.full((3,), -3.0, dtype=torch.float64))
    assert torch.equal(up[:, :, :-3], x_BCHW[:, :, 3:])
    assert not up[:, :, -3:].any()


def test_values_by_hand() -> None:
    x_BCHW = torch.tensor([0, 100, 169, 170, 255], dtype=torch.uint8).repeat(1, 3, 5, 1)
    rows = {
        ("Invert", 0.0): [255, 155, 86, 85, 0],
        ("Solarize", 170.0): [0, 100, 169, 85, 0],
        ("Posterize", 4.0): [0, 96, 160, 160, 240],
        ("Brightness", 0.5): [0, 150, 253, 255, 255],
        ("AutoContrast", 0.0): [0, 100, 169, 170, 255],
        ("Identity", 0.0): [0, 100, 169, 170, 255],
    }
    for (name, magnitude), row in rows.items():
        changed = OPERATIONS[name](x_BCHW, torch.tensor([magnitude], dtype=torch.float64))
        assert changed[0, 1, 2].tolist() == row


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, torch.uint8), (4, torch.uint8), (3, torch.float32), (1, torch.float32)]
)
def test_other_images_are_refused(channels: int, dtype: torch.dtype) -> None:
    message = (
        rf"policy='x' needs RGB images, 3 channels of torch.uint8 .* got {channels} of {dtype}\..*channels=3 .*'none'"
    )
    with pytest.raises(ValueError, match=message):
        check_rgb("x", channels, dtype)
    check_rgb("x", 3, torch.uint8)


# --------------------------------------------------------------------------------------------------------- the batch


def test_stages_follow_each_other_and_keep_the_order_of_images() -> None:
    x_BHWC = images_BHWC(batch=40, height=8, width=8)
    before = x_BHWC.clone()
    draws = torch.Generator().manual_seed(2)
    operation_SB = torch.randint(len(NAMES), (3, 40), generator=draws)
    magnitude_SB = torch.rand((3, 40), generator=draws, dtype=torch.float64)
    expected = []
    for b in range(40):
        x_BCHW = x_BHWC[b : b + 1].permute(0, 3, 1, 2).contiguous()
        for stage in range(3):
            x_BCHW = OPERATIONS[NAMES[operation_SB[stage, b]]](x_BCHW, magnitude_SB[stage, b : b + 1])
        expected.append(x_BCHW[0].permute(1, 2, 0))
    actual = apply_stages(x_BHWC, operation_SB, magnitude_SB)
    assert torch.equal(actual, torch.stack(expected))
    assert torch.equal(x_BHWC, before)
    assert (actual.dtype, actual.is_contiguous()) == (torch.uint8, True)


def test_one_call_for_each_operation_and_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    counted = {name: lambda x, m, name=name: calls.append((name, len(x), len(m))) or x for name in NAMES}
    monkeypatch.setattr(module, "OPERATIONS", counted)
    operation_SB = torch.arange(200).remainder(len(NAMES)).repeat(2, 1)
    apply_stages(torch.zeros(200, 2, 2, 3, dtype=torch.uint8), operation_SB, torch.rand(2, 200).double())
    assert len(calls) == 2 * len(NAMES)
    assert sum(n for _, n, _ in calls) == 400
    assert all(n == of_magnitudes for _, n, of_magnitudes in calls)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("name", NAMES)
def test_on_the_accelerator_to_a_gray_level(name: str) -> None:
    x_BCHW, magnitude_B = images_BCHW(), magnitudes(name, 32, 32)
    actual = OPERATIONS[name](x_BCHW.cuda(), magnitude_B.cuda()).cpu().int()
    assert float(((actual - OPERATIONS[name](x_BCHW, magnitude_B).int()).abs() > 1).float().mean()) < 0.001
