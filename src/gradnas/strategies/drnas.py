"""DrNAS: mixing weights drawn from a Dirichlet distribution.

Implements: Chen, Wang, Cheng, Tang, Hsieh: DrNAS (ICLR 2021), equations 3-5:

    beta = elu(alpha) + 1,   W_e ~ Dirichlet(beta_e) per edge, with its pathwise derivative
    L_val + lambda sum_e KL(Dir(beta_e) || Dir(1)),   KL(Dir(beta) || Dir(1)) =
        lnGamma(beta_0) - sum lnGamma(beta_i) - lnGamma(N) + sum (beta_i - 1)(psi(beta_i) - psi(beta_0))

First order and bilevel. One draw per edge of a cell type and pass, all edges of a type in one call.
Deviations: edges are ranked by the mean of the distribution, beta / beta_0; the released code ranks by softmax(alpha),
``ranking="softmax"`` here. The progressive schedule (36 channels, 20 cells, widening partial channels, pruning
between stages) is not part of it. The released code has L2 decay of alpha in place of the divergence by default, and
pools without batch norm. beta is kept at 1e-3 or above, where nothing pulls a candidate back. Evaluation uses the mean.
Reference test: ``tests/strategies/test_drnas.py``.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence
from torch.nn import functional as F

from gradnas.strategies.gradient import AdamStrategy
from gradnas.strategies.sampling import SampledRule

SMALLEST = 1e-3  # concentration: below it a sample is one-hot to the last bit, and its derivative not a number


def concentration(alphas_EN: Tensor) -> Tensor:
    """The parameters beta of the distributions, positive, at least in float32."""
    wide = alphas_EN.to(torch.promote_types(alphas_EN.dtype, torch.float32))
    return (F.elu(wide) + 1.0).clamp_min(SMALLEST)


def divergence(alphas_EN: Tensor) -> Tensor:
    """KL divergence of each edge's distribution from the uniform one, (E,)."""
    beta = concentration(alphas_EN)
    uniform = Dirichlet(torch.ones_like(beta), validate_args=False)
    return kl_divergence(Dirichlet(beta, validate_args=False), uniform)


class DirichletSample(SampledRule):
    """Mixing weights of each edge drawn from Dirichlet(elu(alpha) + 1).

    Args:
        ranking: What ranks: the ``mean`` of the distribution, or ``softmax`` of alpha.
    """

    def __init__(self, ranking: str = "mean") -> None:
        super().__init__()
        if ranking not in ("mean", "softmax"):
            raise ValueError(f"ranking must be 'mean' or 'softmax', got {ranking!r}.")
        self.ranking = ranking

    def weights(self, alphas_EN: Tensor) -> Tensor:
        beta = concentration(alphas_EN)
        with self.draws.seeded(beta.device):  # torch's Dirichlet draws from the global generator only
            return Dirichlet(beta, validate_args=False).rsample()

    def evaluation_weights(self, alphas_EN: Tensor) -> Tensor:
        beta = concentration(alphas_EN)
        return beta / beta.sum(dim=1, keepdim=True)

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return self.evaluation_weights(alphas_EN) if self.ranking == "mean" else alphas_EN.softmax(dim=1)


class DrNas(AdamStrategy):
    """DrNAS: mixing weights drawn from a learnt Dirichlet distribution, without the progressive schedule.

    The paper's spaces have no candidate ``none``.

    Args:
        lr: Adam rate of the architecture parameters.
        betas: Adam's decay rates.
        weight_decay: L2 factor added to their gradient; the released code sets 1e-3 where it leaves the divergence out.
        kl: Weight lambda of the divergence from the uniform distribution.
        ranking: ``mean`` of the distribution, or ``softmax`` of alpha as the released code has it.

    Raises:
        ValueError: For a setting outside its range.
    """

    bilevel = True

    def __init__(
        self,
        *,
        lr: float = 6e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 0.0,
        kl: float = 1e-3,
        ranking: str = "mean",
    ) -> None:
        super().__init__(DirichletSample(ranking), lr, betas, weight_decay)
        if not (math.isfinite(kl) and kl >= 0):
            raise ValueError(f"kl must be at least 0 and finite, got {kl}.")
        self.kl, self.ranking = kl, ranking

    def warmup_epochs(self, epochs: int) -> int:
        """Two epochs in five: 10 of 25, as published."""
        return epochs * 2 // 5

    def penalty(self) -> Tensor | None:
        if self.kl == 0:
            return None
        return self.kl * torch.cat([divergence(table) for table in self.tables()]).sum()

    def describe(self) -> dict[str, Any]:
        """The mean divergence of an edge from the uniform distribution, in nats."""
        return {"divergence": float(torch.cat([divergence(table.detach()) for table in self.tables()]).mean())}
