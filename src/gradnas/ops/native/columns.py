"""What operations on columns have in common: norms, and places that columns are added to."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class NormWeights(NamedTuple):
    """What the norm of one column has.

    Attributes:
        scale: (C,), or None for 1.
        shift: (C,), or None for 0.
        mean: Running mean, (C,), which moves or is used; None for neither.
        variance: Running variance.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    mean: Tensor | None = None
    variance: Tensor | None = None


Kept = tuple[Tensor, Tensor]
"""What gradients need: results before the norms, and moments in float64."""


def filled_places(
    outs: Sequence[Tensor | None], places: Iterable[int], shape: tuple[int, ...], dtype: torch.dtype
) -> list[Tensor | None]:
    """The outputs with a new tensor for each place that has none and gets something.

    Raises:
        ValueError: If a place has a tensor of another shape.
    """
    filled = list(outs)
    for place in {*places}:
        out = filled[place]
        if out is None:
            filled[place] = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
        elif out.shape != shape:
            raise ValueError(f"what is added up must have one shape, got {tuple(out.shape)} and {shape}.")
    return filled


def room_for(wanted: Sequence[bool], weights: Sequence[Tensor | None]) -> list[Tensor | None]:
    """A tensor for each gradient that is wanted."""
    pairs = zip(weights, wanted, strict=True)
    return [
        torch.empty_like(w, memory_format=torch.contiguous_format) if want and w is not None else None
        for w, want in pairs
    ]


def refuse_one_value(images: int, out_h: int, out_w: int) -> None:
    """Raise a ValueError if a batch has but one value per channel, which has no variance."""
    if images * out_h * out_w == 1:
        raise ValueError(
            f"a batch norm in training needs more than one value per channel, got one image of {out_h}x{out_w}."
        )


class _Normed(Protocol):
    @property
    def scale(self) -> Tensor | None: ...
    @property
    def shift(self) -> Tensor | None: ...
    @property
    def mean(self) -> Tensor | None: ...
    @property
    def variance(self) -> Tensor | None: ...


def check_norms(weights: Sequence[_Normed], channels: int, *, known: bool) -> None:
    """Raise a ValueError if norms have other numbers of channels, or statistics are missing that are to be used."""
    for own in weights:
        vectors = (own.scale, own.shift, own.mean, own.variance)
        if any(t is not None and t.numel() != channels for t in vectors):
            sizes = [None if t is None else t.numel() for t in vectors]
            raise ValueError(f"a norm of {channels} channels needs as many of each weight and statistic, got {sizes}.")
        if (own.mean is None) != (own.variance is None) or (known and own.mean is None):
            raise ValueError("norms of known statistics need a running mean and variance in every column.")
