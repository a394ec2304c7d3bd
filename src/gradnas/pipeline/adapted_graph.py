"""A supergraph with its two optimizers, and the step of DARTS on it.

Implements: Liu et al., DARTS (ICLR 2019), algorithm 1, by the passes and equations of ``strategies/gradient.py`` and
``strategies/unrolled.py``. Deviation: as in ``strategies/darts.py``. Reference test:
``tests/pipeline/test_darts_optimizer.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import Parameter, ParameterList
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from gradnas.spaces import ModelDescBuilder
from gradnas.strategies import Batch
from gradnas.strategies.arch_optimizer import ArchOptimizer
from gradnas.strategies.darts import only
from gradnas.strategies.gradient import batch_gradient
from gradnas.strategies.unrolled import Gradient, SgdStep, unrolled_gradient
from gradnas.supergraph import Model, batch_norms, same_random_draws, untouched_statistics
from gradnas.supergraph.edge_data import GraphEdge, Scope


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a graph was made of.

    Args:
        search_space: As it was given.
        space: A copy of it, if it is a space and not a model.
        dataset: As it was given.
        scope: As it was given; None is ``all`` already.
    """

    search_space: ModelDescBuilder | Model
    space: ModelDescBuilder | None
    dataset: object
    scope: Scope


class AdaptedGraph:
    """What learns, and how.

    Args:
        origin: What the graph was made of.
        graph: The supergraph, in training mode.
        edges: The edges whose alphas learn, one of each cell type.
        alphas: These alphas, each once.
        weights: All that the optimizer of the weights holds.
        op_optimizer: The optimizer of the weights.
        arch_optimizer: The optimizer of the alphas.
        loss: Mean loss of (logits, targets).
    """

    def __init__(
        self,
        origin: Origin,
        graph: Model,
        edges: list[GraphEdge],
        alphas: list[Parameter],
        weights: list[Parameter],
        op_optimizer: Optimizer,
        arch_optimizer: Optimizer,
        loss: nn.Module,
    ) -> None:
        self.origin, self.graph, self.edges = origin, graph, edges
        self.architectural_weights, self.weights = ParameterList(alphas), weights
        self.op_optimizer, self.loss = op_optimizer, loss
        self._alphas, self._parameters, self._norms = alphas, list(graph.parameters()), batch_norms(graph)
        names = {id(value): name for name, value in graph.all_owned().items()}
        self._named = {names[id(alpha)]: alpha for alpha in alphas}
        self.learner = ArchOptimizer(self._named, arch_optimizer)

    @property
    def device(self) -> torch.device:
        """Where the graph is."""
        return self._parameters[0].device

    def move(self, device: torch.device | str) -> None:
        """Bring the graph to a device in place, and the state of the optimizers: torch moves it when it is loaded."""
        before = self.device
        self.graph.to(device)
        if self.device == before:
            return
        self.op_optimizer.load_state_dict(self.op_optimizer.state_dict())
        state = self.learner.state_dict()
        self.learner = ArchOptimizer(self._named, self.learner.optimizer)
        self.learner.load_state_dict(state)

    def step(self, train: Batch, val: Batch, *, unrolled: bool, grad_clip: float | None) -> tuple[Tensor, ...]:
        """Move the alphas, then with the new ones the weights.

        Args:
            train: Images (B, C, H, W) and targets (B,), where the graph is.
            val: The same, of held-out data.
            unrolled: Whether the alphas look one weight step ahead.
            grad_clip: Largest global norm of the gradient of the weights; 0 or None does not clip.

        Returns:
            Logits (B, n_classes) of the training and the validation batch, and their losses (0-dim), detached.
        """
        train_loss, val_loss = _Loss(self.graph, self.loss), _Loss(self.graph, self.loss)
        with untouched_statistics(self._norms):
            if unrolled:
                gradients = self._unrolled(self._gradient(train_loss, train), self._gradient(val_loss, val))
            else:
                gradients = self._gradient(val_loss, val)(self._alphas)
        self.learner.step(gradients)
        self.op_optimizer.zero_grad(set_to_none=True)
        with only(self.weights, self._parameters):
            train_loss(train).backward()
        if grad_clip:
            clip_grad_norm_(self.weights, grad_clip)
        self.op_optimizer.step()
        (logits_train, loss_train), (logits_val, loss_val) = train_loss.last, val_loss.last
        return logits_train, logits_val, loss_train, loss_val

    def _unrolled(self, train: Gradient, val: Gradient) -> list[Tensor]:
        def same_draws(gradient: Gradient) -> Gradient:
            def of(inputs: Sequence[Parameter]) -> list[Tensor]:
                with same_random_draws(self.graph):
                    return gradient(inputs)

            return of

        step = SgdStep.of(self.op_optimizer, self.weights)
        # Differences of gradients in low precision carry no information, whatever is around this call.
        with torch.autocast(self.graph.device_type(), enabled=False):
            return unrolled_gradient(same_draws(train), same_draws(val), self.weights, self._alphas, step)[0]

    def _gradient(self, loss: "_Loss", batch: Batch) -> Gradient:
        def gradient(inputs: Sequence[Parameter]) -> list[Tensor]:
            with only(inputs, self._parameters):
                return batch_gradient(loss, batch, inputs)

        return gradient


class _Loss:
    """Loss of the graph on a batch; keeps the logits and the loss of the last one, detached."""

    last: tuple[Tensor, Tensor]

    def __init__(self, graph: Model, loss: nn.Module) -> None:
        self._graph, self._loss = graph, loss

    def __call__(
        self, batch: Batch, *, full_precision: bool = False, mixing: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        logits, _ = self._graph(batch[0], mixing)
        value: Tensor = self._loss(logits, batch[1])
        self.last = logits.detach(), value.detach()
        return value
