"""Shake-Shake networks. Source: Gastaldi 2017, tables 1 and 3; weights begin as in the code released with it.

Deviations: global average pooling in place of 8×8, the same for images of 32×32 pixels. From the released code: the
stem has a bias and no batch norm, 16 parameters fewer, and the second path of a shortcut sees the pixels to the right
and below, not to the left and above. Reference tests: tests/models/test_shake_networks.py (parameter counts),
tests/models/test_forward.py (the formula).
"""

from fractions import Fraction

import torch
from torch import Tensor, nn

from gradnas.models.initialization import he_normal
from gradnas.models.shake import ShakeMode
from gradnas.models.shake_blocks import ShakeBlock, ShakeBottleNeck
from gradnas.models.sizes import blocks_per_stage, check_images


class _ShakeNetwork(nn.Module):
    """Stem, blocks, ReLU, global average, linear layer."""

    def __init__(self, stem: nn.Conv2d, blocks: list[nn.Module], features: int, label: int) -> None:
        super().__init__()
        self.c_in = stem
        self.blocks = nn.Sequential(*blocks)
        self.fc_out = nn.Linear(features, label)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.c_in.in_channels)
        x = torch.relu(self.blocks(self.c_in(x))).mean(dim=(2, 3))
        logits: Tensor = self.fc_out(x)
        return logits


class ShakeResNet(_ShakeNetwork):
    """Shake-Shake ResNet, ``26 2x32d`` with depth 26 and w_base 32: (B, in_channels, H, W) -> (B, label), H, W ≥ 4.

    A 3×3 convolution to 16 channels, then three stages of w_base, 2 w_base and 4 w_base channels with
    (depth − 2) / 6 blocks each; the second and the third halve the size.

    Args:
        depth: Convolutional layers on a path, and the linear one.
        w_base: Channels of the first stage.
        label: Number of classes.
        in_channels: Channels of the images.
        mode: What is drawn, by its published name.
        generator: Draws on the device of the images; None takes torch's default one.

    Raises:
        ValueError: For a depth that is not 6 n + 2, an unknown mode, or images that are too small.
    """

    def __init__(
        self,
        depth: int,
        w_base: int,
        label: int,
        *,
        in_channels: int = 3,
        mode: str = "shake-shake-image",
        generator: torch.Generator | None = None,
    ) -> None:
        n, drawn = blocks_per_stage(depth, 6), ShakeMode.of(mode)
        blocks: list[nn.Module] = []
        channels = 16
        for stage in range(3):
            width = w_base * 2**stage
            for block in range(n):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ShakeBlock(channels, width, stride, mode=drawn, generator=generator))
                channels = width
        super().__init__(nn.Conv2d(in_channels, 16, 3, padding=1), blocks, channels, label)


class ShakeResNeXt(_ShakeNetwork):
    """Shake-Shake ResNeXt, ``29 2x4x64d`` with depth 29, w_base 64, cardinary 4: (B, in_channels, H, W) -> (B, label).

    A 3×3 convolution to 64 channels, then three stages of (depth − 2) / 9 bottleneck blocks with 256, 512 and 1024
    channels, whose grouped convolutions have ch · w_base · cardinary / 64 for ch = 64, 128, 256; the second and the
    third stage halve the size.

    Args:
        depth: Convolutional layers on a path, and the linear one.
        w_base: Channels of a group in the first stage.
        cardinary: Groups, the cardinality of ResNeXt.
        label: Number of classes.
        in_channels: Channels of the images.
        mode: What is drawn, by its published name.
        generator: Draws on the device of the images; None takes torch's default one.

    Raises:
        ValueError: For a depth that is not 9 n + 2, channels that are no whole number, an unknown mode, or images that
            are too small.
    """

    def __init__(
        self,
        depth: int,
        w_base: int,
        cardinary: int,
        label: int,
        *,
        in_channels: int = 3,
        mode: str = "shake-shake-image",
        generator: torch.Generator | None = None,
    ) -> None:
        n, drawn = blocks_per_stage(depth, 9), ShakeMode.of(mode)
        blocks: list[nn.Module] = []
        channels = 64
        for stage in range(3):
            ch = 64 * 2**stage
            mid = Fraction(ch * w_base * cardinary, 64)
            if mid.denominator != 1:
                raise ValueError(f"{ch} · w_base · cardinary / 64 must be whole, got {mid} with w_base={w_base}.")
            for block in range(n):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(
                    ShakeBottleNeck(channels, int(mid), 4 * ch, cardinary, stride, mode=drawn, generator=generator)
                )
                channels = 4 * ch
        super().__init__(nn.Conv2d(in_channels, 64, 3, padding=1), blocks, channels, label)
