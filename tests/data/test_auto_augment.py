"""Tests of ``src/gradnas/data/auto_augment.py``: torchvision's AutoAugment, image by image, is the second answer."""

import math
from collections import Counter

import pytest
import torch
from tests.data.test_image_operations import by_torchvision, images_BHWC
from torch import Tensor
from torchvision.transforms import autoaugment
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy

from gradnas.data import auto_augment as module
from gradnas.data.auto_augment import CIFAR10_POLICY, auto_augment
from gradnas.data.image_operations import NAMES

V1 = autoaugment.AutoAugment(AutoAugmentPolicy.CIFAR10)
V2 = AutoAugment(AutoAugmentPolicy.CIFAR10)


def numbers(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def test_the_table_is_that_of_torchvision() -> None:
    assert list(CIFAR10_POLICY) == V1.policies == V2._policies
    assert len(CIFAR10_POLICY) == 25


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


def test_frequency_of_sub_policies_steps_and_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[tuple[str, float]] = Counter()

    def counted(images: Tensor, operation_SB: Tensor, magnitude_SB: Tensor) -> Tensor:
        for operation, magnitude in zip(operation_SB.flatten().tolist(), magnitude_SB.flatten().tolist(), strict=True):
            seen[NAMES[operation], magnitude if operation else 0.0] += 1
        return images

    monkeypatch.setattr(module, "apply_stages", counted)
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
    share["Identity", 0.0] = 2 - sum(share.values())
    assert set(seen) == {operation for operation, expected in share.items() if expected > 0}
    for operation, expected in share.items():
        deviation = math.sqrt(n * expected)  # at least that of the sum of two stages
        assert abs(seen[operation] - n * expected) <= 4 * deviation, operation


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_the_accelerator_the_choices_are_those_of_the_cpu() -> None:
    # Products may round to another gray level there, which a second operation widens; other choices differ by far more.
    x_BHWC = images_BHWC()
    actual = auto_augment(x_BHWC.cuda(), numbers()).cpu().int()
    expected = auto_augment(x_BHWC, numbers()).int()
    assert float((actual - expected).abs().float().mean()) < 1
    assert float((auto_augment(x_BHWC, numbers(1)).int() - expected).abs().float().mean()) > 10
