"""What every gradient-based strategy is: a rule for the architecture parameters, and how they learn."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from gradnas.arch import ModelDesc
from gradnas.supergraph import MixingRule, Model, Softmax, fixed

Batch = tuple[Tensor, Tensor]
"""Images (B, C, H, W) and targets (B,) on the device of the model."""

LossFn = Callable[[Tensor, Tensor], Tensor]
"""Scalar loss, a mean over the batch, of logits (B, n_classes) and targets (B,)."""


class BatchLoss(Protocol):
    """Scalar loss of the model on a batch, everything the run adds to it included."""

    def __call__(
        self, batch: Batch, *, full_precision: bool = False, mixing: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """Run the model.

        Args:
            batch: Images and targets.
            full_precision: Switch autocast off for this pass.
            mixing: Mixing weights of each cell, as :meth:`Model.forward` takes them; None: what the rule makes.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SearchSchedule:
    """What will really run.

    Args:
        epochs: Epochs of the search.
        steps_per_epoch: Search steps in each.
        val_samples: Validation samples that all architecture steps together draw, short batches included, without
            the epochs in which only weights learn; 0 when there is no validation set.
    """

    epochs: int
    steps_per_epoch: int
    val_samples: int


class MetaOptimizer(ABC):
    """How architecture parameters learn. One object serves one search at a time; :meth:`prepare` starts afresh.

    A strategy sees a model with mixed edges; it never knows the space. It leaves ordinary weights, their gradients, the
    weight optimizer's state and batch-norm statistics exactly as they were.
    """

    bilevel: bool
    """Whether :meth:`step` needs a validation batch; a method that does not may learn in :meth:`weight_pass`."""

    @property
    def capturable(self) -> bool:
        """Whether :meth:`step` does everything on the device, so that a CUDA graph of it can be replayed.

        Python does not run in a replay: which candidates are computed must not change from step to step.
        """
        return False

    @abstractmethod
    def forward_equivalents(self, n_candidates: int) -> float:
        """Cost of one search step, weight step included, in forward passes of the supergraph with all candidates.

        A backward pass for all weights counts 2, one for the mixing weights alone 1.

        Args:
            n_candidates: On each edge, for a method that computes some of them.
        """

    @property
    def mixing_rule(self) -> MixingRule:
        """The rule that turns architecture parameters into mixing weights."""
        return Softmax()

    def supergraph(self, desc: ModelDesc) -> ModelDesc:
        """The description that this method trains, made from that of the space: here the same."""
        return desc

    def warmup_epochs(self, epochs: int) -> int:
        """Epochs at the start of a search of so many in which only weights learn, unless its settings say otherwise."""
        return 0

    def check_schedule(self, schedule: SearchSchedule) -> None:  # noqa: B027  # most strategies do any search
        """Refuse a search that the strategy cannot do, before anything is built or written. ValueError."""

    def check_weight_optimizer(self, optimizer: Optimizer) -> None:  # noqa: B027  # most methods take any
        """Refuse an optimizer of the weights that the method cannot work with. ValueError."""

    @abstractmethod
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
        """Bind to a model and build what learns its architecture parameters.

        A strategy whose parameters count what was played (XNAS) starts them afresh; a state is loaded after this.

        Args:
            model: The supergraph; its mixing rule is this strategy's already.
            loss: Loss of that model on a batch.
            weight_optimizer: The optimizer of the ordinary weights, read but never stepped.
            chunks: Batches are processed in this many parts; gradients are their mean.
            schedule: The search that follows, for what depends on its length; None where nobody knows.
            seed: What the method draws at random follows from it.

        Raises:
            ValueError: When the model has nothing to choose, or the strategy cannot work with the optimizer.
        """

    @abstractmethod
    def step(self, train_batch: Batch, val_batch: Batch | None) -> None:
        """Update the architecture parameters once, before the weight step on the same training batch."""

    @contextmanager
    def weight_pass(self, alphas: Sequence[Parameter], *, learning: bool) -> Iterator[None]:
        """Around forward and backward of the weight step.

        Here the architecture is fixed. A single-level method learns from this very pass.

        Args:
            alphas: All architecture parameters of the model.
            learning: Whether the architecture may change; not while only weights learn.
        """
        with fixed(alphas):
            yield

    def new_epoch(self, epoch: int) -> None:  # noqa: B027  # most strategies have nothing to do here
        """Told at the start of each epoch, counted from 0. Changes nothing here."""

    def check(self) -> None:  # noqa: B027  # nothing to check unless a strategy says so
        """Raise FloatingPointError if an earlier step met a number that is not finite, naming the step.

        Reads the device; called every few steps, with the metrics.
        """

    def describe(self) -> dict[str, Any]:
        """What the log of an epoch should say beside the architecture parameters, as plain values; reads the device."""
        return {}

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything beside the model that the next step depends on: tensors, numbers, strings, lists, dicts only."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict` after :meth:`prepare`."""
