"""Depthwise convolution whose gradients are fast on a CPU: the same sums, differently arranged.

The forward pass is torch's own. Its CPU backward is fast for some shapes only, so the gradients are brought to those:

* The input gradient at stride 1 is the convolution of the output gradient with the flipped kernel; at stride 2 it is
  the transposed convolution.
* The weight gradient takes oneDNN's depthwise kernel up to a width of 3, whatever the height, if it is not dilated and
  fits into the image. A wider kernel is cut into groups of at most 3 columns, each with the input padded to fit.
* With dilation 2, columns of one parity meet columns of one parity only. In channels_last memory two neighbouring
  columns are one column of twice the channels, without a copy, which takes the dilation out of the width. In the height
  the dense kernel of 2 k - 1 rows is used and every second row kept.
* With dilation 2 and stride 2, only every second row and column of the input is read: a dense convolution of those.

Deviations: none, all derivatives are exact. Reference test: ``tests/ops/test_depthwise.py`` (value, first and second
derivatives against ``torch.nn.functional.conv2d``).
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.nn import functional as F

Pair = tuple[int, int]  # rows, columns


def depthwise_conv2d(
    x: Tensor, weight: Tensor, stride: int | Pair = 1, padding: int | Pair = 0, dilation: int | Pair = 1
) -> Tensor:
    """Convolve every channel with its own kernel: ``conv2d(x, weight, None, stride, padding, dilation, groups=C)``.

    The gradients are rearranged on a CPU in float32 and float64 for dilation 2 or kernels wider than 3, if stride and
    dilation are 1 or 2, the padding at most ``dilation * (k - 1)``, and even if the dilation is 2. The rest is left to
    torch: as fast already (narrow dense kernels), on other devices and within ``torch.func``. Under autocast on a CPU
    the convolution is computed in float32 and its output rounded: torch 2.15 reads memory that it has not written in
    the bfloat16 gradient of a dilated kernel, so that training goes wrong, most times in silence.

    Args:
        x: Input of shape ``(B, C, H, W)``, best in channels_last memory.
        weight: One kernel per channel, shape ``(C, 1, kh, kw)``.
        stride: Of rows and columns.
        padding: Zeros at both ends of rows and columns.
        dilation: Of rows and columns.

    Returns:
        Tensor of shape ``(B, C, H_out, W_out)``, sizes and memory format as of torch's convolution.
    """
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and x.dtype is not torch.float64:
        with torch.autocast("cpu", enabled=False):
            wide = depthwise_conv2d(x.float(), weight.float(), stride, padding, dilation)
        return wide.to(torch.get_autocast_dtype("cpu"))
    if torch.is_grad_enabled() and _is_rearranged(x, weight, stride, padding, dilation):
        out: Tensor = _Depthwise.apply(x, weight, stride[0], padding, dilation[0])
        return out
    return F.conv2d(x, weight, None, stride, padding, dilation, x.shape[-3])


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise convolution without bias: the ``nn.Conv2d`` of these settings, its gradients fast on a CPU."""

    def __init__(
        self,
        channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
    ) -> None:
        super().__init__(channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``(B, C, H, W)``."""
        return depthwise_conv2d(x, self.weight, self.stride, self.padding, self.dilation)  # type: ignore[arg-type]  # pairs here, torch's annotations are wider


def sub_images(x: Tensor) -> Tensor:
    """Take an image apart into its four interleaved ones, (B, C, H, W) -> (4 B, C, H/2, W/2), in channels_last.

    Image ``(2 i + j) B + b`` of the result is ``x[b, :, i::2, j::2]``. A convolution of dilation 2 and even padding p
    is the dense one of padding p/2 on these.

    Raises:
        ValueError: If the height or the width is odd.
    """
    batch, channels, height, width = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"sub-images need an even height and width, got an input of {tuple(x.shape)}. Pad it first.")
    parts = x.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels).permute(2, 4, 0, 1, 3, 5)
    return parts.reshape(4 * batch, height // 2, width // 2, channels).contiguous().permute(0, 3, 1, 2)


def from_sub_images(parts: Tensor) -> Tensor:
    """Put four interleaved images together, (4 B, C, H/2, W/2) -> (B, C, H, W): the inverse of ``sub_images``.

    Raises:
        ValueError: If the batch cannot be divided by four.
    """
    batch, channels, height, width = parts.shape
    if batch % 4:
        raise ValueError(f"expected four sub-images of every image, got a batch of {batch} in {tuple(parts.shape)}.")
    x = parts.permute(0, 2, 3, 1).reshape(2, 2, batch // 4, height, width, channels).permute(2, 3, 0, 4, 1, 5)
    return x.reshape(batch // 4, 2 * height, 2 * width, channels).contiguous().permute(0, 3, 1, 2)


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


def _is_rearranged(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> bool:
    """Whether the gradients have a form here that is faster than torch's."""
    kh, kw = weight.shape[-2:]
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.dim() == 4
        and weight.shape[:2] == (x.shape[1], 1)
        and stride in ((1, 1), (2, 2))
        and (dilation == (2, 2) or (dilation == (1, 1) and kw > 3))
        and 0 <= padding[0] <= dilation[0] * (kh - 1)
        and 0 <= padding[1] <= dilation[1] * (kw - 1)
        and (dilation == (1, 1) or (padding[0] % 2 == 0 and padding[1] % 2 == 0))
        and not torch.is_autocast_enabled("cpu")
        # Left to torch as well: torch.func, and forward mode outside it, for which a custom function needs more.
        and not torch._C._are_functorch_transforms_active()
        and unpack_dual(x).tangent is None
        and unpack_dual(weight).tangent is None
    )


