"""What a strategy's test class says of it, and what all checks share."""

from abc import ABC, abstractmethod
from typing import ClassVar

import pytest
from torch import Tensor

from gradnas.strategies import Batch, GradientStrategy, MetaOptimizer
from gradnas.testing.probe import ProbeTrainer


class StrategySuite(ABC):
    """What the checks need to know; a test class overrides :meth:`strategy`, and of the rest what is not true of it."""

    deterministic: ClassVar[bool] = True
    """Whether mixing weights are a plain differentiable function of the architecture parameters: nothing is drawn."""

    row_sum: ClassVar[float | None] = 1.0
    """The sum of the mixing weights of an edge; None where it is not fixed."""

    gradient_tolerance: ClassVar[float] = 1e-6
    """Allowed relative difference of the architecture gradient from that of :meth:`objective`, in float64."""

    planted_epochs: ClassVar[int] = 12
    """Epochs, of 4 steps each, in which :meth:`quick_strategy` finds the one useful candidate of each edge."""

    planted_lr: ClassVar[float] = 0.05
    """Learning rate of the weights in these epochs."""

    @abstractmethod
    def strategy(self) -> MetaOptimizer:
        """A fresh strategy."""

    def quick_strategy(self) -> MetaOptimizer:
        """A fresh one that learns within some dozen steps, say with a higher rate; by default :meth:`strategy`."""
        return self.strategy()

    def objective(self, trainer: ProbeTrainer, train_batch: Batch, val_batch: Batch) -> Tensor:
        """What the architecture gradient is the gradient of, computed as plainly as possible.

        By default the loss of the validation batch (bilevel) or of the training batch, and the strategy's penalty. A
        method that follows another function overrides this.

        Args:
            trainer: In the middle of a search, before a step; ``trainer.loss_of(batch)`` is the loss.
            train_batch: Images and targets of the weight step.
            val_batch: Images and targets of the architecture step.
        """
        strategy = trainer.strategy
        loss = trainer.loss_of(val_batch if strategy.bilevel else train_batch)
        penalty = strategy.penalty() if isinstance(strategy, GradientStrategy) else None
        return loss if penalty is None else loss + penalty

    @pytest.fixture(params=[False, True], ids=["plain", "fused"])
    def fused(self, request: pytest.FixtureRequest) -> bool:
        """Whether cells are computed by the fast execution."""
        return bool(request.param)
