"""A strategy whose architecture parameters follow a gradient: what DARTS and its family have in common.

Bilevel methods take the gradient of the validation loss in a pass of its own, before the weight step. Single-level
methods take that of the training loss from the weight step's own backward pass, so both gradients are at one point.
"""

import inspect
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam, Optimizer

from gradnas.strategies.arch_optimizer import ArchOptimizer, learnt_parameters
from gradnas.strategies.base import Batch, BatchLoss, MetaOptimizer, SearchSchedule
from gradnas.strategies.sampling import SampledRule, Temperature, TemperedRule
from gradnas.supergraph import MixingRule, Model, batch_norms, fixed, untouched_statistics


class GradientStrategy(MetaOptimizer):
    """Base of the methods that learn by gradient; they differ in their rule, their optimizer and what they add.

    Args:
        rule: Turns the architecture parameters into mixing weights.
    """

    def __init__(self, rule: MixingRule) -> None:
        self._rule = rule

    @abstractmethod
    def create_optimizer(self, alphas: list[Parameter]) -> Optimizer:
        """The optimizer of the architecture parameters."""

    def penalty(self) -> Tensor | None:
        """What the method adds to the loss of the architecture step, 0-dim, of the architecture parameters alone."""
        return None

    @property
    def mixing_rule(self) -> MixingRule:
        return self._rule

    @property
    def capturable(self) -> bool:
        """Whether nothing is drawn at random: a graph replays what was drawn when it was recorded."""
        return not isinstance(self._rule, SampledRule)

    def forward_equivalents(self, n_candidates: int) -> float:
        """Bilevel: 2 forward passes, one backward for all weights, one for the mixing weights; else 1 and 1."""
        return 2.0 + 2.0 + 1.0 if self.bilevel else 1.0 + 2.0

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def prepare(
        self,
        model: Model,
        loss: BatchLoss,
        weight_optimizer: Optimizer,
        *,
        chunks: int = 1,
        schedule: SearchSchedule | None = None,
        seed: int = 0,
    ) -> None:
        self._model, self._loss, self._chunks, self._schedule = model, loss, chunks, schedule
        self._weights, self._norms = list(model.weights()), batch_norms(model)
        self._weight_optimizer = weight_optimizer
        learnt = learnt_parameters(model)
        self._alphas = list(learnt.values())
        self._learner = ArchOptimizer(learnt, self.create_optimizer(self._alphas))
        self._weight_steps = 0
        if isinstance(self._rule, SampledRule):
            self._rule.draws.seed = seed

    def epochs(self) -> int:
        """Epochs of the search in progress. ValueError when nobody has told."""
        if self._schedule is None:
            raise ValueError(
                f"{type(self).__name__} changes with the epochs of the search, but their number is not known: pass "
                "schedule=SearchSchedule(epochs=…, …) to prepare()."
            )
        return self._schedule.epochs

    def step(self, train_batch: Batch, val_batch: Batch | None) -> None:
        if not self.bilevel:
            return  # learns in the weight pass
        if val_batch is None:
            raise ValueError(
                f"{type(self).__name__} is bilevel: each step needs a validation batch. Give the search a validation "
                "set."
            )
        self._draw_for("architecture")
        self._learner.step(self._with_penalty(self.gradients(train_batch, val_batch)))

    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        """Gradients of the architecture parameters, without the penalty: here those of the validation loss."""
        with untouched_statistics(self._norms), fixed(self._weights):
            return batch_gradient(self._loss, val_batch, self._alphas, self._chunks)

    @contextmanager
    def weight_pass(self, alphas: Sequence[Parameter], *, learning: bool) -> Iterator[None]:
        self._draw_for("weights")
        self._weight_steps += 1
        if self.bilevel or not learning:
            with fixed(alphas):
                yield
            return
        self._learner.optimizer.zero_grad(set_to_none=True)
        yield
        found = [torch.zeros_like(alpha) if alpha.grad is None else alpha.grad for alpha in self._alphas]
        self._learner.step(self._with_penalty(found))

    def _draw_for(self, purpose: str) -> None:
        if isinstance(self._rule, SampledRule):
            self._rule.draws.begin(purpose, self._weight_steps)

    def _with_penalty(self, gradients: list[Tensor]) -> list[Tensor]:
        penalty = self.penalty()
        if penalty is None:
            return gradients
        added = torch.autograd.grad(penalty, self._alphas, allow_unused=True, materialize_grads=True)
        return [gradient + more for gradient, more in zip(gradients, added, strict=True)]

    def tables(self) -> list[Tensor]:
        """The architecture parameters of each cell type, shape (E, N), for a penalty."""
        return [table for owner in self._model.owner_cells() if (table := owner.alphas()) is not None]

    def check(self) -> None:
        self._learner.check()

    def state_dict(self) -> dict[str, Any]:
        return {**self._learner.state_dict(), "weight_steps": self._weight_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._learner.load_state_dict(state)
        self._weight_steps = int(state["weight_steps"])


class AdamStrategy(GradientStrategy):
    """Base of the methods that learn by Adam with L2 decay added to the gradient, at a constant rate.

    Args:
        rule: Turns the architecture parameters into mixing weights.
        lr: Rate.
        betas: Decay rates of the moments.
        weight_decay: L2 factor.

    Raises:
        ValueError: For a setting outside its range.
    """

    def __init__(self, rule: MixingRule, lr: float, betas: Sequence[float], weight_decay: float) -> None:
        super().__init__(rule)
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"lr must be at least 0 and finite, got {lr}.")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be two numbers of at least 0 and below 1, got {betas}.")
        if not (math.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"weight_decay must be at least 0 and finite, got {weight_decay}.")
        self.lr, self.betas, self.weight_decay = lr, (float(betas[0]), float(betas[1])), weight_decay

    def create_optimizer(self, alphas: list[Parameter]) -> Optimizer:
        on_gpu = alphas[0].device.type == "cuda"
        return Adam(alphas, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, capturable=on_gpu)


