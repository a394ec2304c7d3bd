"""Chains of separable convolutions and norms, side by side, computed image by image within the cache of a core.

Reference test: ``tests/ops/native/test_chains.py`` (all shapes against torch in float64).
Shape suffixes: B images, M columns, J places that columns go to, C channels into and O out of a column.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradnas.ops.native.calling import addresses, call, numbers
from gradnas.ops.native.columns import Kept, filled_places, refuse_one_value, refuse_unknown, room_for

Pair = tuple[int, int]


class ChainStage(NamedTuple):
    """A depthwise convolution, a pointwise one and a batch norm, of all columns.

    Attributes:
        kernel: Rows and columns of the largest kernel; smaller ones share its centre.
        stride: 1 or 2.
        padding: Of rows and columns, for the largest kernel.
        dilation: 1 or 2.
        eps: Added to variances.
        momentum: Share of a batch in the running statistics.
    """

    kernel: Pair
    stride: int
    padding: Pair
    dilation: int
    eps: float
    momentum: float


class StageWeights(NamedTuple):
    """What one column has in one stage.

    Attributes:
        kernel: Of the depthwise convolution, (C, 1, kh, kw).
        matrix: Of the pointwise one, (O, C, 1, 1).
        scale: Of the norm, (O,), or None for 1.
        shift: (O,), or None for 0.
        mean: Running mean, (O,), which moves or is used; None for neither.
        variance: Running variance.
    """

    kernel: Tensor
    matrix: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None
    mean: Tensor | None = None
    variance: Tensor | None = None


class Chains(NamedTuple):
    """M chains that read one input.

    Attributes:
        stages: What all of them do; a ReLU lies between stages.
        places: To which output each column is added.
        relu: Whether the input goes through a ReLU first.
        known: Whether norms use the running statistics.
    """

    stages: tuple[ChainStage, ...]
    places: tuple[int, ...]
    relu: bool
    known: bool = False


class _Stage(ctypes.Structure):
    """``Stage`` of ``chains.c``."""

    _fields_ = (
        *(
            (name, ctypes.c_longlong)
            for name in (
                *("height", "width", "channels", "out_h", "out_w", "outputs"),
                *("kernel_h", "kernel_w", "stride", "pad_h", "pad_w", "dilation"),
            )
        ),
        ("eps", ctypes.c_double),
        ("momentum", ctypes.c_double),
    )


class _Chains(ctypes.Structure):
    """``Chains`` of ``chains.c``."""

    _fields_ = tuple(
        (name, ctypes.c_longlong) for name in ("batch", "columns", "stages", "mixing_row", "relu", "known")
    )


def native_chains(
    x: Tensor, mixing: Tensor, weights: Sequence[StageWeights], how: Chains, outs: Sequence[Tensor | None]
) -> tuple[list[Tensor | None], Kept]:
    """Run the chains and add them up, times their mixing weights; without a graph.

    Running statistics that columns bring move, unless they are ``known``.

    Args:
        x: Input, (B, C, H, W).
        mixing: (M,), or (B, M) with a row per example.
        weights: Those of all columns in the first stage, then the next.
        how: The rest.
        outs: For each place what to add to, in place, (B, O, H', W') in channels_last, or None for a new tensor.

    Returns:
        The outputs, channels_last, None where no column goes; and what the gradients need.

    Raises:
        ValueError: For sizes that do not go together.
    """
    stages = _stages(x, mixing, weights, how)
    images = x.contiguous(memory_format=torch.channels_last)
    shape = len(x), stages[-1].outputs, stages[-1].out_h, stages[-1].out_w
    filled = filled_places(outs, how.places, shape, x.dtype)
    sizes = _sizes(x, mixing, how)
    needed = numbers([0, 0])
    call("chains_sizes", x.dtype, (sizes, stages, needed))
    raw, moments = x.new_empty(needed[0]), x.new_empty(needed[1], dtype=torch.float64)
    adds = numbers([out is not None for out in outs])
    arguments = (sizes, stages, numbers(how.places), adds, _sides(weights), _given(weights, x.dtype), images)
    call("chains", x.dtype, (*arguments, mixing.contiguous(), raw, moments, addresses(filled, x.dtype)), threads=True)
    return filled, (raw, moments)


def native_chains_gradients(
    x: Tensor,
    mixing: Tensor,
    weights: Sequence[StageWeights],
    how: Chains,
    kept: Kept,
    gradients: Sequence[Tensor | None],
    *,
    wanted: Sequence[bool],
    of_x: Tensor | None = None,
    for_x: bool = True,
    for_mixing: bool = True,
) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
    """Gradients of :func:`native_chains`.

    Args:
        x: As it was given, like mixing, weights and ``how``.
        mixing: See x.
        weights: See x.
        how: See x.
        kept: What it returned.
        gradients: Of the outputs, channels_last; None for 0.
        wanted: Whether those of each stage's and column's kernel, matrix, scale and shift are wanted.
        of_x: What to add the gradient of x to, in place, channels_last; None for a new tensor.
        for_x: Whether the gradient of x is wanted.
        for_mixing: Whether the one of the mixing weights is.

    Returns:
        Gradients of x, of mixing, and of the weights; None for those not wanted.
    """
    stages = _stages(x, mixing, weights, how)
    images = x.contiguous(memory_format=torch.channels_last)
    raw, moments = kept
    over = of_x is not None
    if for_x and of_x is None:
        of_x = torch.empty_like(images)
    of_mixing = torch.empty_like(mixing, memory_format=torch.contiguous_format) if for_mixing else None
    learned = [w for own in weights for w in own[:4]]
    found = room_for(wanted, learned)
    sizes, given = _sizes(x, mixing, how), _given(weights, x.dtype)
    arguments = (sizes, stages, numbers(how.places), _sides(weights), given, images, mixing.contiguous(), raw, moments)
    between = raw.new_empty(raw.numel() if len(how.stages) > 1 else 0)
    rest = (of_x if for_x else None, ctypes.c_longlong(over), of_mixing, addresses(found, x.dtype))
    call("chains_gradients", x.dtype, (*arguments, addresses(gradients, x.dtype), between, *rest), threads=True)
    return of_x if for_x else None, of_mixing, found


def _given(weights: Sequence[StageWeights], dtype: torch.dtype) -> ctypes.Array[Any]:
    return addresses([w for own in weights for w in own], dtype)


def _sides(weights: Sequence[StageWeights]) -> ctypes.Array[ctypes.c_longlong]:
    return numbers([side for own in weights for side in own.kernel.shape[2:]])


def _sizes(x: Tensor, mixing: Tensor, how: Chains) -> _Chains:
    columns = len(how.places)
    return _Chains(len(x), columns, len(how.stages), columns if mixing.dim() == 2 else 0, how.relu, how.known)


def _stages(x: Tensor, mixing: Tensor, weights: Sequence[StageWeights], how: Chains) -> ctypes.Array[_Stage]:
    columns = len(how.places)
    if len(weights) != columns * len(how.stages) or mixing.shape[-1] != columns:
        raise ValueError(
            f"{columns} columns of {len(how.stages)} stages need as many sets of weights, got {len(weights)}, "
            f"and a mixing weight for each column, got {mixing.shape[-1]}."
        )
    refuse_unknown(weights, known=how.known)
    stages = (_Stage * len(how.stages))()
    channels, height, width = x.shape[1:]
    for i, stage in enumerate(how.stages):
        own = weights[i * columns : (i + 1) * columns]
        outputs = len(own[0].matrix)
        if any(len(w.kernel) != channels or w.matrix.shape[:2] != (outputs, channels) for w in own):
            raise ValueError(
                f"stage {i} takes {channels} channels and gives {outputs} in all columns, got kernels of "
                f"{[tuple(w.kernel.shape) for w in own]} and matrices of {[tuple(w.matrix.shape) for w in own]}."
            )
        kernel, stride, padding, dilation = stage[:4]
        if any(
            side > largest or (largest - side) % 2
            for w in own
            for side, largest in zip(w.kernel.shape[2:], kernel, strict=True)
        ):
            raise ValueError(
                f"kernels must fit into the middle of one of {kernel}, got {[tuple(w.kernel.shape) for w in own]}."
            )
        out_h = (height + 2 * padding[0] - dilation * (kernel[0] - 1) - 1) // stride + 1
        out_w = (width + 2 * padding[1] - dilation * (kernel[1] - 1) - 1) // stride + 1
        if stride not in (1, 2) or dilation not in (1, 2) or min(out_h, out_w) < 1:
            raise ValueError(
                f"stride and dilation must be 1 or 2 and the kernel must fit, got stride={stride}, "
                f"dilation={dilation}, a kernel of {kernel} and an image of {height}x{width} with "
                f"padding={tuple(padding)}."
            )
        if not how.known:
            refuse_one_value(len(x), out_h, out_w)
        sizes = (height, width, channels, out_h, out_w, outputs, *kernel, stride, *padding, dilation)
        stages[i] = _Stage(*sizes, stage.eps, stage.momentum)
        channels, height, width = outputs, out_h, out_w
    return stages
