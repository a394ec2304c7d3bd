"""The classes that an exported ``model.py`` is put together from: the text of this file is what users get.

Plain torch, no gradnas, lines of at most 88 characters, so that the usual formatters leave the copy alone. Attributes
have the names of the modules of :mod:`gradnas.ops`, so that the weights of a run load as they are. Which class stands
for which op says ``op_sources.py``. Reference test: ``tests/export/test_model_source.py`` (names and logits).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ReLUConvBN(nn.Module):
    """ReLU, 1x1 convolution, batch norm."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(ch_in, ch_out, 1, bias=False),
            nn.BatchNorm2d(ch_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ConvBNReLU(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, ch_in: int, ch_out: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(ch_in, ch_out, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(ch_out),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class SepConv(nn.Module):
    """Depthwise-separable convolution, applied twice."""

    def __init__(self, ch_in: int, ch_out: int, size: int, stride: int = 1) -> None:
        super().__init__()
        pad = size // 2
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(ch_in, ch_in, size, stride, pad, groups=ch_in, bias=False),
            nn.Conv2d(ch_in, ch_in, 1, bias=False),
            nn.BatchNorm2d(ch_in),
            nn.ReLU(),
            nn.Conv2d(ch_in, ch_in, size, 1, pad, groups=ch_in, bias=False),
            nn.Conv2d(ch_in, ch_out, 1, bias=False),
            nn.BatchNorm2d(ch_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class DilConv(nn.Module):
    """Depthwise-separable convolution with dilation 2."""

    def __init__(self, ch_in: int, ch_out: int, size: int, stride: int = 1) -> None:
        super().__init__()
        pad = 2 * (size // 2)
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(ch_in, ch_in, size, stride, pad, 2, groups=ch_in, bias=False),
            nn.Conv2d(ch_in, ch_out, 1, bias=False),
            nn.BatchNorm2d(ch_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class FacConv(nn.Module):
    """A convolution of one column, then one of one row."""

    def __init__(self, ch_in: int, ch_out: int, size: int, stride: int = 1) -> None:
        super().__init__()
        pad = size // 2
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(ch_in, ch_in, (size, 1), (stride, 1), (pad, 0), bias=False),
            nn.Conv2d(ch_in, ch_out, (1, size), (1, stride), (0, pad), bias=False),
            nn.BatchNorm2d(ch_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class FactorizedReduce(nn.Module):
    """Halve the map: two 1x1 convolutions on every second pixel, the second one pixel further on."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(ch_in, ch_out // 2, 1, bias=False)
        self.conv_2 = nn.Conv2d(ch_in, ch_out // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(ch_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        first = self.conv_1(x[:, :, ::2, ::2])
        # An odd size gets a row or column of zeros at its end.
        shifted = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1::2, 1::2]
        return self.bn(torch.cat([first, self.conv_2(shifted)], dim=1))


class HalvingSkip(nn.Module):
    """The skip connection of a reduction cell, which has to halve the map."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        self.op = FactorizedReduce(ch_in, ch_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class PoolBN(nn.Module):
    """Pooling and a batch norm without weights."""

    def __init__(self, pool: nn.Module, channels: int) -> None:
        super().__init__()
        self.pool = pool
        self.bn = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.pool(x))


class Zero(nn.Module):
    """Zeros, whatever comes: no connection."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        one = torch.zeros_like(x[:, :1, :: self.stride, :: self.stride])
        return one.expand(-1, self.channels, -1, -1)


class MultiOp(nn.Module):
    """Several operations side by side, brought back to the channels of one.

    Operation i reads input number ``reads[i]``.
    """

    def __init__(self, channels: int, ops: list[nn.Module], reads: list[int]) -> None:
        super().__init__()
        self.reads = reads
        self.children_ops = nn.ModuleList(ops)
        self.projection = nn.Conv2d(len(ops) * channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, *inputs: Tensor) -> Tensor:
        pairs = zip(self.children_ops, self.reads, strict=True)
        outs = [op(inputs[i]) for op, i in pairs]
        return self.bn(self.projection(torch.cat(outs, dim=1)))


class Stem(nn.Module):
    """From the image to the first maps, at full size."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(ch_in, ch_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(ch_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class StemReLU(nn.Module):
    """From the image to the first maps, at full size, with a ReLU behind."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(ch_in, ch_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(ch_out),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class QuarterStem(nn.Module):
    """From the image to maps of a quarter of its height and width."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(ch_in, ch_out // 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(ch_out // 2),
            nn.ReLU(),
            nn.Conv2d(ch_out // 2, ch_out, 3, 2, 1, bias=False),
            nn.BatchNorm2d(ch_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class HalvingStem(nn.Module):
    """From the maps of the first stem to maps of half their height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class EighthStem(nn.Module):
    """From the image to maps of an eighth of its height and width."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(ch_in, ch_out // 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(ch_out // 2),
            nn.ReLU(),
            nn.Conv2d(ch_out // 2, ch_out, 3, 2, 1, bias=False),
            nn.BatchNorm2d(ch_out),
            nn.ReLU(),
            nn.Conv2d(ch_out, ch_out, 3, 2, 1, bias=False),
            nn.BatchNorm2d(ch_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Projection(nn.Module):
    """1x1 convolution and batch norm: many channels become few."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ch_in, ch_out, 1, bias=False)
        self.bn = nn.BatchNorm2d(ch_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Classifier(nn.Module):
    """A linear layer."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


class Edge(nn.Module):
    """An operation on its way to a node.

    In training, drop path leaves its output out for some images, and strengthens the
    others to make up for it. What only passes its input on is never left out.
    """

    def __init__(self, op: nn.Module) -> None:
        super().__init__()
        self.op = op
        self.drop_probability = 0.0

    def forward(self, *inputs: Tensor) -> Tensor:
        out = self.op(*inputs)
        drops = self.training and self.drop_probability > 0.0
        if not drops or isinstance(self.op, nn.Identity):
            return out
        keep = 1.0 - self.drop_probability
        return out * out.new_empty(len(out), 1, 1, 1).bernoulli_(keep) / keep


def node(*ops: nn.Module) -> nn.ModuleList:
    """The edges whose outputs a node sums."""
    return nn.ModuleList([Edge(op) for op in ops])
