"""The operations of AutoAugment and its successors, on whole batches with a magnitude for each image.

Sources: Cubuk et al., AutoAugment (CVPR 2019), appendix, for what the operations are; ``torchvision.transforms.v2`` for
what they do to a pixel and how levels become magnitudes: nearest pixel, black where an image was moved away.
Deviations: positions are computed in float64, where torchvision's float32 falls to another neighbor of a pixel that
lies between two; products of blends are rounded in another order, which is one gray level at most; the threshold of
solarize is the exact multiple of 255.
Reference tests: ``tests/data/test_image_operations.py``, torchvision's own functions image by image.
Shape suffixes: B batch, H height, W width, C channels, S stages, which follow each other.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Operation = Callable[[Tensor, Tensor], Tensor]
"""Images ``(B, C, H, W)`` in uint8 and magnitudes ``(B,)`` in float64 on the same device, to new images."""


def check_rgb(policy: str, channels: int, dtype: torch.dtype) -> None:
    """Refuse images on which the operations have no meaning.

    Args:
        policy: Name of the policy, for the message.
        channels: Channels of an image.
        dtype: Dtype of the stored images.

    Raises:
        ValueError: If they are not three channels of uint8.
    """
    if channels != 3 or dtype != torch.uint8:
        raise ValueError(
            f"policy={policy!r} needs RGB images, 3 channels of torch.uint8 (0..255), got {channels} of {dtype}. "
            "Give such images (channels=3 makes them of gray ones), or switch the policy off with policy='none'."
        )


def levels_of(
    n_levels: int,
    height: int,
    width: int,
    *,
    factor: float = 0.9,
    slope: float = 0.3,
    shift: tuple[float, float] | None = None,
    degrees: float = 30.0,
    lost_bits: int = 4,
) -> Mapping[str, Tensor]:
    """Magnitudes of the levels by operation, float32 of shape ``(n_levels,)``; the defaults are AutoAugment's.

    Shear is a slope, translation in pixels, rotation in degrees; brightness, color, contrast and sharpness differ from
    factor 1 by theirs; posterize keeps so many bits; solarize inverts values from its own on.

    Args:
        n_levels: Levels, at least two.
        height: Image height in pixels.
        width: Image width in pixels.
        factor: The last level of the four factors.
        slope: That of shear.
        shift: That of translation to the right and down in pixels; None is 150 of 331 parts of a side.
        degrees: That of rotation.
        lost_bits: Bits that the last level of posterize drops.
    """
    right, down = (150.0 / 331.0 * width, 150.0 / 331.0 * height) if shift is None else shift
    ends = {
        **dict.fromkeys(("ShearX", "ShearY"), slope),
        "TranslateX": right,
        "TranslateY": down,
        "Rotate": degrees,
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), factor),
    }
    return {
        # torch.linspace in float32 gives torchvision's numbers to the last bit.
        **{name: torch.linspace(0.0, end, n_levels) for name, end in ends.items()},
        "Posterize": 8 - (torch.arange(n_levels) / ((n_levels - 1) / lost_bits)).round(),
        "Solarize": torch.linspace(255.0, 0.0, n_levels),
    }


def apply_stages(images_BHWC: Tensor, operation_SB: Tensor, magnitude_SB: Tensor) -> Tensor:
    """Do to each image one operation after the other.

    In each stage the images of one operation are one group and one call, whatever their magnitudes. The choices lie on
    the CPU: sorting the images into groups there avoids waiting for the device.

    Args:
        images_BHWC: At least one image, uint8, on any device.
        operation_SB: Positions in :data:`NAMES`, int64, on the CPU.
        magnitude_SB: With their signs, float64, on the CPU.

    Returns:
        New images of the same shape, dtype and order.
    """
    # Every plane of a channel at a stretch: with the channels last the whole takes a fifth longer on a CPU.
    x_BCHW = images_BHWC.permute(0, 3, 1, 2).contiguous()
    for operation_B, magnitude_B in zip(operation_SB, magnitude_SB, strict=True):
        sizes = operation_B.bincount(minlength=len(NAMES)).tolist()
        order_B = operation_B.argsort(stable=True)
        magnitudes = magnitude_B[order_B].to(x_BCHW.device, non_blocking=True).split(sizes)
        order_B = order_B.to(x_BCHW.device, non_blocking=True)
        groups = x_BCHW.index_select(0, order_B).split(sizes)
        changed = [
            OPERATIONS[name](group_BCHW, magnitude)
            for name, group_BCHW, magnitude in zip(NAMES, groups, magnitudes, strict=True)
            if len(group_BCHW) > 0
        ]
        x_BCHW = torch.empty_like(x_BCHW).index_copy_(0, order_B, torch.cat(changed))
    return x_BCHW.permute(0, 2, 3, 1).contiguous()


def _keep(x_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    return x_BCHW


def _shear_x(x_BCHW: Tensor, slope_B: Tensor) -> Tensor:
    # The top edge stays, not the center; for ShearY the left one.
    y_H1 = torch.arange(x_BCHW.shape[2], dtype=torch.float64, device=x_BCHW.device)[:, None] + 0.5
    return _moved(x_BCHW, right_BHW=slope_B[:, None, None] * y_H1)


def _shear_y(x_BCHW: Tensor, slope_B: Tensor) -> Tensor:
    x_W = torch.arange(x_BCHW.shape[3], dtype=torch.float64, device=x_BCHW.device) + 0.5
    return _moved(x_BCHW, down_BHW=slope_B[:, None, None] * x_W)


def _translate_x(x_BCHW: Tensor, pixels_B: Tensor) -> Tensor:
    return _moved(x_BCHW, right_BHW=-pixels_B.trunc()[:, None, None])


def _translate_y(x_BCHW: Tensor, pixels_B: Tensor) -> Tensor:
    return _moved(x_BCHW, down_BHW=-pixels_B.trunc()[:, None, None])


def _rotate(x_BCHW: Tensor, degrees_B: Tensor) -> Tensor:
    height, width = x_BCHW.shape[2:]
    y_H1 = torch.arange(height, dtype=torch.float64, device=x_BCHW.device)[:, None] - (height - 1) / 2
    x_W = torch.arange(width, dtype=torch.float64, device=x_BCHW.device) - (width - 1) / 2
    angle_B11 = degrees_B.deg2rad()[:, None, None]
    cosine, sine = angle_B11.cos(), angle_B11.sin()
    return _moved(x_BCHW, right_BHW=cosine * x_W - sine * y_H1 - x_W, down_BHW=sine * x_W + cosine * y_H1 - y_H1)


def _moved(x_BCHW: Tensor, *, right_BHW: Tensor | float = 0.0, down_BHW: Tensor | float = 0.0) -> Tensor:
    """Each pixel is the nearest one so far to the right and below; 0 outside. Shifts broadcast to ``(B, H, W)``."""
    batch, channels, height, width = x_BCHW.shape
    zeros_BHW = torch.zeros(batch, height, width, dtype=torch.float64, device=x_BCHW.device)
    row = (torch.arange(height, device=x_BCHW.device)[:, None] + down_BHW + zeros_BHW).round_().long()
    column = (torch.arange(width, device=x_BCHW.device) + right_BHW + zeros_BHW).round_().long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    source_B1N = torch.where(inside, row * width + column, 0).view(batch, 1, height * width)
    moved = x_BCHW.flatten(2).gather(2, source_B1N.expand(batch, channels, height * width)).view_as(x_BCHW)
    return moved * inside[:, None]


def _brightness(x_BCHW: Tensor, change_B: Tensor) -> Tensor:
    return _blend(x_BCHW, None, change_B)


def _color(x_BCHW: Tensor, change_B: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as T  # slow to import; only those who use a policy pay

    return _blend(x_BCHW, T.rgb_to_grayscale(x_BCHW), change_B)


def _contrast(x_BCHW: Tensor, change_B: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as T

    return _blend(x_BCHW, T.rgb_to_grayscale(x_BCHW).float().mean(dim=(1, 2, 3), keepdim=True), change_B)


def _sharpness(x_BCHW: Tensor, change_B: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as T

    # Away from the blurred image, in torchvision's order of products: it rounds otherwise than the blends do.
    factor_B111 = (1.0 + change_B)[:, None, None, None]
    x = x_BCHW.float()
    sharpened = x.addcmul(T.adjust_sharpness(x_BCHW, 0.0) - x, (1.0 - factor_B111).float())
    return sharpened.clamp_(0, 255).to(torch.uint8)


def _blend(x_BCHW: Tensor, without: Tensor | None, change_B: Tensor) -> Tensor:
    """From an image without a quality (None is black) past the image itself, which is at ``change`` 0."""
    factor_B111 = (1.0 + change_B)[:, None, None, None]
    blended = x_BCHW * factor_B111.float()
    if without is not None:
        blended.addcmul_(without, (1.0 - factor_B111).float())
    return blended.clamp_(0, 255).to(torch.uint8)


def _posterize(x_BCHW: Tensor, bits_B: Tensor) -> Tensor:
    return x_BCHW & (256 - 2.0 ** (8 - bits_B.trunc())).to(torch.uint8)[:, None, None, None]


def _solarize(x_BCHW: Tensor, threshold_B: Tensor) -> Tensor:
    return torch.where(x_BCHW >= threshold_B[:, None, None, None], 255 - x_BCHW, x_BCHW)


def _auto_contrast(x_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as T

    return T.autocontrast(x_BCHW)


def _equalize(x_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as T

    return T.equalize(x_BCHW)


def _invert(x_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    return 255 - x_BCHW


OPERATIONS: Mapping[str, Operation] = {
    "Identity": _keep,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
    "Brightness": _brightness,
    "Color": _color,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
}
NAMES = tuple(OPERATIONS)
SIGNED = frozenset(
    ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
)
