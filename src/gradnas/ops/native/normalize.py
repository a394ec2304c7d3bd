"""Batch norm by the statistics of the batch, with a ReLU or sums of columns behind it, and its gradients.

Reference test: ``tests/ops/native/test_normalize.py`` (against torch in float64).
Shape suffixes: B images, M columns of C channels, J places that columns go to.
"""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from gradnas.ops.native.calling import call


class _Norms(ctypes.Structure):
    """``Norms`` of ``normalize.c``."""

    _fields_ = (
        *((name, ctypes.c_longlong) for name in ("images", "pixels", "columns", "channels", "places")),
        ("relu", ctypes.c_int),
        ("eps", ctypes.c_double),
    )


class Normalizing(NamedTuple):
    """How to normalize.

    Attributes:
        eps: Added to the variance.
        relu: max(0, ·) of the result; not with sums.
        columns: M. With one column nothing is added up.
        places: J, a divisor of M: column m is added to place m modulo J.
    """

    eps: float
    relu: bool = False
    columns: int = 1
    places: int = 1


Moments = tuple[Tensor, Tensor]
"""Mean and biased variance of the channels of a batch, in float64."""


def native_normalize(
    x: Tensor, scale: Tensor | None, shift: Tensor | None, how: Normalizing
) -> tuple[Tensor, Moments, Tensor]:
    """Normalize each channel over the batch; without a graph.

    Args:
        x: Input, (B, M·C, H, W), channels_last.
        scale: (M·C,), or None for 1.
        shift: (M·C,), or None for 0.
        how: The rest.

    Returns:
        The result, (B, J·C, H, W), channels_last; the moments of the batch; mean and unbiased variance, (2, M·C).
    """
    width = x.shape[1]
    size = (len(x), width // how.columns * how.places, *x.shape[2:])
    out = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
    mean, variance = torch.empty((2, width), dtype=torch.float64).unbind(0)
    moving = x.new_empty((2, width))
    call("normalize", x.dtype, _norms(x, how), [x, *_vectors(scale, shift), out, moving], [mean, variance])
    return out, (mean, variance), moving


def native_normalize_gradients(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    moments: Moments,
    gradient: Tensor,
    how: Normalizing,
    *,
    of_input: bool = True,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of :func:`native_normalize` for x (unless not wanted), scale and shift.

    Args:
        x: As it was given, like scale, shift and ``how``.
        scale: See x.
        shift: See x.
        moments: Those that it returned.
        gradient: Of the result.
        how: See x.
        of_input: Whether the gradient of x is wanted.
    """
    of_x = torch.empty_like(x) if of_input else None
    of_scale, of_shift = x.new_empty((2, x.shape[1])).unbind(0)
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    tensors = [x, *_vectors(scale, shift), gradient, of_x, of_scale, of_shift]
    call("normalize_gradients", x.dtype, _norms(x, how), tensors, moments)
    return of_x, of_scale, of_shift


def _vectors(*given: Tensor | None) -> list[Tensor | None]:
    return [None if vector is None else vector.contiguous() for vector in given]


def _norms(x: Tensor, how: Normalizing) -> _Norms:
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert how.columns % how.places == 0 and not (how.relu and how.places < how.columns)
    pixels = x.shape[2] * x.shape[3]
    return _Norms(len(x), pixels, how.columns, x.shape[1] // how.columns, how.places, how.relu, how.eps)
