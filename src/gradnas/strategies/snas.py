"""SNAS: stochastic neural architecture search, and the Gumbel-softmax mixing rule.

Implements: Xie, Zheng, Liu, Lin: SNAS (ICLR 2019), equations 3-5, with the concrete distribution of Maddison et al. and
Jang et al. (ICLR 2017). Per edge, with Gumbel noise g and temperature tau:

    W = softmax((ln softmax(alpha) + g) / tau) = softmax((alpha + g) / tau)

One draw per edge of a cell type and step; the gradient is pathwise. Weights and architecture learn from the training
loss in one backward pass. tau goes from 1 to 0.03 over the epochs.
Deviations: the paper's cost penalty is left out; its annealing curve is not published, the default here is linear.
Adam as in DARTS. Evaluation uses softmax(alpha), without noise. Reference test: ``tests/strategies/test_snas.py``.
"""

from collections.abc import Sequence

from torch import Tensor

from gradnas.strategies.gradient import AnnealedStrategy
from gradnas.strategies.sampling import Temperature, TemperedRule, gumbel_like


class GumbelSoftmax(TemperedRule):
    """A relaxed sample of one candidate per edge; its ``temperature`` decides how close to one."""

    def weights(self, alphas_EN: Tensor) -> Tensor:
        return ((alphas_EN + gumbel_like(alphas_EN, self.draws)) / self.temperature).softmax(dim=1)

    def evaluation_weights(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)


class Snas(AnnealedStrategy):
    """SNAS: relaxed samples of one candidate per edge, annealed; learns with the weights.

    Args:
        lr: Adam rate of the architecture parameters.
        betas: Adam's decay rates.
        weight_decay: L2 factor added to their gradient.
        temperature: In the first and in the last epoch.
        annealing: ``linear`` or ``exponential`` between them.
        bilevel: Learn the architecture on held-out data, as DARTS does; the paper uses the training loss.

    Raises:
        ValueError: For a setting outside its range.
    """

    def __init__(
        self,
        *,
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        temperature: Sequence[float] = (1.0, 0.03),
        annealing: str = "linear",
        bilevel: bool = False,
    ) -> None:
        super().__init__(GumbelSoftmax(), Temperature(temperature, annealing), lr, betas, weight_decay)
        self.temperature, self.annealing, self.bilevel = tuple(temperature), annealing, bilevel
