"""Dilation-2 depthwise convolution with gradients that are fast on a CPU: the same sums, differently arranged.

torch's CPU backward of a dilated depthwise convolution takes 5 to 50 times as long as that of a dense one. A kernel of
dilation 2 and padding k - 1 reads pixels of one parity only, so

* at stride 2 it is the dense convolution of every second row and column;
* at stride 1 its input gradient is the dilated convolution of the output gradient with the flipped kernel, and its
  weight gradient that of the dense convolution over the four interleaved sub-images stacked along the batch.

Reference test: ``tests/ops/test_dilated.py`` (value, first and second derivatives against ``torch.nn.Conv2d``).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight


class DilatedDepthwiseConv2d(nn.Conv2d):
    """Depthwise convolution of dilation 2, odd kernel size k, padding k - 1, stride 1 or 2, without bias.

    Equal to the ``nn.Conv2d`` of these settings in value and all derivatives, under the same parameter name.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__(
            channels, channels, kernel_size, stride, kernel_size - 1, dilation=2, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``(B, C, H, W)``; gives ``(B, C, ceil(H/S), ceil(W/S))``."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        if self.stride[0] == 2:
            even = x[:, :, ::2, ::2]
            return F.conv2d(even, self.weight, padding=self.padding[0] // 2, groups=self.groups)  # type: ignore[operator]  # never a string here
        if x.shape[2] % 2 or x.shape[3] % 2 or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        out: Tensor = _DilatedDepthwise.apply(x, self.weight)
        return out


class _DilatedDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=weight.shape[2] - 1, dilation=2, groups=x.shape[1])

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # type: ignore[no-untyped-def]  # torch's own context type is private
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[no-untyped-def]  # as above
        # Made of differentiable operations, so that second derivatives come by themselves.
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = F.conv2d(gradient, weight.flip(2, 3), padding=weight.shape[2] - 1, dilation=2, groups=x.shape[1])
        if ctx.needs_input_grad[1]:
            padding = (weight.shape[2] - 1) // 2
            of_weight = conv2d_weight(
                _sub_images(x), weight.shape, _sub_images(gradient), padding=padding, groups=x.shape[1]
            )
        return of_x, of_weight


def _sub_images(x: Tensor) -> Tensor:
    """The four interleaved sub-images of (B, C, H, W), stacked: (4 B, C, H/2, W/2)."""
    return torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])
