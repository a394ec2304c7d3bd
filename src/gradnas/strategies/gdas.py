"""GDAS: one sampled candidate per edge and pass.

Implements: Dong and Yang, GDAS (CVPR 2019), equations 3-6: with Gumbel noise g and temperature tau,

    h = softmax((ln softmax(alpha) + g) / tau),   k = argmax h,   W = onehot(k) + h - stop_gradient(h)

Only candidate k is computed; its output f_k gives dL/dalpha_j = h_k (delta_jk - h_j) <dL/dp, f_k> / tau, the others get
nothing because their outputs do not exist. First order and bilevel, a fresh draw for each of the two passes; tau goes
linearly from 10 to 0.1 over the epochs of the search, however many they are.
Deviations: the searched (not the fixed) reduction cell. Evaluation computes the most probable candidate of each edge,
``none`` included. Reference test: ``tests/strategies/test_gdas.py``.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from gradnas.strategies.gradient import AnnealedStrategy
from gradnas.strategies.sampling import Temperature, TemperedRule, gumbel_like


class HardGumbel(TemperedRule):
    """A sample of one candidate per edge in the forward pass, with the gradient of its relaxation."""

    sparse: ClassVar[bool] = True

    def weights(self, alphas_EN: Tensor) -> Tensor:
        relaxed = ((alphas_EN + gumbel_like(alphas_EN, self.draws)) / self.temperature).softmax(dim=1)
        return _one_hot(relaxed) + (relaxed - relaxed.detach())  # the bracket is exactly 0

    def evaluation_weights(self, alphas_EN: Tensor) -> Tensor:
        return _one_hot(alphas_EN)

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)


def _one_hot(values_EN: Tensor) -> Tensor:
    """1 at the largest entry of each row, of equal ones the first."""
    return torch.zeros_like(values_EN).scatter_(1, values_EN.detach().argmax(dim=1, keepdim=True), 1.0)


class Gdas(AnnealedStrategy):
    """GDAS: one sampled candidate per edge and pass, the others are not computed.

    Args:
        lr: Adam rate of the architecture parameters.
        betas: Adam's decay rates.
        weight_decay: L2 factor added to their gradient.
        temperature: In the first and in the last epoch.

    Raises:
        ValueError: For a setting outside its range.
    """

    bilevel = True

    def __init__(
        self,
        *,
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        temperature: Sequence[float] = (10.0, 0.1),
    ) -> None:
        super().__init__(HardGumbel(), Temperature(temperature), lr, betas, weight_decay)
        self.temperature = tuple(temperature)

    def forward_equivalents(self, n_candidates: int) -> float:
        """That of DARTS on one candidate of each edge."""
        return super().forward_equivalents(n_candidates) / n_candidates
