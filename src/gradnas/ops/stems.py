"""Model stems: from the image to the first feature maps. Their batch norms always have weights, as in the paper."""

from torch import Tensor, nn

from gradnas.arch import OpDesc
from gradnas.ops.base import Op
from gradnas.ops.conv import batch_norm


class StemBase(Op):
    """Base of model stems; ``reduction`` is the total spatial division, a power of two."""

    def __init__(self, reduction: int) -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out

    layers: nn.Sequential

    def can_drop_path(self) -> bool:
        return False


def _conv3x3(ch_in: int, ch_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(ch_in, ch_out, 3, stride, 1, bias=False), batch_norm(ch_out, affine=True)]


def _quarter(op_desc: OpDesc) -> list[nn.Module]:
    ch_in, ch_out = op_desc.conv.ch_in, op_desc.conv.ch_out
    if ch_out % 2:
        raise ValueError(f"{op_desc.name!r} needs an even number of output channels, got {ch_out}.")
    return [*_conv3x3(ch_in, ch_out // 2, 2), nn.ReLU(), *_conv3x3(ch_out // 2, ch_out, 2)]


class StemConv3x3(StemBase):
    """3×3 convolution and batch norm, full size: the CIFAR stem."""

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__(reduction=1)
        self.layers = nn.Sequential(*_conv3x3(op_desc.conv.ch_in, op_desc.conv.ch_out, 1))


class StemConv3x3Relu(StemBase):
    """The CIFAR stem with a ReLU behind."""

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__(reduction=1)
        self.layers = nn.Sequential(*_conv3x3(op_desc.conv.ch_in, op_desc.conv.ch_out, 1), nn.ReLU())


class StemConv3x3S4(StemBase):
    """Two strided 3×3 convolutions with a ReLU between: a quarter of the size. ValueError for odd output channels."""

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__(reduction=4)
        self.layers = nn.Sequential(*_quarter(op_desc))


class StemConv3x3S4S2(StemBase):
    """The quarter-size stem followed by ReLU and one more strided convolution: an eighth of the size.

    With ``params['shared']`` it is only that tail and reads the output of the quarter-size stem, as in the paper.
    """

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__(reduction=8)
        ch_out = op_desc.conv.ch_out
        head = [] if op_desc.params.get("shared") else _quarter(op_desc)
        self.layers = nn.Sequential(*head, nn.ReLU(), *_conv3x3(ch_out, ch_out, 2))
