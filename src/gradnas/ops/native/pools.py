"""A state and its pools, with batch norm behind them, times mixing weights.

Reference test: ``tests/ops/native/test_pools.py`` (all shapes against torch in float64).
Shape suffixes: B images, M columns, C channels.
"""

import ctypes
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from gradnas.ops.native.calling import addresses, call, image_addresses, numbers
from gradnas.ops.native.columns import Kept, NormWeights, check_norms, filled_places, refuse_one_value, room_for


class PoolKind(IntEnum):
    """What a pool takes of its window."""

    IDENTITY = 0
    MAXIMUM = 1
    AVERAGE = 2


class Pool(NamedTuple):
    """M columns that share a pool, and may have norms of their own.

    Attributes:
        kind: Averages are over those pixels of a window that lie in the image.
        size: Side of the window; 1 for the identity.
        stride: From window to window.
        padding: At each end of rows and columns.
        normed: Whether there are norms.
        eps: Added to variances.
        momentum: Share of a batch in the running statistics.
        places: To which output each column is added.
        known: Whether norms use the running statistics.
    """

    kind: PoolKind
    size: int
    stride: int
    padding: int
    normed: bool
    eps: float
    momentum: float
    places: tuple[int, ...]
    known: bool = False


class _Pool(ctypes.Structure):
    """``Pool`` of ``pools.c``."""

    _fields_ = (
        *(
            (name, ctypes.c_longlong)
            for name in (
                *("batch", "height", "width", "channels", "out_h", "out_w", "kind", "size", "stride", "padding"),
                *("columns", "mixing_row", "normed", "known"),
            )
        ),
        ("eps", ctypes.c_double),
        ("momentum", ctypes.c_double),
    )


def native_pool(
    x: Tensor, mixing: Tensor, weights: Sequence[NormWeights], how: Pool, outs: Sequence[Tensor | None]
) -> tuple[list[Tensor | None], Kept]:
    """Pool, normalize and add up, times mixing weights; without a graph.

    Running statistics that columns bring move, unless they are ``known``.

    Args:
        x: Input, (B, C, H, W).
        mixing: (M,), or (B, M) with a row per example.
        weights: Those of each column.
        how: The rest.
        outs: For each place what to add to, in place, (B, C, H', W') in channels_last, or None for a new tensor.

    Returns:
        The outputs, channels_last, None where no column goes; and what the gradients need.

    Raises:
        ValueError: For sizes that do not go together.
    """
    images, sizes = _prepared(x, mixing, weights, how)
    shape = len(x), x.shape[1], sizes.out_h, sizes.out_w
    filled = filled_places(outs, how.places, shape, x.dtype)
    kept = images
    if how.kind is not PoolKind.IDENTITY:
        kept = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    moments = x.new_empty((len(weights), 2, x.shape[1]), dtype=torch.float64)
    adds = numbers([out is not None for out in outs])
    given = [w for own in weights for w in own]
    arguments = (sizes, numbers(how.places), adds, addresses(given, x.dtype), images, mixing.contiguous())
    call("pool", x.dtype, (*arguments, kept, moments, image_addresses(filled, shape, x.dtype)), threads=True)
    return filled, (kept, moments)


def native_pool_gradients(
    x: Tensor,
    mixing: Tensor,
    weights: Sequence[NormWeights],
    how: Pool,
    kept: Kept,
    gradients: Sequence[Tensor | None],
    *,
    wanted: Sequence[bool],
    of_x: Tensor | None = None,
    for_x: bool = True,
    for_mixing: bool = True,
) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
    """Gradients of :func:`native_pool`.

    Args:
        x: As it was given, like mixing, weights and ``how``.
        mixing: See x.
        weights: See x.
        how: See x.
        kept: What it returned.
        gradients: Of the outputs, channels_last; None for 0.
        wanted: Whether those of each column's scale and shift are wanted.
        of_x: What to add the gradient of x to, in place, channels_last; None for a new tensor.
        for_x: Whether the gradient of x is wanted.
        for_mixing: Whether the one of the mixing weights is.

    Returns:
        Gradients of x, of mixing, and of the weights; None for those not wanted.
    """
    images, sizes = _prepared(x, mixing, weights, how)
    over = of_x is not None
    if for_x and of_x is None:
        of_x = torch.empty_like(images)
    image_addresses([of_x], x.shape, x.dtype)
    of_mixing = torch.empty_like(mixing, memory_format=torch.contiguous_format) if for_mixing else None
    learned = [w for own in weights for w in own[:2]]
    found = room_for(wanted, learned)
    given = addresses([w for own in weights for w in own], x.dtype)
    above = image_addresses(gradients, (len(x), x.shape[1], sizes.out_h, sizes.out_w), x.dtype)
    pooled, moments = kept[0].contiguous(memory_format=torch.channels_last), kept[1]
    arguments = (sizes, numbers(how.places), given, images, mixing.contiguous(), pooled, moments, above)
    rest = (of_x if for_x else None, ctypes.c_longlong(over), of_mixing, addresses(found, x.dtype))
    call("pool_gradients", x.dtype, (*arguments, *rest), threads=True)
    return of_x if for_x else None, of_mixing, found


def _prepared(x: Tensor, mixing: Tensor, weights: Sequence[NormWeights], how: Pool) -> tuple[Tensor, _Pool]:
    columns = len(how.places)
    channels, height, width = x.shape[1:]
    out_h, out_w = ((side + 2 * how.padding - how.size) // how.stride + 1 for side in (height, width))
    if len(weights) != columns or mixing.shape not in ((columns,), (len(x), columns)):
        raise ValueError(
            f"{columns} columns need as many mixing weights and norms, got {mixing.shape[-1]} and {len(weights)}."
        )
    check_norms(weights, channels, known=how.known)
    if min(out_h, out_w, how.stride) < 1 or how.padding > how.size // 2:
        raise ValueError(
            f"a window of {how.size}, padded by at most half of it, must fit into the image, got "
            f"padding={how.padding}, stride={how.stride} and an image of {height}x{width}."
        )
    if how.kind is PoolKind.IDENTITY and (how.size, how.stride, how.padding) != (1, 1, 0):
        raise ValueError(
            f"the identity has size 1, stride 1 and no padding, got {how.size}, {how.stride} and {how.padding}."
        )
    if how.normed and not how.known:
        refuse_one_value(len(x), out_h, out_w)
    sizes = (len(x), height, width, channels, out_h, out_w, how.kind, how.size, how.stride, how.padding)
    mixing_row = columns if mixing.dim() == 2 else 0
    images = x.contiguous(memory_format=torch.channels_last)
    return images, _Pool(*sizes, columns, mixing_row, how.normed, how.known, how.eps, how.momentum)
