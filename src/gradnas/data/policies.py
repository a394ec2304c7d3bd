"""Policies of augmentation by name."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gradnas.foundation.names import did_you_mean

from .auto_augment import auto_augment
from .image_operations import check_rgb
from .random_operations import rand_augment, trivial_augment

_APPLY: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "autoaugment": auto_augment,
    "randaugment": rand_augment,
    "trivialaugment": trivial_augment,
}
POLICIES = ("none", *_APPLY)


def check_policy(policy: str) -> None:
    """Refuse an unknown name of a policy, naming the nearest. ValueError."""
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}. {did_you_mean(policy, POLICIES)}")


def apply_policy(policy: str, images_BHWC: Tensor, generator: torch.Generator) -> Tensor:
    """Give each image what a policy draws for it.

    Args:
        policy: One of :data:`POLICIES`, but not ``none``.
        images_BHWC: RGB images before normalization, at least one, uint8, on any device.
        generator: On the CPU, so that every device gets the same choices.

    Returns:
        New images of the same shape, dtype and order.

    Raises:
        ValueError: If the images are not RGB in uint8.
    """
    check_rgb(policy, images_BHWC.shape[3], images_BHWC.dtype)
    return _APPLY[policy](images_BHWC, generator)
