"""The blocks of Shake-Shake networks. Source: Gastaldi 2017, section 2.1, and the code released with it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.models.shake import ShakeMode, ShakeShake


class Shortcut(nn.Module):
    """What skips a block that changes the channels or the size.

    ReLU; a 1×1 convolution of every ``stride``-th pixel and one of the map shifted by one pixel, to C_out / 2 channels
    each; concatenation, batch norm. ValueError for an odd C_out.
    """

    def __init__(self, in_ch: int, out_ch: int, stride: int) -> None:
        super().__init__()
        if out_ch % 2:
            raise ValueError(f"a shortcut makes an even number of channels, half in each branch, got {out_ch}.")
        self.stride = stride
        self.conv1 = nn.Conv2d(in_ch, out_ch // 2, 1, bias=False)
        self.conv2 = nn.Conv2d(in_ch, out_ch // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_ch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, ceil(H / stride), ceil(W / stride))."""
        x = F.relu(x)
        shifted = F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        step = self.stride
        halves = [self.conv1(x[:, :, ::step, ::step]), self.conv2(shifted[:, :, ::step, ::step])]
        out: Tensor = self.bn(torch.cat(halves, dim=1))
        return out


class _TwoBranches(nn.Module):
    """Two branches of one form, mixed by Shake-Shake, and a shortcut."""

    def __init__(
        self,
        branch: Callable[[], nn.Module],
        ends: tuple[int, int],
        stride: int,
        mode: ShakeMode,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.branch1, self.branch2 = branch(), branch()
        self.shortcut = nn.Identity() if ends[0] == ends[1] and stride == 1 else Shortcut(*ends, stride)
        self.mode, self.generator = mode, generator

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = self.branch1(x), self.branch2(x)
        mode = self.mode
        # Evaluation is the plain mean, written so that an exported network holds no function of gradnas.
        mixed: Tensor = (
            ShakeShake.apply(x1, x2, True, mode.forward, mode.backward, mode.level, self.generator)
            if self.training
            else 0.5 * x1 + 0.5 * x2
        )
        out: Tensor = mixed + self.shortcut(x)
        return out


class ShakeBlock(_TwoBranches):
    """Basic block of a Shake-Shake ResNet: branches of ReLU, 3×3 convolution, batch norm, twice.

    (B, in_ch, H, W) -> (B, out_ch, ceil(H / stride), ceil(W / stride)). The input skips it as it is where channels and
    size stay, through a :class:`Shortcut` otherwise.

    Args:
        in_ch: Channels of the input.
        out_ch: Channels of the output.
        stride: 1, or 2 to halve the size.
        mode: What is drawn; Shake-Shake-Image by default.
        generator: Draws on the device of the input; None takes torch's default one.
    """

    def __init__(
        self,
        in_ch: int,
        out_ch: int,
        stride: int = 1,
        *,
        mode: ShakeMode | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        def branch() -> nn.Module:
            return nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(in_ch, out_ch, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(out_ch),
                nn.ReLU(inplace=True),
                nn.Conv2d(out_ch, out_ch, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_ch),
            )

        super().__init__(branch, (in_ch, out_ch), stride, mode or ShakeMode(), generator)


class ShakeBottleNeck(_TwoBranches):
    """Bottleneck block of a Shake-Shake ResNeXt: branches of 1×1, grouped 3×3 and 1×1 convolutions with batch norms.

    (B, in_ch, H, W) -> (B, out_ch, ceil(H / stride), ceil(W / stride)); shortcuts as in :class:`ShakeBlock`.

    Args:
        in_ch: Channels of the input.
        mid_ch: Channels of the grouped convolution.
        out_ch: Channels of the output.
        cardinary: Groups of the grouped convolution, the cardinality of ResNeXt.
        stride: 1, or 2 to halve the size.
        mode: What is drawn; Shake-Shake-Image by default.
        generator: Draws on the device of the input; None takes torch's default one.

    Raises:
        ValueError: When ``mid_ch`` cannot be divided by ``cardinary``.
    """

    def __init__(
        self,
        in_ch: int,
        mid_ch: int,
        out_ch: int,
        cardinary: int,
        stride: int = 1,
        *,
        mode: ShakeMode | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if cardinary < 1 or mid_ch % cardinary:
            raise ValueError(f"mid_ch must be a multiple of the cardinality, got {mid_ch} and {cardinary}.")

        def branch() -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(in_ch, mid_ch, 1, bias=False),
                nn.BatchNorm2d(mid_ch),
                nn.ReLU(inplace=True),
                nn.Conv2d(mid_ch, mid_ch, 3, stride=stride, padding=1, groups=cardinary, bias=False),
                nn.BatchNorm2d(mid_ch),
                nn.ReLU(inplace=True),
                nn.Conv2d(mid_ch, out_ch, 1, bias=False),
                nn.BatchNorm2d(out_ch),
            )

        super().__init__(branch, (in_ch, out_ch), stride, mode or ShakeMode(), generator)
