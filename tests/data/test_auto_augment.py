"""Tests of ``src/gradnas/data/auto_augment.py``: torchvision's AutoAugment, image by image, is the second answer."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, autoaugment
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy

from gradnas.data import auto_augment as module
from gradnas.data.auto_augment import (
    CIFAR10_POLICY,
    SIGNED,
    auto_augment,
    check_rgb,
    magnitudes_of,
    operations_of,
)

V1 = autoaugment.AutoAugment(AutoAugmentPolicy.CIFAR10)
V2 = AutoAugment(AutoAugmentPolicy.CIFAR10)
OPERATIONS = operations_of(32, 32)[0]


def numbers(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_BHWC(batch: int = 60, height: int = 32, width: int = 32) -> Tensor:
    """Noise of different contrast and brightness by image and channel; every tenth image is of one color."""
    draws = numbers(1)
    contrast, brightness = torch.rand(2, batch, 1, 1, 3, generator=draws)
    contrast[::10] = 0
    noise = torch.randint(0, 256, (batch, height, width, 3), generator=draws)
    return (noise * contrast + 255 * (1 - contrast) * brightness).to(torch.uint8)


def by_torchvision(image_CHW: Tensor, name: str, magnitude: float) -> Tensor:
    # The second release of its interface counts the threshold of solarize in shares of 255.
    share = magnitude / 255 if name == "Solarize" else magnitude
    return V2._apply_image_or_video_transform(image_CHW, name, share, "nearest", V2._fill)


def each_augmented(x_BHWC: Tensor, draws: torch.Generator) -> Tensor:
    """The draws replayed, then image by image what torchvision's AutoAugment does with them."""
    batch, height, width, _ = x_BHWC.shape
    space = V1._augmentation_space(10, (height, width))
    chosen = torch.randint(25, (batch,), generator=draws).tolist()
    uniform = torch.rand((2, batch), generator=draws)
    signs = torch.randint(2, (2, batch), generator=draws)
    out = []
    for b in range(batch):
        image = x_BHWC[b].permute(2, 0, 1).contiguous()
        for stage, (name, probability, level) in enumerate(V1.policies[chosen[b]]):
            if uniform[stage, b] < probability:
                magnitudes, signed = space[name]
                magnitude = 0.0 if level is None else float(magnitudes[level])
                image = by_torchvision(image, name, -magnitude if signed and signs[stage, b] == 0 else magnitude)
        out.append(image.permute(1, 2, 0))
    return torch.stack(out)


# --------------------------------------------------------------------------------------------------------- the policy


def test_the_table_is_that_of_torchvision() -> None:
    assert list(CIFAR10_POLICY) == V1.policies == V2._policies
    assert len(CIFAR10_POLICY) == 25


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
def test_magnitudes_and_signs_are_those_of_torchvision(height: int, width: int) -> None:
    space = V1._augmentation_space(10, (height, width))
    for name, magnitudes in magnitudes_of(height, width).items():
        assert magnitudes.tolist() == space[name][0].tolist()
    used = {step[0] for steps in CIFAR10_POLICY for step in steps}
    assert {name for name in used if space[name][1]} == SIGNED


def test_magnitudes_known_from_the_paper() -> None:
    # Level 9 of 0..9 is the end of the range in the paper's list of operations; translation is 150 of 331 pixels.
    levels = magnitudes_of(331, 662)
    ends = {"ShearY": 0.3, "TranslateY": 150.0, "TranslateX": 300.0, "Rotate": 30.0, "Color": 0.9, "Posterize": 4.0}
    for name, end in ends.items():
        assert float(levels[name][9]) == pytest.approx(end)
    assert (float(levels["Solarize"][0]), float(levels["Solarize"][9])) == (255.0, 0.0)


def test_every_step_has_its_operation_with_both_signs() -> None:
    operations, positions = operations_of(32, 32)
    assert operations[0] == ("Keep", 0.0)
    assert len(set(operations)) == len(operations) == int(positions.max()) + 1
    levels = magnitudes_of(32, 32)
    for row, steps in zip(positions.tolist(), CIFAR10_POLICY, strict=True):
        for (negative, positive), (name, _, level) in zip(row, steps, strict=True):
            magnitude = 0.0 if level is None else float(levels[name][level])
            assert operations[positive] == (name, magnitude)
            assert operations[negative] == (name, -magnitude if name in SIGNED else magnitude)


# ----------------------------------------------------------------------------------------------------- the operations


@pytest.mark.parametrize(("height", "width"), [(32, 32), (9, 14)])
@pytest.mark.parametrize(("name", "magnitude"), OPERATIONS[1:])
def test_operation_on_a_group_equals_torchvision_image_by_image(
    name: str, magnitude: float, height: int, width: int
) -> None:
    x_BCHW = images_BHWC(height=height, width=width).permute(0, 3, 1, 2).contiguous()
    expected = torch.stack([by_torchvision(image, name, magnitude) for image in x_BCHW])
    assert torch.equal(module._apply(x_BCHW, name, magnitude), expected)


@pytest.mark.parametrize(("name", "magnitude"), OPERATIONS[1:])
def test_operation_equals_the_first_release_of_torchvision_to_a_gray_level(name: str, magnitude: float) -> None:
    # Another implementation of the same operations; these three round their products in another order.
    rounding = 1 if name in ("AutoContrast", "Color", "Sharpness") else 0
    x_BCHW = images_BHWC().permute(0, 3, 1, 2).contiguous()
    nearest = InterpolationMode.NEAREST
    expected = torch.stack([autoaugment._apply_op(image, name, magnitude, nearest, None) for image in x_BCHW])
    difference = module._apply(x_BCHW, name, magnitude).int() - expected.int()
    assert int(difference.abs().max()) <= rounding