class _Depthwise(torch.autograd.Function):
    # Not in two functions, forward and setup_context: torch then inspects the signature in every call, for 50 µs.
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: Pair, dilation: int) -> Tensor:
        x_needed, weight_needed = ctx.needs_input_grad[:2]
        ctx.save_for_backward(x if weight_needed else None, weight if x_needed else None)
        ctx.x_shape, ctx.weight_shape, ctx.settings = x.shape, weight.shape, (stride, padding, dilation)
        return F.conv2d(x, weight, None, stride, padding, dilation, x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # Made of differentiable operations, so that second derivatives come by themselves.
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                of_x = depthwise_input_gradient(ctx.x_shape, weight, gradient, *ctx.settings)
            if ctx.needs_input_grad[1]:
                of_weight = depthwise_weight_gradient(x, ctx.weight_shape, gradient, *ctx.settings)
        return of_x, of_weight, None, None, None


def depthwise_input_gradient(
    x_shape: torch.Size, weight: Tensor, gradient: Tensor, stride: int, padding: Pair, dilation: int
) -> Tensor:
    """Gradient of :func:`depthwise_conv2d` for an input of this shape, on a CPU; stride and dilation are 1 or 2."""
    rows, columns = x_shape[2:]
    if stride == dilation == 2:
        even_shape = torch.Size((*x_shape[:2], (rows + 1) // 2, (columns + 1) // 2))
        of_even = depthwise_input_gradient(even_shape, weight, gradient, 1, (padding[0] // 2, padding[1] // 2), 1)
        return _spread(of_even)[:, :, :rows, :columns]
    reach = (dilation * (weight.shape[2] - 1), dilation * (weight.shape[3] - 1))
    if stride == 1:
        flipped, rest = weight.flip(2, 3), (reach[0] - padding[0], reach[1] - padding[1])
        return depthwise_conv2d(gradient, flipped, 1, rest, dilation)
    # Rows and columns after the last position of the kernel are not read.
    unread = tuple((size + 2 * p - 1 - r) % 2 for size, p, r in zip((rows, columns), padding, reach, strict=True))
    return F.conv_transpose2d(gradient, weight, None, stride, padding, unread, weight.shape[0])


def depthwise_weight_gradient(
    x: Tensor, shape: torch.Size, gradient: Tensor, stride: int, padding: Pair, dilation: int
) -> Tensor:
    """Gradient of :func:`depthwise_conv2d` for a weight of this shape, on a CPU; stride and dilation are 1 or 2."""
    channels, _, kh, kw = shape
    if dilation == 1:
        return _dense_weight_gradient(x, shape, gradient, stride, padding)
    if stride == 2:
        even = x[:, :, ::2, ::2]
        return _dense_weight_gradient(even, shape, gradient, 1, (padding[0] // 2, padding[1] // 2))
    if x.shape[3] % 2:  # so is the width of the gradient; a column of zeros adds nothing
        x, gradient = F.pad(x, (0, 1)), F.pad(gradient, (0, 1))
    shape = torch.Size((2 * channels, 1, 2 * kh - 1, kw))
    both = _dense_weight_gradient(_paired(x), shape, _paired(gradient), 1, (padding[0], padding[1] // 2))
    return (both[:channels] + both[channels:])[:, :, ::2]


def _dense_weight_gradient(x: Tensor, shape: torch.Size, gradient: Tensor, stride: int, padding: Pair) -> Tensor:
    kh, kw = shape[2:]
    suits = kw <= 3 and x.shape[2] >= kh
    tiny = x.shape[3] + padding[1] < kw - 1  # some columns of the kernel never meet the image
    if suits or tiny:
        return _torch_weight_gradient(x, shape, gradient, stride, padding)
    if kw == 5 and stride == 1 and padding[1] == 2 and x.shape[3] % 2 == 0 and x.shape[3] >= 8:
        return _five_columns(x, shape, gradient, padding[0])
    number = -(-kw // 3)
    cuts = [round(i * kw / number) for i in range(number + 1)]
    # Each padded copy is freed before the next is made; two of them at a time can be several times slower.
    groups = [_columns_gradient(x, kh, first, last, gradient, stride, padding) for first, last in pairwise(cuts)]
    return torch.cat(groups, 3)


def _five_columns(x: Tensor, shape: torch.Size, gradient: Tensor, padding: int) -> Tensor:
    """The weight gradient of a centred kernel of width 5, from two of width 3 and without a padded copy.

    In pairs of columns, a column of the gradient meets, 2 apart, columns of its own parity: kernel columns 0, 2 and 4;
    and 1 apart those of the other one: 1 and 3.
    """
    channels, _, kh, _ = shape
    of_pairs = torch.Size((2 * channels, 1, kh, 3))
    pairs, gradients = _paired(x), _paired(gradient)
    exchanged = torch.cat([pairs[:, channels:], pairs[:, :channels]], dim=1)
    same = _torch_weight_gradient(pairs, of_pairs, gradients, 1, (padding, 1))
    other = _torch_weight_gradient(exchanged, of_pairs, gradients, 1, (padding, 1))
    even = same[:channels] + same[channels:]
    odd = other[:channels, :, :, :2] + other[channels:, :, :, 1:]
    zero, two, four = even.unbind(3)
    one, three = odd.unbind(3)
    return torch.stack([zero, one, two, three, four], dim=3)


def _columns_gradient(
    x: Tensor, kh: int, first: int, last: int, gradient: Tensor, stride: int, padding: Pair
) -> Tensor:
    """The weight gradient of kernel columns ``first`` to ``last - 1``, from exactly the pixels these columns read."""
    left, top = padding[1] - first, padding[0]
    right = stride * (gradient.shape[3] - 1) + last - first - x.shape[3] - left
    bottom = stride * (gradient.shape[2] - 1) + kh - x.shape[2] - top
    read = F.pad(x, (left, right, top, bottom))
    return _torch_weight_gradient(read, torch.Size((x.shape[1], 1, kh, last - first)), gradient, stride, (0, 0))


def _torch_weight_gradient(x: Tensor, shape: torch.Size, gradient: Tensor, stride: int, padding: Pair) -> Tensor:
    """What ``torch.nn.grad.conv2d_weight`` computes, without its detour over an expanded weight, which is copied."""
    weight = gradient.new_empty(shape)
    wanted = [False, True, False]
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride, stride], list(padding), [1, 1], False, [0, 0], shape[0], wanted
    )[1]


def _paired(x: Tensor) -> Tensor:
    """Two neighbouring columns as one of twice the channels, (B, C, H, W) -> (B, 2 C, H, W/2), a view in channels_last.

    Channel ``j C + c`` of the result holds columns ``j::2`` of channel c.
    """
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height, width // 2, 2 * channels).permute(0, 3, 1, 2)


def _spread(x: Tensor) -> Tensor:
    """Zeros between the pixels, (B, C, H, W) -> (B, C, 2 H, 2 W): the adjoint of taking every second row and column."""
    batch, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height, 1, width, 1, channels)
    spread = F.pad(pixels, (0, 0, 0, 1, 0, 0, 0, 1))
    return spread.reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
