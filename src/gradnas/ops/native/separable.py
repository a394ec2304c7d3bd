"""Separable convolutions and their gradients, computed image by image within the cache of a core.

Reference test: ``tests/ops/native/test_separable.py`` (all shapes against torch in float64).
Shape suffixes: B images, M columns, C channels into and O out of each.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from gradnas.ops.native.calling import call

Pair = tuple[int, int]


class _Shape(ctypes.Structure):
    """``Shape`` of ``separable.c``."""

    _fields_ = tuple(
        (name, ctypes.c_longlong)
        for name in (
            *("batch", "height", "width", "channels_in", "columns", "channels", "outputs"),
            *("kernel_h", "kernel_w", "stride", "pad_h", "pad_w", "dilation", "out_h", "out_w"),
        )
    )


def native_separable(
    x: Tensor, depthwise: Tensor, pointwise_MOC: Tensor, stride: int, padding: Pair, dilation: int
) -> Tensor:
    """M depthwise convolutions, each followed by its pointwise one; without a graph.

    Args:
        x: Input, (B, M·C, H, W), or (B, n·C, H, W) with n a divisor of M: column m reads columns m modulo n.
        depthwise: Kernels, (M·C, 1, kh, kw).
        pointwise_MOC: Matrices, (M, O, C).
        stride: 1 or 2.
        padding: Of rows and columns.
        dilation: 1 or 2.

    Returns:
        Tensor of shape (B, M·O, H', W'), channels_last.

    Raises:
        ValueError: For sizes that do not go together.
    """
    shape = _shape(x, depthwise, pointwise_MOC, stride, padding, dilation)
    size = (len(x), shape.columns * shape.outputs, shape.out_h, shape.out_w)
    out = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
    images = x.contiguous(memory_format=torch.channels_last)
    call("separable", x.dtype, shape, [images, depthwise.contiguous(), pointwise_MOC.contiguous(), out])
    return out


def native_separable_gradients(
    x: Tensor,
    depthwise: Tensor,
    pointwise_MOC: Tensor,
    gradient: Tensor,
    stride: int,
    padding: Pair,
    dilation: int,
    needed: Sequence[bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of :func:`native_separable` for its input, kernels and matrices; None for those not ``needed``."""
    shape = _shape(x, depthwise, pointwise_MOC, stride, padding, dilation)
    images = x.contiguous(memory_format=torch.channels_last)
    # Those of the weights for each image: their sum does not depend on the number of threads.
    of_x = torch.empty_like(images) if needed[0] else None
    of_depthwise = depthwise.new_empty((len(x), *depthwise.shape)) if needed[1] else None
    of_pointwise = depthwise.new_empty((len(x), *pointwise_MOC.shape)) if needed[2] else None
    given = [images, depthwise.contiguous(), pointwise_MOC.contiguous()]
    given.append(gradient.contiguous(memory_format=torch.channels_last))
    call("separable_gradients", x.dtype, shape, [*given, of_x, of_depthwise, of_pointwise])
    return (
        of_x,
        None if of_depthwise is None else of_depthwise.sum(0),
        None if of_pointwise is None else of_pointwise.sum(0),
    )


def _shape(x: Tensor, depthwise: Tensor, pointwise_MOC: Tensor, stride: int, padding: Pair, dilation: int) -> _Shape:
    columns, outputs, channels = pointwise_MOC.shape
    height, width = x.shape[2:]
    kh, kw = depthwise.shape[2:]
    out_h = (height + 2 * padding[0] - dilation * (kh - 1) - 1) // stride + 1
    out_w = (width + 2 * padding[1] - dilation * (kw - 1) - 1) // stride + 1
    if len(depthwise) != columns * channels or x.shape[1] % channels or columns * channels % x.shape[1]:
        raise ValueError(
            f"{columns} columns of {channels} channels need as many kernels, got {len(depthwise)}, and an input whose "
            f"channels are those of some columns that repeat, got {x.shape[1]}."
        )
    if stride not in (1, 2) or dilation not in (1, 2) or min(out_h, out_w) < 1:
        raise ValueError(
            f"stride and dilation must be 1 or 2 and the kernel must fit, got stride={stride}, dilation={dilation}, "
            f"a kernel of {kh}x{kw} and an image of {height}x{width} with padding={tuple(padding)}."
        )
    sizes = (columns, channels, outputs, kh, kw, stride, *padding, dilation, out_h, out_w)
    return _Shape(len(x), height, width, x.shape[1], *sizes)
