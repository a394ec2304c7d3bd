"""Noise on mixing weights for one pass: perturbations of SDARTS, and dropout on skip connections.

Sources: Chen and Hsieh, Stabilizing Differentiable Architecture Search via Perturbation-based Regularization (SDARTS,
ICML 2020), equations 5-8: weights are trained at the worst, or a random, mixture within a radius epsilon around the
present one, here in the mixing weights, as in the released code; Chen et al., Progressive DARTS (ICCV 2019), section
3.3: dropout on skip connections, whose rate falls during the search.
Deviations: weights that are exactly 0 (fallen, not sampled) stay 0. A skip is dropped for the whole batch, per edge and
cell, instead of entry by entry: the expectation is the same and nothing more is computed.
Everything acts on tables that are handed to :meth:`Model.forward`, so there is nothing to undo.
Reference test: ``tests/strategies/test_perturbation.py``.
Shape suffixes: E edges, N candidates.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Tables = Sequence[Tensor | None]
"""Mixing weights of each cell; cells of one type share a table."""

SMALLEST_RADIUS = 0.03  # of the first epoch, as released
SKIP = "skip_connect"


def radius_at(radius: float, epoch: int, epochs: int) -> float:
    """Epsilon of an epoch: grows linearly from 0.03 towards ``radius``, as released."""
    first = min(SMALLEST_RADIUS, radius)
    return first + (radius - first) * epoch / max(1, epochs)


def skip_rate_at(rate: float, epoch: int, epochs: int) -> float:
    """Dropout rate of an epoch: falls exponentially, by a factor e for each fifth of the search, as released."""
    return rate * math.exp(-5.0 * epoch / max(1, epochs))


def randomly_perturbed(mixing: Tables, radius: float, draws: torch.Generator) -> list[Tensor | None]:
    """Each weight moved by U(-radius, radius) and cut to [0, 1]; equal for cells that share a table."""
    return _all_moved(mixing, [_uniform(table, radius, draws) for table in distinct(mixing)])


def adversarially_perturbed(
    mixing: Tables,
    radius: float,
    draws: torch.Generator,
    loss: Callable[[Tables], Tensor],
    *,
    steps: int = 7,
) -> list[Tensor | None]:
    """Each weight moved so that the loss is large: projected gradient ascent by signs, from a random start.

    Args:
        mixing: The tables; not changed.
        radius: Largest change of a weight.
        draws: Makes the start.
        loss: The loss at given tables; weights of the network should be fixed.
        steps: Of size 2 · radius / steps, each one forward and backward pass.
    """
    tables = distinct(mixing)
    changes = [_uniform(table, radius, draws) for table in tables]
    for _ in range(steps):
        leaves = [
            _moved(table.detach(), change).requires_grad_() for table, change in zip(tables, changes, strict=True)
        ]
        value = loss(_spread(mixing, leaves))
        if not value.requires_grad:
            break
        slopes = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
        ascent = 2.0 * radius / steps
        changes = [(c + ascent * slope.sign()).clamp(-radius, radius) for c, slope in zip(changes, slopes, strict=True)]
    return _all_moved(mixing, changes)


def skips_dropped(
    mixing: Tables, skips: Sequence[int | None], rate: float, draws: torch.Generator
) -> list[Tensor | None]:
    """The skip of each edge of each cell left out with this probability, and divided by the rest otherwise.

    Args:
        mixing: Tables of shape (E, N), or (E, B, N).
        skips: Position of the skip connection among the candidates of each cell; None where there is none.
        rate: Probability, below 1.
        draws: A generator on the CPU.
    """
    out: list[Tensor | None] = []
    for table, k in zip(mixing, skips, strict=True):
        if table is None or k is None:
            out.append(table)
            continue
        kept = torch.rand(len(table), generator=draws) >= rate
        factors = torch.ones(len(table), table.shape[-1])
        factors[:, k] = kept / (1.0 - rate)
        factors = factors.to(table.device, table.dtype, non_blocking=True)
        out.append(table * (factors if table.dim() == 2 else factors.unsqueeze(1)))
    return out


def distinct(mixing: Tables) -> list[Tensor]:
    """Each table once, in the order of the cells."""
    return list({id(table): table for table in mixing if table is not None}.values())


def _uniform(table: Tensor, radius: float, draws: torch.Generator) -> Tensor:
    numbers = torch.rand(table.shape, generator=draws, dtype=torch.float64)
    return (radius * (2.0 * numbers - 1.0)).to(table.device, table.dtype, non_blocking=True)


def _moved(table: Tensor, change: Tensor) -> Tensor:
    return torch.where(table.detach() == 0, table, (table + change).clamp(0.0, 1.0))


def _all_moved(mixing: Tables, changes: Sequence[Tensor]) -> list[Tensor | None]:
    return _spread(mixing, [_moved(table, change) for table, change in zip(distinct(mixing), changes, strict=True)])


def _spread(mixing: Tables, tables: Sequence[Tensor]) -> list[Tensor | None]:
    """Tables back to the cells."""
    of = {id(old): new for old, new in zip(distinct(mixing), tables, strict=True)}
    return [None if table is None else of[id(table)] for table in mixing]
