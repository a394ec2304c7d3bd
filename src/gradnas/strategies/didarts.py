"""DiDARTS: the one-level ablation of DARTS.

Source: the ``didarts`` algorithm of Archai; there is no paper. One training loss, one backward pass, two optimizers:

    w <- SGD(w, grad_w L_train(w, alpha)),   alpha <- SGD(alpha, grad_alpha L_train(w, alpha))

both gradients at the same point. alpha: rate 0.025, to 0 by cosine over the epochs, momentum 0.9, L2 decay 3e-4; mixing
and discretization as in DARTS. Published with 200 epochs and 10 % of the images held out to watch. It fits the alphas
to the training set; there is no validation loss to stop that.
Deviations: none known. Reference test: ``tests/strategies/test_didarts.py``.
"""

import math

from torch.nn import Parameter
from torch.optim import SGD, Optimizer

from gradnas.strategies.gradient import GradientStrategy
from gradnas.supergraph import Softmax


class DiDarts(GradientStrategy):
    """Single-level DARTS: weights and architecture learn from the same backward pass.

    Args:
        lr: SGD rate of the architecture parameters in the first epoch.
        momentum: Momentum of the architecture parameters.
        weight_decay: L2 factor added to their gradient.

    Raises:
        ValueError: For a setting outside its range.
    """

    bilevel = False

    def __init__(self, *, lr: float = 0.025, momentum: float = 0.9, weight_decay: float = 3e-4) -> None:
        super().__init__(Softmax())
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be at least 0 and finite, got {value}.")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}.")
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay

    def create_optimizer(self, alphas: list[Parameter]) -> Optimizer:
        return SGD(alphas, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def new_epoch(self, epoch: int) -> None:
        """Set the rate of this epoch: a cosine from ``lr``, which would reach 0 after the last epoch."""
        for group in self._learner.optimizer.param_groups:
            group["lr"] = self.lr * 0.5 * (1.0 + math.cos(math.pi * epoch / self.epochs()))