def test_translation_shifts_to_the_right_and_down_by_hand() -> None:
    x_BHWC = images_BHWC(batch=3, height=6, width=7)
    x_BCHW = x_BHWC.permute(0, 3, 1, 2).contiguous()
    right = module._apply(x_BCHW, "TranslateX", 2.9)
    assert torch.equal(right[..., 2:], x_BCHW[..., :-2])
    assert not right[..., :2].any()
    up = module._apply(x_BCHW, "TranslateY", -3.0)
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
        ("Keep", 0.0): [0, 100, 169, 170, 255],
    }
    for (name, magnitude), row in rows.items():
        assert module._apply(x_BCHW, name, magnitude)[0, 1, 2].tolist() == row


def test_unknown_operation_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="'Blur', which is no operation"):
        module._apply(images_BHWC(batch=1).permute(0, 3, 1, 2), "Blur", 0.0)


# --------------------------------------------------------------------------------------------------------- the batch


@pytest.mark.parametrize(("batch", "height", "width"), [(300, 32, 32), (150, 12, 17), (1, 32, 32)])
@pytest.mark.parametrize("seed", [0, 1])
def test_batch_equals_torchvision_image_by_image(batch: int, height: int, width: int, seed: int) -> None:
    x_BHWC = images_BHWC(batch, height, width)
    expected = each_augmented(x_BHWC, numbers(seed))
    before = x_BHWC.clone()
    actual = auto_augment(x_BHWC, numbers(seed))
    assert torch.equal(actual, expected)
    assert torch.equal(x_BHWC, before)
    assert (actual.shape, actual.dtype, actual.is_contiguous()) == (x_BHWC.shape, torch.uint8, True)


def test_order_of_images_is_kept_and_each_is_changed_once_in_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    # Image i is of color i; the first stage adds 1 and the second, which sees the changed color, another one.
    x_BHWC = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(200, 4, 5, 3)
    monkeypatch.setattr(module, "_apply", lambda x_BCHW, name, magnitude: x_BCHW + 1)
    assert torch.equal(auto_augment(x_BHWC, numbers()), x_BHWC + 2)


def test_frequency_of_sub_policies_steps_and_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[tuple[str, float]] = Counter()
    calls = 0

    def counted(x_BCHW: Tensor, name: str, magnitude: float) -> Tensor:
        nonlocal calls
        calls += 1
        seen[name, magnitude] += len(x_BCHW)
        return x_BCHW

    monkeypatch.setattr(module, "_apply", counted)
    n = 50_000
    auto_augment(torch.zeros(n, 2, 2, 3, dtype=torch.uint8), numbers())
    # Expected from torchvision's table: each step in one image of 25, with its probability, half for each sign.
    share: Counter[tuple[str, float]] = Counter()
    space = V1._augmentation_space(10, (2, 2))
    for steps in V1.policies:
        for name, probability, level in steps:
            magnitude = 0.0 if level is None else float(space[name][0][level])
            for sign in (-1, 1):
                share[name, sign * magnitude if space[name][1] else magnitude] += probability / 25 / 2
    share["Keep", 0.0] = 2 - sum(share.values())
    assert set(seen) == set(share)
    assert calls <= 2 * len(share)  # one call for each group and stage
    for operation, expected in share.items():
        deviation = math.sqrt(n * expected)  # at least that of the sum of two stages
        assert abs(seen[operation] - n * expected) < 4 * deviation, operation


def test_steps_of_probability_zero_and_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x_BHWC = images_BHWC()
    monkeypatch.setattr(module, "CIFAR10_POLICY", ((("Invert", 1.0, None), ("Invert", 0.0, None)),))
    assert torch.equal(auto_augment(x_BHWC, numbers()), 255 - x_BHWC)


def test_same_numbers_same_images_and_global_state_alone() -> None:
    x_BHWC = images_BHWC()
    state = torch.get_rng_state()
    first = auto_augment(x_BHWC, numbers(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(11)
    assert torch.equal(auto_augment(x_BHWC, numbers(3)), first)
    torch.set_rng_state(state)
    assert not torch.equal(auto_augment(x_BHWC, numbers(4)), first)


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, torch.uint8), (4, torch.uint8), (3, torch.float32), (1, torch.float32)]
)
def test_other_images_are_refused(channels: int, dtype: torch.dtype) -> None:
    message = rf"needs RGB images, 3 channels of torch.uint8 .* got {channels} of {dtype}\..* policy='none'"
    with pytest.raises(ValueError, match=message):
        check_rgb(channels, dtype)
    with pytest.raises(ValueError, match=message):
        auto_augment(torch.zeros(2, 4, 4, channels, dtype=dtype), numbers())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_the_accelerator_the_choices_are_those_of_the_cpu() -> None:
    # Products may round to another gray level there, which a second operation widens; other choices differ by far more.
    x_BHWC = images_BHWC()
    actual = auto_augment(x_BHWC.cuda(), numbers()).cpu().int()
    expected = auto_augment(x_BHWC, numbers()).int()
    assert float((actual - expected).abs().float().mean()) < 1
    assert float((auto_augment(x_BHWC, numbers(1)).int() - expected).abs().float().mean()) > 10
