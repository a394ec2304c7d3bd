"""Operations without kernels larger than one pixel: identity, zero, skip, and the halving skip."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.arch import OpDesc
from gradnas.ops.base import Op
from gradnas.ops.conv import batch_norm


class Identity(Op):
    """Returns its input. ValueError unless stride is 1 and the channels stay."""

    def __init__(self, op_desc: OpDesc) -> None:
        super().__init__()
        if op_desc.stride != 1 or op_desc.conv.ch_in != op_desc.conv.ch_out:
            raise ValueError(
                f"{op_desc.name!r} keeps size and channels, got stride {op_desc.stride} and {op_desc.conv}. "
                "Use 'skip_connect' for stride 2 and a convolution to change channels."
            )

    def forward(self, x: Tensor) -> Tensor:
        return x

    def can_drop_path(self) -> bool:
        return False


class Zero(Op):
    """Exact zeros of shape (B, C_out, ceil(H/S), ceil(W/S)) and exactly zero gradient.

    Also for NaN or infinite input.
    """

    def __init__(self, op_desc: OpDesc) -> None:
        super().__init__()
        self.ch_out, self.stride = op_desc.conv.ch_out, op_desc.stride

    def forward(self, x: Tensor) -> Tensor:
        # A choice, not a product: NaN * 0 is NaN. It stays in the graph so that the input's gradient is defined.
        like = x[:, :1, :: self.stride, :: self.stride].expand(-1, self.ch_out, -1, -1)
        return torch.where(torch.zeros((), dtype=torch.bool, device=x.device), like, like.new_zeros(()))


class FactorizedReduce(Op):
    """Halve the map without losing every second pixel: two 1×1 stride-2 convolutions, the second on shifted input.

    ReLU, the two convolutions to C_out/2 each, concatenation, batch norm. For odd sizes the second convolution's input
    is padded by one row or column of zeros at the end, so both give ceil(size / 2). ValueError when C_out is odd.

    The convolutions are computed as ones of stride 1 on every second pixel. The gradient of a strided 1×1 convolution
    with fewer than 16 channels on large channels_last maps is wrong in torch 2.15 on CPUs, and may corrupt memory.
    """

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__()
        ch_in, ch_out = op_desc.conv.ch_in, op_desc.conv.ch_out
        if ch_out % 2:
            raise ValueError(f"{op_desc.name!r} at stride 2 needs an even number of output channels, got {ch_out}.")
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(ch_in, ch_out // 2, 1, bias=False)
        self.conv_2 = nn.Conv2d(ch_in, ch_out // 2, 1, bias=False)
        self.bn = batch_norm(ch_out, affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        shifted = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1::2, 1::2]
        out: Tensor = self.bn(torch.cat([self.conv_1(x[:, :, ::2, ::2]), self.conv_2(shifted)], dim=1))
        return out


class SkipConnect(Op):
    """Identity at stride 1, :class:`FactorizedReduce` at stride 2. ValueError for other channels at stride 1."""

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__()
        self.strided = op_desc.stride > 1
        self.op: Op = FactorizedReduce(op_desc, affine) if self.strided else Identity(op_desc)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out

    def can_drop_path(self) -> bool:
        return self.strided