class AnnealedStrategy(AdamStrategy):
    """Base of the methods whose rule has a temperature that changes from epoch to epoch.

    Args:
        rule: Has a ``temperature``.
        temperatures: Of each epoch.
        lr: As for :class:`AdamStrategy`.
        betas: Likewise.
        weight_decay: Likewise.
    """

    def __init__(
        self, rule: TemperedRule, temperatures: Temperature, lr: float, betas: Sequence[float], weight_decay: float
    ) -> None:
        super().__init__(rule, lr, betas, weight_decay)
        self._tempered, self._temperatures = rule, temperatures
        rule.temperature = temperatures.first

    def new_epoch(self, epoch: int) -> None:
        """Set the temperature of this epoch."""
        self._tempered.temperature = self._temperatures.at(epoch, self.epochs())

    def describe(self) -> dict[str, Any]:
        """The temperature of the epoch."""
        return {"temperature": self._tempered.temperature}


def batch_gradient(
    loss: BatchLoss, batch: Batch, inputs: Sequence[Parameter], chunks: int = 1, *, full_precision: bool = False
) -> list[Tensor]:
    """Gradients of the mean loss of a batch, processed in equal parts; zero for a parameter that takes no part."""
    total: list[Tensor] | None = None
    for x, y in zip(batch[0].chunk(chunks), batch[1].chunk(chunks), strict=True):
        value = loss((x, y), full_precision=full_precision) * (len(y) / len(batch[1]))
        if not value.requires_grad:  # no candidate that takes part depends on them
            part: Sequence[Tensor] = [torch.zeros_like(parameter) for parameter in inputs]
        else:
            part = torch.autograd.grad(value, list(inputs), allow_unused=True, materialize_grads=True)
        if total is None:
            total = list(part)
        else:
            torch._foreach_add_(total, list(part))
    assert total is not None
    return total
