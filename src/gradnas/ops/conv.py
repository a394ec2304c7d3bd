"""Convolutional operations: ReLU -> convolution -> batch norm, and the one family that ends in ReLU.

Source: Liu et al., DARTS (ICLR 2019) and its released operations. No convolution has a bias.
"""

from torch import Tensor, nn

from gradnas.arch import OpDesc
from gradnas.ops.base import Op
from gradnas.ops.depthwise import DepthwiseConv2d


def batch_norm(channels: int, affine: bool) -> nn.BatchNorm2d:
    """Batch norm with torch's defaults (eps 1e-5, momentum 0.1)."""
    return nn.BatchNorm2d(channels, affine=affine)


def depthwise_separable(
    ch_in: int, ch_out: int, kernel_size: int, stride: int, padding: int, dilation: int, affine: bool
) -> list[nn.Module]:
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""
    return [
        nn.ReLU(),
        DepthwiseConv2d(ch_in, kernel_size, stride, padding, dilation),
        nn.Conv2d(ch_in, ch_out, 1, bias=False),
        batch_norm(ch_out, affine),
    ]


def check_stride(op_desc: OpDesc, stride: int) -> int:
    """Return the stride if it is 1 or 2, else ValueError."""
    if stride not in (1, 2):
        raise ValueError(f"stride of {op_desc.name!r} must be 1 or 2, got {stride}.")
    return stride


class _Sequence(Op):
    """An op that is a chain of layers: ``(B, C_in, H, W) -> (B, C_out, ceil(H/S), ceil(W/S))``."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class ReLUConvBN(_Sequence):
    """ReLU, convolution, batch norm."""

    def __init__(self, op_desc: OpDesc, kernel_size: int, stride: int, padding: int, affine: bool) -> None:
        conv = op_desc.conv
        check_stride(op_desc, stride)
        convolution = nn.Conv2d(conv.ch_in, conv.ch_out, kernel_size, stride, padding, bias=False)
        super().__init__([nn.ReLU(), convolution, batch_norm(conv.ch_out, affine)])


class ConvBNReLU(_Sequence):
    """Convolution, batch norm, ReLU."""

    def __init__(self, op_desc: OpDesc, kernel_size: int, stride: int, padding: int, affine: bool) -> None:
        conv = op_desc.conv
        check_stride(op_desc, stride)
        convolution = nn.Conv2d(conv.ch_in, conv.ch_out, kernel_size, stride, padding, bias=False)
        super().__init__([convolution, batch_norm(conv.ch_out, affine), nn.ReLU()])


class DilConv(_Sequence):
    """Dilated depthwise-separable convolution."""

    def __init__(
        self, op_desc: OpDesc, kernel_size: int, stride: int, padding: int, dilation: int, affine: bool
    ) -> None:
        conv = op_desc.conv
        super().__init__(
            depthwise_separable(
                conv.ch_in, conv.ch_out, kernel_size, check_stride(op_desc, stride), padding, dilation, affine
            )
        )


class SepConv(_Sequence):
    """Depthwise-separable convolution applied twice; the stride is in the first, the channel change in the second."""

    def __init__(self, op_desc: OpDesc, kernel_size: int, padding: int, affine: bool) -> None:
        ch_in, ch_out = op_desc.conv.ch_in, op_desc.conv.ch_out
        first = depthwise_separable(ch_in, ch_in, kernel_size, op_desc.stride, padding, 1, affine)
        super().__init__(first + depthwise_separable(ch_in, ch_out, kernel_size, 1, padding, 1, affine))


class FacConv(_Sequence):
    """A K×1 convolution and a 1×K one. The DARTS source applies 1×K first; sizes and counts are equal."""

    def __init__(self, op_desc: OpDesc, kernel_length: int, padding: int, affine: bool) -> None:
        ch_in, ch_out, stride = op_desc.conv.ch_in, op_desc.conv.ch_out, op_desc.stride
        super().__init__(
            [
                nn.ReLU(),
                nn.Conv2d(ch_in, ch_in, (kernel_length, 1), (stride, 1), (padding, 0), bias=False),
                nn.Conv2d(ch_in, ch_out, (1, kernel_length), (1, stride), (0, padding), bias=False),
                batch_norm(ch_out, affine),
            ]
        )
