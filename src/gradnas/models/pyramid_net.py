"""PyramidNet, with ShakeDrop if wanted.

Source: Han et al., Deep pyramidal residual networks, 2017 (arXiv:1610.02915): channels grow by alpha / N from each of N
blocks to the next (equation 3), blocks of figure 6d (batch norm first, one ReLU less, batch norm last), shortcuts of
zeros for new channels; and Yamada et al. 2019 for ShakeDrop, whose keep probability falls linearly to ½. Channels are
the floor of 16 + k · alpha / N, as equation 3 says; the authors' code rounds, which makes networks larger still. The
paper prints 1.7 M parameters for depth 110 and alpha 48 (here 1.74 M), 3.8 M for alpha 84 (3.86 M), 28.3 M for alpha
270 (28.5 M), and 27.0 M for depth 164 with bottlenecks (27.2 M); no reading of the equation gives all four. Deviations:
none. Reference test: tests/models/test_pyramid_net.py.
"""

import itertools
import math
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.models.cifar_resnet import zero_padded
from gradnas.models.initialization import he_normal
from gradnas.models.shake_drop import ShakeDrop, keep_probability
from gradnas.models.sizes import blocks_per_stage, check_images

_EXPANSION = 4  # of a bottleneck


class PyramidBlock(nn.Module):
    """Residual block of a PyramidNet.

    (B, in_ch, H, W) -> (B, out_ch, ceil(H / stride), ceil(W / stride)), with out_ch = planes, times 4 in a bottleneck.

    Args:
        in_ch: Channels of the input.
        planes: Channels of its 3×3 convolutions.
        stride: 1, or 2 to halve the size.
        bottleneck: 1×1, 3×3 and 1×1 convolutions in place of two 3×3.
        drop: What scales the branch in training; None for nothing.
    """

    def __init__(
        self, in_ch: int, planes: int, stride: int = 1, *, bottleneck: bool = False, drop: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.out_ch, self.stride = planes * (_EXPANSION if bottleneck else 1), stride
        wide = nn.Conv2d(planes if bottleneck else in_ch, planes, 3, stride=stride, padding=1, bias=False)
        self.branch = nn.Sequential(
            nn.BatchNorm2d(in_ch),
            *([nn.Conv2d(in_ch, planes, 1, bias=False)] if bottleneck else []),
            *([nn.BatchNorm2d(planes), nn.ReLU(inplace=True)] if bottleneck else []),
            wide,
            nn.BatchNorm2d(planes),
            nn.ReLU(inplace=True),
            nn.Conv2d(planes, self.out_ch, 1 if bottleneck else 3, padding=0 if bottleneck else 1, bias=False),
            nn.BatchNorm2d(self.out_ch),
        )
        self.drop = drop if drop is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        skipped = x if self.stride == 1 else F.avg_pool2d(x, self.stride, ceil_mode=True)
        out: Tensor = self.drop(self.branch(x)) + zero_padded(skipped, self.out_ch)
        return out


class PyramidNet(nn.Module):
    """PyramidNet for small images: (B, in_channels, H, W) -> (B, n_classes), H, W ≥ 4.

    Args:
        depth: Convolutional layers on a path, and the linear one.
        alpha: Channels by which the 3×3 convolutions widen from 16, over all blocks.
        n_classes: Number of classes.
        in_channels: Channels of the images.
        bottleneck: Blocks of three convolutions in place of two.
        shake_drop: Put :class:`~gradnas.models.ShakeDrop` behind each branch.
        generator: Draws of ShakeDrop on the device of the images; None takes torch's default one.

    Raises:
        ValueError: For a depth that is not 6 n + 2, or 9 n + 2 with bottlenecks, or a negative alpha.
    """

    def __init__(
        self,
        depth: int,
        alpha: float,
        n_classes: int,
        *,
        in_channels: int = 3,
        bottleneck: bool = False,
        shake_drop: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha must be a finite number of at least 0, got {alpha}.")
        n = blocks_per_stage(depth, 9 if bottleneck else 6)
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(16)
        blocks: list[nn.Module] = []
        channels = 16
        for stage, block in itertools.product(range(3), range(n)):
            k = len(blocks) + 1
            planes = math.floor(16 + k * Fraction(alpha) / (3 * n))
            drop = ShakeDrop(keep_probability(k, 3 * n), generator=generator) if shake_drop else None
            stride = 2 if stage > 0 and block == 0 else 1
            added = PyramidBlock(channels, planes, stride, bottleneck=bottleneck, drop=drop)
            blocks.append(added)
            channels = added.out_ch
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, n_classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.stem.in_channels)
        x = self.blocks(self.stem_bn(self.stem(x)))
        logits: Tensor = self.linear(torch.relu(self.bn(x)).mean(dim=(2, 3)))
        return logits
