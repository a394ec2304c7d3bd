"""Every built-in strategy under the public suite."""

from typing import ClassVar

import torch
from torch import Tensor

from gradnas.strategies import (
    Batch,
    Darts,
    DiDarts,
    DrNas,
    FairDarts,
    Gdas,
    MetaOptimizer,
    PcDarts,
    Snas,
    Xnas,
)
from gradnas.testing import StrategyTests
from gradnas.testing.probe import ProbeTrainer


class TestDarts(StrategyTests):
    def strategy(self) -> MetaOptimizer:
        return Darts()

    def quick_strategy(self) -> MetaOptimizer:
        return Darts(lr=0.1)


class TestSecondOrderDarts(StrategyTests):
    planted_epochs: ClassVar[int] = 8
    gradient_tolerance: ClassVar[float] = 1e-3  # its second term is a finite difference

    def strategy(self) -> MetaOptimizer:
        return Darts(order=2, epsilon_scale=1e-4)  # the default is coarse for a network this small

    def quick_strategy(self) -> MetaOptimizer:
        return Darts(order=2, lr=0.1)

    def objective(self, trainer: ProbeTrainer, train_batch: Batch, val_batch: Batch) -> Tensor:
        """The validation loss after one real step of the weights."""
        weights, conf = trainer.ordinary_params(), trainer.conf.optimizer
        saved = [w.detach().clone() for w in weights]
        gradients = torch.autograd.grad(trainer.loss_of(train_batch), weights, materialize_grads=True)
        try:
            with torch.no_grad():
                for w, g in zip(weights, gradients, strict=True):
                    w.sub_(conf.lr * (g + conf.weight_decay * w))
            return trainer.loss_of(val_batch)
        finally:
            with torch.no_grad():
                for w, value in zip(weights, saved, strict=True):
                    w.copy_(value)


class TestDiDarts(StrategyTests):
    def strategy(self) -> MetaOptimizer:
        return DiDarts()

    def quick_strategy(self) -> MetaOptimizer:
        return DiDarts(lr=1.0)


class TestSnas(StrategyTests):
    deterministic: ClassVar[bool] = False

    def strategy(self) -> MetaOptimizer:
        return Snas()

    def quick_strategy(self) -> MetaOptimizer:
        return Snas(lr=0.1, temperature=(1.0, 0.5))


class TestGdas(StrategyTests):
    deterministic: ClassVar[bool] = False

    def strategy(self) -> MetaOptimizer:
        return Gdas()

    def quick_strategy(self) -> MetaOptimizer:
        return Gdas(lr=0.05, temperature=(5.0, 1.0))


class TestDrNas(StrategyTests):
    deterministic: ClassVar[bool] = False

    def strategy(self) -> MetaOptimizer:
        return DrNas()

    def quick_strategy(self) -> MetaOptimizer:
        return DrNas(lr=0.1)


class TestPcDarts(StrategyTests):
    row_sum: ClassVar[float | None] = None  # that of an edge is its weight among the edges of the node

    def strategy(self) -> MetaOptimizer:
        return PcDarts()

    def quick_strategy(self) -> MetaOptimizer:
        return PcDarts(partial=2, lr=0.1)


class TestFairDarts(StrategyTests):
    row_sum: ClassVar[float | None] = None  # gates do not compete

    def strategy(self) -> MetaOptimizer:
        return FairDarts()

    def quick_strategy(self) -> MetaOptimizer:
        return FairDarts(zero_one=0.1, lr=0.1)


class TestXnas(StrategyTests):
    def strategy(self) -> MetaOptimizer:
        return Xnas()

    def quick_strategy(self) -> MetaOptimizer:
        return Xnas(bound=0.01)
