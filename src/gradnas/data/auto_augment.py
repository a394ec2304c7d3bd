"""AutoAugment for a whole batch at once: the policy that was found on CIFAR-10.

Source: Cubuk et al., AutoAugment: Learning Augmentation Strategies from Data (CVPR 2019): a policy is 25 sub-policies
of two operations each, of which every image gets one; the table is that of the paper's appendix for CIFAR-10.
What an operation does and how its levels become magnitudes is that of ``torchvision.transforms.v2.AutoAugment`` with
``AutoAugmentPolicy.CIFAR10``: nearest pixel, black where an image was moved away, both signs equally likely.
Deviations: an operation of probability 0 never happens (torchvision: once in 2**24 images); a sign is drawn for every
operation, also for one that has none.
Reference tests: ``tests/data/test_auto_augment.py``, torchvision's own object image by image.
Shape suffixes: B batch, H height, W width, C channels, S the two stages of a sub-policy.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

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
SIGNED = frozenset({"ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"})
_KEPT = ("Keep", 0.0)


def check_rgb(channels: int, dtype: torch.dtype) -> None:
    """Refuse images on which the operations have no meaning.

    Args:
        channels: Channels of an image.
        dtype: Dtype of the stored images.

    Raises:
        ValueError: If they are not three channels of uint8.
    """
    if channels != 3 or dtype != torch.uint8:
        raise ValueError(
            f"policy='autoaugment' needs RGB images, 3 channels of torch.uint8 (0..255), got {channels} of {dtype}. "
            "Give such images, or switch the policy off with policy='none'."
        )


def auto_augment(images_BHWC: Tensor, generator: torch.Generator) -> Tensor:
    """Give each image one random sub-policy of :data:`CIFAR10_POLICY`.

    In each of the two stages, the images that get the same operation with the same magnitude and sign are one call of
    ``torchvision.transforms.v2.functional``.

    Args:
        images_BHWC: RGB images before normalization, at least one, uint8, on any device.
        generator: On the CPU, so that every device gets the same choices; sorting the images into groups there also
            avoids waiting for the device. Draws sub-policies ``(B,)``, then whether each step happens ``(S, B)``,
            then signs ``(S, B)``.

    Returns:
        New images of the same shape, dtype and order.

    Raises:
        ValueError: If the images are not RGB in uint8.
    """
    batch, height, width, channels = images_BHWC.shape
    check_rgb(channels, images_BHWC.dtype)
    operations, positions = operations_of(height, width)
    probabilities = torch.tensor([[step[1] for step in steps] for steps in CIFAR10_POLICY])
    sub_policy_B = torch.randint(len(CIFAR10_POLICY), (batch,), generator=generator)
    happens_SB = torch.rand((2, batch), generator=generator) < probabilities[sub_policy_B].T
    sign_SB = torch.randint(2, (2, batch), generator=generator)
    # Every plane of a channel at a stretch: with the channels last the whole takes a fifth longer on a CPU.
    x_BCHW = images_BHWC.permute(0, 3, 1, 2).contiguous()
    for stage in range(2):
        # Position 0 keeps the image.
        operation_B = positions[sub_policy_B, stage, sign_SB[stage]] * happens_SB[stage]
        sizes = operation_B.bincount(minlength=len(operations)).tolist()
        order_B = operation_B.argsort(stable=True).to(x_BCHW.device, non_blocking=True)
        groups = x_BCHW.index_select(0, order_B).split(sizes)
        changed = [
            _apply(group_BCHW, name, magnitude)
            for (name, magnitude), group_BCHW in zip(operations, groups, strict=True)
            if len(group_BCHW) > 0
        ]
        x_BCHW = torch.empty_like(x_BCHW).index_copy_(0, order_B, torch.cat(changed))
    return x_BCHW.permute(0, 2, 3, 1).contiguous()


def operations_of(height: int, width: int) -> tuple[list[tuple[str, float]], Tensor]:
    """The operations of the policy, each once, and where it uses them.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        Name and signed magnitude of each operation, the first of which keeps the image; and for each sub-policy, stage
        and sign (0 negative, 1 positive) the position of its operation in this list, int64 of shape ``(25, S, 2)``.
    """
    magnitudes = magnitudes_of(height, width)
    found = {_KEPT: 0}
    positions = []
    for steps in CIFAR10_POLICY:
        for name, _, level in steps:
            magnitude = 0.0 if level is None else float(magnitudes[name][level])
            for sign in (-1, 1):
                operation = (name, sign * magnitude if name in SIGNED else magnitude)
                positions.append(found.setdefault(operation, len(found)))
    return list(found), torch.tensor(positions).view(len(CIFAR10_POLICY), 2, 2)


def magnitudes_of(height: int, width: int) -> Mapping[str, Tensor]:
    """Magnitude of each of the ten levels, float32 of shape ``(10,)``, by operation.

    Shear is a slope, translation in pixels, rotation in degrees; brightness, color, contrast and sharpness differ from
    factor 1 by theirs; posterize keeps so many bits; solarize inverts values from its own on.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
    """
    # torch.linspace in float32 gives torchvision's numbers to the last bit.
    factor = torch.linspace(0.0, 0.9, 10)
    return {
        "ShearY": torch.linspace(0.0, 0.3, 10),
        "TranslateX": torch.linspace(0.0, 150.0 / 331.0 * width, 10),
        "TranslateY": torch.linspace(0.0, 150.0 / 331.0 * height, 10),
        "Rotate": torch.linspace(0.0, 30.0, 10),
        "Brightness": factor,
        "Color": factor,
        "Contrast": factor,
        "Sharpness": factor,
        "Posterize": 8 - (torch.arange(10) / (9 / 4)).round(),
        "Solarize": torch.linspace(255.0, 0.0, 10),
    }


def _apply(x_BCHW: Tensor, name: str, magnitude: float) -> Tensor:
    from torchvision.transforms.v2 import InterpolationMode  # slow to import; only those who use the policy pay
    from torchvision.transforms.v2 import functional as T

    def moved(*, right: int = 0, down: int = 0) -> Tensor:
        return T.affine(x_BCHW, 0.0, [right, down], 1.0, [0.0, 0.0], interpolation=InterpolationMode.NEAREST, fill=None)

    match name:
        case "Keep":
            return x_BCHW
        case "ShearY":
            # The policy means the slope, torchvision wants its angle; the left edge stays, not the center.
            shear = [0.0, math.degrees(math.atan(magnitude))]
            nearest = InterpolationMode.NEAREST
            return T.affine(x_BCHW, 0.0, [0, 0], 1.0, shear, interpolation=nearest, fill=None, center=[0.0, 0.0])
        case "TranslateX":
            return moved(right=int(magnitude))
        case "TranslateY":
            return moved(down=int(magnitude))
        case "Rotate":
            return T.rotate(x_BCHW, magnitude, interpolation=InterpolationMode.NEAREST, fill=None)
        case "Brightness":
            return T.adjust_brightness(x_BCHW, 1.0 + magnitude)
        case "Color":
            return T.adjust_saturation(x_BCHW, 1.0 + magnitude)
        case "Contrast":
            return T.adjust_contrast(x_BCHW, 1.0 + magnitude)
        case "Sharpness":
            return T.adjust_sharpness(x_BCHW, 1.0 + magnitude)
        case "Posterize":
            return T.posterize(x_BCHW, int(magnitude))
        case "Solarize":
            return T.solarize(x_BCHW, magnitude)
        case "AutoContrast":
            return T.autocontrast(x_BCHW)
        case "Equalize":
            return T.equalize(x_BCHW)
        case "Invert":
            return T.invert(x_BCHW)
    raise AssertionError(f"the policy names {name!r}, which is no operation")
