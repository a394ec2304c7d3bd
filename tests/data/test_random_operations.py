"""Tests of ``src/gradnas/data/random_operations.py``: torchvision's own transforms are the second answer."""

from collections import Counter

import pytest
import torch
from scipy.stats import chisquare
from tests.data.test_image_operations import by_torchvision, images_BHWC
from torch import Tensor
from torchvision.transforms.v2 import RandAugment, TrivialAugmentWide

from gradnas.data import random_operations as module
from gradnas.data.image_operations import NAMES
from gradnas.data.policies import POLICIES, apply_policy
from gradnas.data.random_operations import DRAWN, rand_augment, trivial_augment

RAND, TRIVIAL = RandAugment(), TrivialAugmentWide()


def numbers(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def replayed(transform: object, x_BHWC: Tensor, draws: torch.Generator) -> Tensor:
    """The draws replayed, then image by image what torchvision does with these operations and its own levels."""
    batch, height, width, _ = x_BHWC.shape
    stages, wide = (2, False) if transform is RAND else (1, True)
    kinds = torch.randint(14, (stages, batch), generator=draws)
    levels = torch.randint(31, (stages, batch), generator=draws) if wide else torch.full((stages, batch), 9)
    signs = torch.randint(2, (stages, batch), generator=draws)
    out = []
    for b in range(batch):
        image = x_BHWC[b].permute(2, 0, 1).contiguous()
        for stage in range(stages):
            name, (make, signed) = list(transform._AUGMENTATION_SPACE.items())[kinds[stage, b]]
            table = make(31, height, width)
            magnitude = 0.0 if table is None else float(table[levels[stage, b]])
            magnitude *= 255 if name == "Solarize" else -1 if signed and signs[stage, b] == 0 else 1
            image = by_torchvision(image, name, magnitude)
        out.append(image.permute(1, 2, 0))
    return torch.stack(out)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (12, 18)])
@pytest.mark.parametrize(("augment", "transform"), [(rand_augment, RAND), (trivial_augment, TRIVIAL)])
def test_batch_equals_torchvision_image_by_image(augment, transform, height: int, width: int) -> None:
    x_BHWC = images_BHWC(200, height, width)
    before = x_BHWC.clone()
    actual, expected = augment(x_BHWC, numbers(3)), replayed(transform, x_BHWC, numbers(3))
    # At most a position of float32 that falls to the other of two neighbors, or a threshold of solarize on a level.
    assert float((actual != expected).float().mean()) < 0.001
    assert torch.equal(x_BHWC, before)
    assert (actual.shape, actual.dtype, actual.is_contiguous()) == (x_BHWC.shape, torch.uint8, True)


def choices_of(augment, monkeypatch: pytest.MonkeyPatch, n: int) -> tuple[Tensor, Tensor]:
    """Operations and magnitudes ``(S, n)`` of n images."""
    seen = []
    monkeypatch.setattr(module, "apply_stages", lambda images, *choices: seen.append(choices) or images)
    augment(torch.zeros(n, 32, 32, 3, dtype=torch.uint8), numbers(1))
    return seen[0]


def test_rand_augment_draws_two_operations_evenly_at_level_nine(monkeypatch: pytest.MonkeyPatch) -> None:
    operation_SB, magnitude_SB = choices_of(rand_augment, monkeypatch, 20_000)
    assert operation_SB.shape == (2, 20_000)
    pairs = operation_SB[0] * len(NAMES) + operation_SB[1]
    drawn = torch.unique(pairs, return_counts=True)[1]
    assert len(drawn) == 14 * 14
    assert chisquare(drawn.numpy()).pvalue > 0.01
    for position, name in enumerate(NAMES[:-1]):
        table = RAND._AUGMENTATION_SPACE[name][0](31, 32, 32)
        level = 0.0 if table is None else float(table[9]) * (255 if name == "Solarize" else 1)
        signs = (-1, 1) if RAND._AUGMENTATION_SPACE[name][1] else (1,)
        found = Counter(magnitude_SB[operation_SB == position].tolist())
        assert sorted(found) == pytest.approx(sorted(sign * level for sign in signs))
        assert len(found) == 1 or chisquare(list(found.values())).pvalue > 0.001


def test_trivial_augment_draws_one_operation_and_its_level_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    operation_SB, magnitude_SB = choices_of(trivial_augment, monkeypatch, 60_000)
    assert operation_SB.shape == (1, 60_000)
    counts = torch.bincount(operation_SB[0], minlength=len(NAMES))
    assert int(counts[NAMES.index("Invert")]) == 0
    assert chisquare(counts[:14].numpy()).pvalue > 0.01
    rotations = magnitude_SB[operation_SB == NAMES.index("Rotate")]
    levels = (rotations.abs() / 135 * 30).round().long()
    assert torch.allclose(levels * 4.5, rotations.abs().float(), atol=1e-4)
    assert chisquare(torch.bincount(levels, minlength=31).numpy()).pvalue > 0.01
    assert chisquare([int((rotations > 0).sum()), int((rotations < 0).sum())]).pvalue > 0.01
    # Each kind on its own: the levels are independent of the operation.
    shifts = magnitude_SB[operation_SB == NAMES.index("TranslateX")].abs()
    assert float(shifts.max()) == 32.0


def test_the_operations_are_those_of_torchvision() -> None:
    assert DRAWN == tuple(RAND._AUGMENTATION_SPACE) == tuple(TRIVIAL._AUGMENTATION_SPACE)


@pytest.mark.parametrize("policy", POLICIES[1:])
def test_same_numbers_same_images_and_global_state_alone(policy: str) -> None:
    x_BHWC = images_BHWC()
    state = torch.get_rng_state()
    first = apply_policy(policy, x_BHWC, numbers(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(apply_policy(policy, x_BHWC, numbers(3)), first)
    assert not torch.equal(apply_policy(policy, x_BHWC, numbers(4)), first)
    assert not torch.equal(first, x_BHWC)
    with pytest.raises(ValueError, match=f"policy='{policy}' needs RGB images"):
        apply_policy(policy, x_BHWC[..., :1], numbers())
