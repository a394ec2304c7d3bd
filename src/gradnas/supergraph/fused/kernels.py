"""Operations on M tensors of C channels that lie side by side on the channel axis: (B, M·C, H, W), channels_last.

Each is an equal of a few lines of plain torch whose gradients would copy more. All can be differentiated twice.
Reference test: ``tests/supergraph/fused/test_kernels.py``.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from gradnas.ops.depthwise import depthwise_conv2d

Pair = tuple[int, int]


def separable_conv2d(
    x: Tensor, depthwise: Tensor, pointwise_MOC: Tensor, stride: int, padding: Pair, dilation: int
) -> Tensor:
    """M depthwise convolutions, each followed by its pointwise one.

    Args:
        x: Input of shape (B, C, H, W) for all columns, or (B, M·C, H, W).
        depthwise: Kernels, (M·C, 1, k, k).
        pointwise_MOC: Matrices, (M, O, C).
        stride: 1 or 2.
        padding: Of rows and columns.
        dilation: 1 or 2.

    Returns:
        Tensor of shape (B, M·O, H', W'), channels_last.
    """
    x = x.to(pointwise_MOC.dtype)  # autocast decides the precision of weights; what a norm gave may have another
    wide = repeat_columns(x, len(depthwise) // x.shape[1])
    return grouped_pointwise(depthwise_conv2d(wide, depthwise, stride, padding, dilation), pointwise_MOC)


def grouped_pointwise(x: Tensor, weight_MOC: Tensor) -> Tensor:
    """M pointwise convolutions side by side, as batched matrix products on views of the channels_last tensors.

    Equal to ``F.conv2d(x, weight, groups=M)``, whose CPU input gradient can take several times as long.

    Args:
        x: Input of shape (B, M·C, H, W).
        weight_MOC: Weights of shape (M, O, C).

    Returns:
        Tensor of shape (B, M·O, H, W), channels_last.
    """
    out: Tensor = _GroupedPointwise.apply(x.to(weight_MOC.dtype), weight_MOC)
    return out


def repeat_columns(x: Tensor, columns: int) -> Tensor:
    """``columns`` copies of (B, C, H, W) side by side: (B, columns · C, H, W), channels_last."""
    if columns == 1:
        return x
    out: Tensor = _Repeat.apply(x, columns)
    return out


def sum_columns(x: Tensor, columns: int) -> Tensor:
    """The sum of the ``columns`` tensors that lie side by side: (B, columns · C, H, W) to (B, C, H, W)."""
    if columns == 1:
        return x
    out: Tensor = _SumColumns.apply(x, columns)
    return out


def split_columns(x: Tensor, columns: int) -> tuple[Tensor, ...]:
    """The ``columns`` tensors of (B, C, H, W) that lie side by side, as views."""
    if columns == 1:
        return (x,)
    out: tuple[Tensor, ...] = _Split.apply(x, columns)
    return out


def _rows(x: Tensor, columns: int) -> Tensor:
    """View of a channels_last (B, M·C, H, W) as M matrices of pixels by channels: (M, B·H·W, C)."""
    b, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b * h * w, columns, c // columns).transpose(0, 1)


def _like(x: Tensor, channels: int) -> Tensor:
    b, _, h, w = x.shape
    return torch.empty((b, channels, h, w), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def mixtures(tensors: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Sums of the same K tensors with other weights for each of M edges.

    Args:
        tensors: K tensors of shape (B, C, H, W), channels_last.
        weights: Those of each tensor, (M,), or (B, M) with a row per example.

    Returns:
        M tensors of shape (B, C, H, W).
    """
    dtype = reduce(torch.promote_types, (x.dtype for x in tensors))
    table = torch.stack(list(weights), dim=-1).to(dtype)  # (M, K), or (B, M, K)
    mixed: Tensor = _Mixtures.apply(table.expand(len(tensors[0]), -1, -1), *tensors)
    return [out.permute(0, 3, 1, 2) for out in mixed.unbind(1)]


def _multiply_(out: Tensor, x: Tensor, weight_MOC: Tensor) -> None:
    """Write the grouped pointwise convolution of ``x`` into ``out``."""
    columns = len(weight_MOC)
    torch.bmm(_rows(x, columns), weight_MOC.transpose(1, 2), out=_rows(out, columns))


def _products(gradient: Tensor, x: Tensor, columns: int) -> Tensor:
    """The gradient of the weights of a grouped pointwise convolution, (M, O, C)."""
    return torch.bmm(_rows(gradient, columns).transpose(1, 2), _rows(x, columns))


