"""RandAugment and TrivialAugment for a whole batch at once: operations drawn evenly, without a learnt policy.

Sources: Cubuk et al., RandAugment: Practical Automated Data Augmentation with a Reduced Search Space (2020): two
operations of one magnitude, level 9 of 0..30; Müller and Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data
Augmentation (ICCV 2021), in its wide space: one operation of an evenly drawn level. Operations, ranges and levels are
those of ``torchvision.transforms.v2.RandAugment`` and ``TrivialAugmentWide`` with their defaults, see
:mod:`gradnas.data.image_operations`.
Deviations: a level and a sign are drawn for every operation, also for one that has none.
Reference tests: ``tests/data/test_random_operations.py``, torchvision's own objects image by image.
Shape suffixes: B batch, H height, W width, C channels, S operations that follow each other, K kinds of them, L levels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .image_operations import NAMES, SIGNED, apply_stages, levels_of

DRAWN = tuple(name for name in NAMES if name != "Invert")
_LEVELS = 31
_RAND_AUGMENT_STAGES = 2
_RAND_AUGMENT_LEVEL = 9


def rand_augment(images_BHWC: Tensor, generator: torch.Generator) -> Tensor:
    """Do two random operations to each image, at level 9 of 0..30.

    Args:
        images_BHWC: RGB images before normalization, at least one, uint8, on any device.
        generator: On the CPU, so that every device gets the same choices. Draws operations ``(S, B)``, then signs
            ``(S, B)``.

    Returns:
        New images of the same shape, dtype and order.
    """
    batch, height, width, _ = images_BHWC.shape
    shape = (_RAND_AUGMENT_STAGES, batch)
    kind_SB = torch.randint(len(DRAWN), shape, generator=generator)
    sign_SB = torch.randint(2, shape, generator=generator)
    magnitudes = _magnitudes(levels_of(_LEVELS, height, width))
    return apply_stages(images_BHWC, _positions(kind_SB), magnitudes[kind_SB, _RAND_AUGMENT_LEVEL, sign_SB])


def trivial_augment(images_BHWC: Tensor, generator: torch.Generator) -> Tensor:
    """Do one random operation to each image, at a random level of the wide space.

    Args:
        images_BHWC: RGB images before normalization, at least one, uint8, on any device.
        generator: On the CPU, so that every device gets the same choices. Draws operations, levels and signs, each
            of shape ``(1, B)``.

    Returns:
        New images of the same shape, dtype and order.
    """
    batch, height, width, _ = images_BHWC.shape
    kind_SB = torch.randint(len(DRAWN), (1, batch), generator=generator)
    level_SB = torch.randint(_LEVELS, (1, batch), generator=generator)
    sign_SB = torch.randint(2, (1, batch), generator=generator)
    return apply_stages(
        images_BHWC, _positions(kind_SB), _magnitudes(wide_levels(height, width))[kind_SB, level_SB, sign_SB]
    )


def wide_levels(height: int, width: int) -> Mapping[str, Tensor]:
    """Magnitudes of TrivialAugment's levels by operation; translation is in pixels whatever the size of an image."""
    return levels_of(_LEVELS, height, width, factor=0.99, slope=0.99, shift=(32.0, 32.0), degrees=135.0, lost_bits=6)


def _positions(kind_SB: Tensor) -> Tensor:
    """Kinds as positions in ``NAMES``."""
    return torch.tensor([NAMES.index(name) for name in DRAWN])[kind_SB]


def _magnitudes(levels: Mapping[str, Tensor]) -> Tensor:
    """Magnitude of each kind, level and sign (0 negative, 1 positive), float64 of shape ``(K, L, 2)``."""
    without = torch.zeros(_LEVELS)
    positive_KL = torch.stack([levels.get(name, without) for name in DRAWN]).double()
    signs_K1 = torch.tensor([-1.0 if name in SIGNED else 1.0 for name in DRAWN], dtype=torch.float64)[:, None]
    return torch.stack((signs_K1 * positive_KL, positive_KL), dim=2)
