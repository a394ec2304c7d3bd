"""AutoAugment for a whole batch at once: the policy that was found on CIFAR-10.

Source: Cubuk et al., AutoAugment: Learning Augmentation Strategies from Data (CVPR 2019): a policy is 25 sub-policies
of two operations each, of which every image gets one; the table is that of the paper's appendix for CIFAR-10. What an
operation does is said in :mod:`gradnas.data.image_operations`.
Deviations: an operation of probability 0 never happens (torchvision: once in 2**24 images); a sign is drawn for every
operation, also for one that has none.
Reference tests: ``tests/data/test_auto_augment.py``, torchvision's own object image by image.
Shape suffixes: B batch, H height, W width, C channels, S the two stages of a sub-policy.
"""

import torch
from torch import Tensor

from .image_operations import NAMES, SIGNED, apply_stages, levels_of

# (operation, probability, level of 0..9 or None for an operation without magnitude), for the first and second stage.
Step = tuple[str, float, int | None]
CIFAR10_POLICY: tuple[tuple[Step, Step], ...] = (
    (("Invert", 0.1, None), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, None), ("Equalize", 0.9, None)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, None), ("Equalize", 0.5, None)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, None), ("AutoContrast", 0.4, None)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, None)),
    (("Equalize", 0.2, None), ("AutoContrast", 0.6, None)),
    (("Equalize", 0.2, None), ("Equalize", 0.6, None)),
    (("Color", 0.9, 9), ("Equalize", 0.6, None)),
    (("AutoContrast", 0.8, None), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, None)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, None), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, None), ("Invert", 0.1, None)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, None)),
)


def auto_augment(images_BHWC: Tensor, generator: torch.Generator) -> Tensor:
    """Give each image one random sub-policy of :data:`CIFAR10_POLICY`.

    Args:
        images_BHWC: RGB images before normalization, at least one, uint8, on any device.
        generator: On the CPU, so that every device gets the same choices. Draws sub-policies ``(B,)``, then whether
            each step happens ``(S, B)``, then signs ``(S, B)``.

    Returns:
        New images of the same shape, dtype and order.

    Raises:
        ValueError: If the images are not RGB in uint8.
    """
    batch, height, width, _ = images_BHWC.shape
    probabilities = torch.tensor([[step[1] for step in steps] for steps in CIFAR10_POLICY])
    operations, magnitudes = choices_of(height, width)
    sub_policy_B = torch.randint(len(CIFAR10_POLICY), (batch,), generator=generator)
    happens_SB = torch.rand((2, batch), generator=generator) < probabilities[sub_policy_B].T
    sign_SB = torch.randint(2, (2, batch), generator=generator)
    stages = torch.arange(2)[:, None]
    # Operation 0 keeps the image.
    return apply_stages(images_BHWC, operations[sub_policy_B].T * happens_SB, magnitudes[sub_policy_B, stages, sign_SB])


def choices_of(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The policy as numbers.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        For each sub-policy and stage, the position of its operation in ``NAMES``, int64 of shape ``(25, S)``; and with
        a sign (0 negative, 1 positive) its magnitude, float64 of shape ``(25, S, 2)``.
    """
    levels = levels_of(10, height, width)
    operations = torch.tensor([[NAMES.index(name) for name, _, _ in steps] for steps in CIFAR10_POLICY])
    magnitudes = torch.zeros(len(CIFAR10_POLICY), 2, 2, dtype=torch.float64)
    for row, steps in enumerate(CIFAR10_POLICY):
        for stage, (name, _, level) in enumerate(steps):
            magnitude = 0.0 if level is None else float(levels[name][level])
            magnitudes[row, stage] = torch.tensor([-magnitude if name in SIGNED else magnitude, magnitude])
    return operations, magnitudes