class _GroupedPointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_MOC: Tensor) -> Tensor:
        needs_x, needs_weight = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_weight else None, weight_MOC if needs_x else None)
        ctx.columns = len(weight_MOC)
        out = _like(x, weight_MOC.shape[0] * weight_MOC.shape[1])
        _multiply_(out, x, weight_MOC)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight_MOC = ctx.saved_tensors
        of_x = grouped_pointwise(gradient, weight_MOC.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        of_weight = _products(gradient, x, ctx.columns) if ctx.needs_input_grad[1] else None
        return of_x, of_weight


def differentiable(
    definition: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    gradient: Tensor | Sequence[Tensor],
) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again, found from the definition."""
    # Of aliases: an input may depend on another one, which is not the business of this operation.
    aliases = [x.view_as(x) for x in inputs]
    wanted = [x for x, need in zip(aliases, needed, strict=True) if need]
    outs = definition(*aliases)
    # What only leads to outputs without a gradient gets zeros, as in the passes that are not differentiated.
    found = iter(torch.autograd.grad(outs, wanted, gradient, create_graph=True, materialize_grads=True))
    return tuple(next(found) if need else None for need in needed)


def _repeated(x: Tensor, copies: int) -> Tensor:
    if copies == 1:
        return x
    b, c, h, w = x.shape
    out = x.permute(0, 2, 3, 1).unsqueeze(3).expand(b, h, w, copies, c).reshape(b, h, w, copies * c)
    return out.permute(0, 3, 1, 2)


def _add_columns_(out: Tensor, wide: Tensor, copies: int) -> None:
    """Write the sum of the columns."""
    first, *others = wide.split(wide.shape[1] // copies, dim=1)
    if not others:
        out.copy_(first)
        return
    torch.add(first, others[0], out=out)
    for other in others[1:]:
        out += other


class _Mixtures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_BMK: Tensor, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(table_BMK, *tensors)
        return _mixed(table_BMK, *tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        table_BMK, *tensors = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiable(_mixed, ctx.saved_tensors, ctx.needs_input_grad, gradient)
        b, k, flat = len(gradient), len(tensors), gradient.flatten(2)  # (B, M, H·W·C)
        of_table = None
        if ctx.needs_input_grad[0]:
            stacked = torch.stack([t.permute(0, 2, 3, 1) for t in tensors], dim=1).flatten(2)
            of_table = torch.bmm(flat, stacked.transpose(1, 2))
        of_tensors: list[Tensor | None] = [None] * k
        if any(ctx.needs_input_grad[1:]):
            # Each gradient in one piece: what comes next, a batch norm above all, is slow on anything else.
            own = gradient.new_empty((k, b, *gradient.shape[2:]))
            torch.bmm(table_BMK.transpose(1, 2), flat, out=own.flatten(2).transpose(0, 1))
            of_tensors = [g.permute(0, 3, 1, 2) for g in own.unbind(0)]
        return of_table, *of_tensors


def _mixed(table_BMK: Tensor, *tensors: Tensor) -> Tensor:
    """The definition; (B, M, H, W, C)."""
    with torch.autocast(table_BMK.device.type, enabled=False):  # the precision is that of the tensors
        stacked = torch.stack([t.permute(0, 2, 3, 1) for t in tensors], dim=1)
        return torch.bmm(table_BMK, stacked.flatten(2)).unflatten(2, stacked.shape[2:])


class _Repeat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: int) -> Tensor:
        ctx.columns = columns
        return _repeated(x, columns)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return sum_columns(gradient, ctx.columns), None


class _SumColumns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: int) -> Tensor:
        ctx.columns = columns
        out = _like(x, x.shape[1] // columns)
        _add_columns_(out, x, columns)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return repeat_columns(gradient, ctx.columns), None


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: int) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.like = x.shape, x.dtype, x.device
        return x.split(x.shape[1] // columns, dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None]:
        out: Tensor = _Join.apply(ctx.like, *gradients)
        return out, None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, like: Any, *parts: Tensor | None) -> Tensor:
        shape, dtype, device = like
        ctx.there = [part is not None for part in parts]
        out = torch.empty(shape, dtype=dtype, device=device, memory_format=torch.channels_last)
        for target, part in zip(out.split(shape[1] // len(parts), dim=1), parts, strict=True):
            if part is None:
                target.zero_()
            else:
                target.copy_(part)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts = split_columns(gradient, len(ctx.there))
        return None, *(part if there else None for part, there in zip(parts, ctx.there, strict=True))
