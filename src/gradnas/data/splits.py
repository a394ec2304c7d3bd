"""A seeded split into a training and a validation part that keeps the class balance."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from gradnas.foundation.seeds import generator


def stratified_split(labels: Tensor, val_ratio: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Split sample positions so that each class is divided as nearly as possible in the given ratio.

    Overall, training gets ``floor(n * (1 - val_ratio))`` samples and validation the rest. The product is exact in the
    decimal digits of ``val_ratio``: 100 samples and 0.9 give 10 and 90, although ``1 - 0.9`` is below 0.1 in floating
    point. Each class gives validation its share rounded up or down, up where most was lost by rounding.

    Args:
        labels: Shape ``(n,)``, int64, on any device.
        val_ratio: Share of the validation part, at least 0 and below 1; 0 leaves it empty.
        seed: Seed of the run; the purpose is ``"split"``. The same on every machine and for every rank.

    Returns:
        Train and validation positions, sorted int64 on the CPU, disjoint, together ``0..n-1``.

    Raises:
        ValueError: If the labels are not an int64 vector, the ratio is outside 0 <= r < 1, or nothing would be left
            for training.
    """
    if labels.ndim != 1 or labels.dtype != torch.int64 or len(labels) == 0:
        raise ValueError(
            f"labels must be a non-empty int64 tensor of shape (n,), got {tuple(labels.shape)} {labels.dtype}."
        )
    if not 0 <= val_ratio < 1:
        raise ValueError(f"val_ratio is the share held out for validation, 0 <= val_ratio < 1, got {val_ratio}.")
    n_samples = len(labels)
    ratio = Fraction(repr(float(val_ratio)))
    n_val = n_samples - math.floor(n_samples * (1 - ratio))
    if n_val == n_samples:
        raise ValueError(
            f"val_ratio={val_ratio} of {n_samples} samples leaves none for training. Lower val_ratio or use more data."
        )
    shuffled = torch.randperm(n_samples, generator=generator(seed, "split"))
    shuffled_labels = labels.cpu()[shuffled]
    # Stable: within a class the shuffled order survives, so its first members are a random choice.
    by_class = shuffled[shuffled_labels.sort(stable=True).indices]
    sizes = torch.unique(labels.cpu(), return_counts=True)[1].tolist()
    chosen = torch.zeros(n_samples, dtype=torch.bool)
    start = 0
    for size, n_val_of_class in zip(sizes, _shares(sizes, ratio, n_val), strict=True):
        chosen[by_class[start : start + n_val_of_class]] = True
        start += size
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]


def _shares(sizes: list[int], ratio: Fraction, total: int) -> list[int]:
    """Round ``size * ratio`` down for all, then up where the remainder is largest until the total is met."""
    shares = [math.floor(size * ratio) for size in sizes]
    remainders = [size * ratio - share for size, share in zip(sizes, shares, strict=True)]
    largest_first = sorted(range(len(sizes)), key=lambda position: (-remainders[position], position))
    for position in largest_first[: total - sum(shares)]:
        shares[position] += 1
    return shares
