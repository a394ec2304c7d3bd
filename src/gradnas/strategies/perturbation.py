"""Noise on mixing weights for one pass: perturbations of SDARTS, and dropout on skip connections.

Sources: Chen and Hsieh, Stabilizing Differentiable Architecture Search via Perturbation-based Regularization (SDARTS,
ICML 2020), equations 5-8: weights are trained at the worst, or a random, mixture within a radius epsilon around the
present one, here in the mixing weights of each edge, as in the released code; Chen et al., Progressive DARTS (ICCV
2019), section 3.3: dropout on skip connections that keep the map, whose rate falls during the search.
Deviations: weights that are exactly 0 (fallen, not sampled) stay 0. The adversary sees training-mode statistics and is
always used, also where its last step has not raised the loss. A single-level method learns its architecture at the
moved mixture, by the gradient of the present one. A skip is dropped for the whole batch, per edge and cell, instead of
entry by entry: the expectation is the same and nothing more is computed.
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
    """Epsilon of an epoch: grows linearly from 0.03 in the first to ``radius`` in the last."""
    first = min(SMALLEST_RADIUS, radius)
    return first + (radius - first) * epoch / max(1, epochs - 1)


def skip_rate_at(rate: float, epoch: int, epochs: int, warmup_epochs: int = 0) -> float:
    """Dropout rate of an epoch, as released for 25 epochs.

    While only weights learn it falls linearly, as if to 0 in the last epoch of the search. Then it starts from the full
    rate and falls exponentially, by a factor e for each fifth of the search.
    """
    if epoch < warmup_epochs:
        return rate * (epochs - epoch - 1) / epochs
    return rate * math.exp(-5.0 * (epoch - warmup_epochs) / max(1, epochs))


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
        changes = [
            (leaf.detach() - table.detach() + ascent * slope.sign()).clamp(-radius, radius)
            for leaf, table, slope in zip(leaves, tables, slopes, strict=True)
        ]
    return _all_moved(mixing, changes)


def skips_dropped(
    mixing: Tables, skips: Sequence[Tensor | None], rate: float, draws: torch.Generator
) -> list[Tensor | None]:
    """The skip of each edge of each cell left out with this probability, and divided by the rest otherwise.

    Args:
        mixing: Tables of shape (E, N), or (E, B, N), with a column more where channels pass by.
        skips: Where the skip connections of each cell are, bool of shape (E, N) on the CPU; None for a cell without a
            choice.
        rate: Probability, below 1.
        draws: A generator on the CPU.
    """
    out: list[Tensor | None] = []
    for table, places in zip(mixing, skips, strict=True):
        if table is None or places is None:
            out.append(table)
            continue
        kept = torch.rand(len(places), 1, generator=draws) >= rate
        factors = torch.ones(len(places), table.shape[-1])
        factors[:, : places.shape[1]] = torch.where(places, kept / (1.0 - rate), 1.0)
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
    """The tables moved, with the gradients of those that were not: the cut to [0, 1] would end some."""
    pairs = zip(distinct(mixing), changes, strict=True)
    return _spread(mixing, [table + (_moved(table, change) - table).detach() for table, change in pairs])


def _spread(mixing: Tables, tables: Sequence[Tensor]) -> list[Tensor | None]:
    """Tables back to the cells."""
    of = {id(old): new for old, new in zip(distinct(mixing), tables, strict=True)}
    return [None if table is None else of[id(table)] for table in mixing]
