"""FairDARTS: candidates do not compete; each has a gate of its own.

Implements: Chu, Zhou, Zhang, Li: Fair DARTS (ECCV 2020), equations 3-5:

    W = sigmoid(alpha),   L_val + w01 L01,   L01 = -mean over all alphas of (sigmoid(alpha) - 0.5)²

The zero-one loss pushes gates to 0 or 1. First-order DARTS otherwise, with the settings of the released code: Adam
3e-3, betas (0.9, 0.999), L2 decay 1e-3, all alphas 0 at the start.
Deviations: every node keeps its strongest edges, as in DARTS, whatever their gates; the paper also drops candidates
whose gate is below 0.85. The paper's space has no ``none``, which a closed gate replaces; where a space has it, it is
one gate more that changes nothing. Reference test: ``tests/strategies/test_fair_darts.py``.
"""

import math

import torch
from torch import Tensor
from torch.nn import Parameter

from gradnas.ops.arch_params import ArchParam
from gradnas.strategies.gradient import AdamStrategy
from gradnas.supergraph import MixingRule


class Sigmoid(MixingRule):
    """A gate between 0 and 1 for each candidate; rows have any sum between 0 and N."""

    def initial(self, n_candidates: int, device: torch.device | None = None) -> list[tuple[str, ArchParam]]:
        """``alphas`` of shape (N,), all 0: gates half open."""
        return [("alphas", Parameter(torch.zeros(n_candidates, device=device)))]

    def weights(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.sigmoid()

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.sigmoid()


class FairDarts(AdamStrategy):
    """FairDARTS: a gate for each candidate, so that they do not compete.

    Args:
        zero_one: Weight w01 of the zero-one loss.
        lr: Adam rate of the architecture parameters.
        betas: Adam's decay rates.
        weight_decay: L2 factor added to their gradient.

    Raises:
        ValueError: For a setting outside its range.
    """

    bilevel = True

    def __init__(
        self,
        *,
        zero_one: float = 10.0,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-3,
    ) -> None:
        super().__init__(Sigmoid(), lr, betas, weight_decay)
        if not (math.isfinite(zero_one) and zero_one >= 0):
            raise ValueError(f"zero_one must be at least 0 and finite, got {zero_one}.")
        self.zero_one = zero_one

    def penalty(self) -> Tensor | None:
        if self.zero_one == 0:
            return None
        gates = torch.cat([table.flatten() for table in self.tables()]).sigmoid()
        return -self.zero_one * (gates - 0.5).square().mean()
