"""Chains of separable convolutions and norms, side by side, computed image by image within the cache of a core.

Reference test: ``tests/ops/native/test_chains.py`` (all shapes against torch in float64).
Shape suffixes: B images, M columns, J places that columns go to, C channels into and O out of a column.
"""

import ctypes
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradnas.ops.native.calling import addresses, aligned, call, image_addresses, numbers
from gradnas.ops.native.columns import Kept, check_norms, filled_places, refuse_one_value, room_for

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
    prepared = _prepare(x, mixing, weights, how)
    images = x.contiguous(memory_format=torch.channels_last)
    filled = filled_places(outs, how.places, prepared.shape, x.dtype)
    raw = x.new_empty(prepared.kept[0])
    moments = x.new_empty(prepared.kept[1], dtype=torch.float64)
    adds, out_addresses = numbers([out is not None for out in outs]), image_addresses(filled, prepared.shape, x.dtype)
    given = addresses([w for own in weights for w in own], x.dtype)
    arguments = (prepared.sizes, prepared.stages, prepared.places, adds, prepared.sides, given, images)
    call("chains", x.dtype, (*arguments, mixing.contiguous(), raw, moments, out_addresses), threads=True)
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
    prepared = _prepare(x, mixing, weights, how)
    images = x.contiguous(memory_format=torch.channels_last)
    raw, moments = aligned(kept[0]), kept[1]
    over = of_x is not None
    if for_x and of_x is None:
        of_x = torch.empty_like(images)
    image_addresses([of_x], x.shape, x.dtype)
    of_mixing = torch.empty_like(mixing, memory_format=torch.contiguous_format) if for_mixing else None
    found = room_for(wanted, [w for own in weights for w in own[:4]])
    given = addresses([w for own in weights for w in own], x.dtype)
    arguments = (prepared.sizes, prepared.stages, prepared.places, prepared.sides, given, images)
    rest = (mixing.contiguous(), raw, moments, image_addresses(gradients, prepared.shape, x.dtype))
    between = raw.new_empty(prepared.kept[2])
    results = (of_x if for_x else None, ctypes.c_longlong(over), of_mixing, addresses(found, x.dtype))
    call("chains_gradients", x.dtype, (*arguments, *rest, between, *results), threads=True)
    return of_x if for_x else None, of_mixing, found


class _Prepared(NamedTuple):
    """What does not depend on numbers: arguments of the functions, the shape of the outputs, sizes of what is kept."""

    sizes: _Chains
    stages: ctypes.Array[_Stage]
    places: ctypes.Array[Any]
    sides: ctypes.Array[Any]
    shape: tuple[int, ...]
    kept: tuple[int, ...]  # numbers: of the results, of moments, of the results but for the last stage


def _prepare(x: Tensor, mixing: Tensor, weights: Sequence[StageWeights], how: Chains) -> _Prepared:
    kernels, matrices = tuple(w.kernel.shape for w in weights), tuple(w.matrix.shape for w in weights)
    prepared = _prepared(x.dtype, x.shape, mixing.shape, kernels, matrices, how)
    columns = len(how.places)
    for i, stage in enumerate(prepared.stages):
        check_norms(weights[i * columns : (i + 1) * columns], stage.outputs, known=how.known)
    return prepared


@functools.lru_cache(maxsize=1024)
def _prepared(
    dtype: torch.dtype,
    images: torch.Size,
    mixing: torch.Size,
    kernels: tuple[torch.Size, ...],
    matrices: tuple[torch.Size, ...],
    how: Chains,
) -> _Prepared:
    columns = len(how.places)
    if len(kernels) != columns * len(how.stages) or mixing not in ((columns,), (images[0], columns)):
        raise ValueError(
            f"{columns} columns of {len(how.stages)} stages need as many sets of weights, got {len(kernels)}, and a "
            f"mixing weight for each column, or each image and column, got {tuple(mixing)}."
        )
    stages = (_Stage * len(how.stages))()
    batch, channels, height, width = images
    for i, stage in enumerate(how.stages):
        own = slice(i * columns, (i + 1) * columns)
        outputs = matrices[own][0][0]
        expected = outputs, channels, 1, 1
        if any(k[:2] != (channels, 1) for k in kernels[own]) or any(m != expected for m in matrices[own]):
            raise ValueError(
                f"stage {i} takes {channels} channels and gives {outputs} in all columns, got kernels of "
                f"{[tuple(k) for k in kernels[own]]} and matrices of {[tuple(m) for m in matrices[own]]}."
            )
        kernel, stride, padding, dilation = stage[:4]
        sides = ((k[axis], kernel[axis - 2]) for k in kernels[own] for axis in (2, 3))
        if any(side > largest or (largest - side) % 2 for side, largest in sides):
            raise ValueError(f"kernels must fit into the middle of one of {kernel}, got {[*map(tuple, kernels[own])]}.")
        out_h = (height + 2 * padding[0] - dilation * (kernel[0] - 1) - 1) // stride + 1
        out_w = (width + 2 * padding[1] - dilation * (kernel[1] - 1) - 1) // stride + 1
        if stride not in (1, 2) or dilation not in (1, 2) or min(out_h, out_w) < 1:
            raise ValueError(
                f"stride and dilation must be 1 or 2 and the kernel must fit, got stride={stride}, "
                f"dilation={dilation}, a kernel of {kernel} and an image of {height}x{width} with "
                f"padding={tuple(padding)}."
            )
        if not how.known:
            refuse_one_value(batch, out_h, out_w)
        sizes = (height, width, channels, out_h, out_w, outputs, *kernel, stride, *padding, dilation)
        stages[i] = _Stage(*sizes, stage.eps, stage.momentum)
        channels, height, width = outputs, out_h, out_w
    chains = _Chains(batch, columns, len(how.stages), columns if len(mixing) == 2 else 0, how.relu, how.known)
    kept = numbers([0, 0, 0])
    call("chains_sizes", dtype, (chains, stages, kept))
    places, all_sides = numbers(how.places), numbers([side for k in kernels for side in k[2:]])
    return _Prepared(chains, stages, places, all_sides, (batch, channels, height, width), tuple(kept))
