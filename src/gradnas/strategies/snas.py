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
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from gradnas.strategies.arch_optimizer import adam, check_rates, checked_betas
from gradnas.strategies.gradient import GradientStrategy
from gradnas.strategies.sampling import SampledRule, Temperature, gumbel_like


class GumbelSoftmax(SampledRule):
    """A relaxed sample of one candidate per edge; its ``temperature`` decides how close to one."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def weights(self, alphas_EN: Tensor) -> Tensor:
        return ((alphas_EN + gumbel_like(alphas_EN, self.draws)) / self.temperature).softmax(dim=1)

    def evaluation_weights(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)


class Snas(GradientStrategy):
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
        self.lr, self.betas, self.weight_decay = lr, checked_betas(betas), weight_decay
        check_rates(lr, weight_decay)
        self._temperatures = Temperature(temperature, annealing)
        self.temperature, self.annealing, self.bilevel = tuple(temperature), annealing, bilevel
        self._gumbel = GumbelSoftmax(self._temperatures.first)
        super().__init__(self._gumbel)

    def create_optimizer(self, alphas: list[Parameter]) -> Optimizer:
        return adam(alphas, self.lr, self.betas, self.weight_decay)

    def new_epoch(self, epoch: int) -> None:
        """Set the temperature of this epoch."""
        self._gumbel.temperature = self._temperatures.at(epoch, self.epochs())

    def describe(self) -> dict[str, Any]:
        """The temperature of the epoch."""
        return {"temperature": self._gumbel.temperature}
