"""DARTS: differentiable architecture search.

Implements: Liu, Simonyan, Yang: DARTS (ICLR 2019), algorithm 1. Per step, with a training and a validation batch:

1. alpha <- Adam(alpha, grad_alpha L_val(w', alpha)), w' = w (order 1) or w after one SGD step (order 2, unrolled.py);
2. w <- SGD(w, grad_w L_train(w, alpha)) with the new alpha: the trainer's own step.

Adam: lr 3e-4, betas (0.5, 0.999), L2 decay 1e-3 added to the gradient, constant rate, no clipping, as released.
Deviation: running statistics of batch norm do not move in the architecture passes; the released code moves them.
Reference tests: ``tests/strategies/test_darts.py``, ``tests/strategies/test_unrolled.py``.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from gradnas.strategies.arch_optimizer import NOTHING_TO_LEARN
from gradnas.strategies.base import Batch, BatchLoss, LossFn, SearchSchedule
from gradnas.strategies.gradient import AdamStrategy, batch_gradient
from gradnas.strategies.unrolled import Gradient, SgdStep, unrolled_gradient
from gradnas.supergraph import ArchModule, Model, Softmax, fixed, same_random_draws, untouched_statistics


class Darts(AdamStrategy):
    """First- or second-order DARTS.

    Args:
        order: 1 takes the gradient at the present weights; 2 unrolls one weight step.
        lr: Adam rate of the architecture parameters.
        betas: Adam's decay rates.
        weight_decay: L2 factor added to their gradient.
        epsilon_scale: Global norm of the finite-difference perturbation; order 2 only.

    Raises:
        ValueError: For a setting outside its range.
    """

    bilevel = True

    def __init__(
        self,
        order: int = 1,
        *,
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        epsilon_scale: float = 0.01,
    ) -> None:
        super().__init__(Softmax(), lr, betas, weight_decay)
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order!r}.")
        if not (math.isfinite(epsilon_scale) and epsilon_scale > 0):
            raise ValueError(f"epsilon_scale must be positive and finite, got {epsilon_scale}.")
        self.order, self.epsilon_scale = order, epsilon_scale

    def forward_equivalents(self, n_candidates: int) -> float:
        # order 2: 5 forward, 3 full and 2 alpha backward.
        return super().forward_equivalents(n_candidates) if self.order == 1 else 5.0 + 3 * 2.0 + 2.0

    @property
    def capturable(self) -> bool:
        """Order 1 only: order 2 puts the state of random generators back, which a graph cannot."""
        return self.order == 1

    def check_weight_optimizer(self, optimizer: Optimizer) -> None:
        """Order 2 unrolls plain SGD only. ValueError."""
        if self.order == 2:
            SgdStep.of(optimizer, [])

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
        super().prepare(model, loss, weight_optimizer, chunks=chunks, schedule=schedule, seed=seed)
        if self.order == 2:
            SgdStep.of(weight_optimizer, self._weights)  # refuse now rather than at the first step

    def gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        if self.order == 1:
            return super().gradients(train_batch, val_batch)
        with untouched_statistics(self._norms):
            return unrolled_gradient(
                self._gradient(train_batch),
                self._gradient(val_batch),
                self._weights,
                self._alphas,
                SgdStep.of(self._weight_optimizer, self._weights),
                epsilon_scale=self.epsilon_scale,
            )[0]

    def _gradient(self, batch: Batch) -> Gradient:
        def gradient(inputs: Sequence[Parameter]) -> list[Tensor]:
            with only(inputs, [*self._alphas, *self._weights]), same_random_draws(self._model):
                return batch_gradient(self._loss, batch, inputs, self._chunks, full_precision=True)

        return gradient


def hypergradient(
    model: ArchModule,
    loss_fn: LossFn,
    train_batch: Batch,
    val_batch: Batch,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    momentum_buffers: Sequence[Tensor | None] | None = None,
    epsilon_scale: float = 0.01,
) -> list[Tensor]:
    """The second-order architecture gradient of DARTS as a pure function (equations in ``unrolled.py``).

    Args:
        model: A model with ``weights()`` and ``all_owned()``; called as ``model(x)``, it returns logits (B, n_classes)
            or a tuple whose first item they are. It is left as it was, bit for bit.
        loss_fn: Mean loss of (logits, targets).
        train_batch: Images and targets of the weight step.
        val_batch: Images and targets of the outer loss.
        lr: Learning rate of the weight step.
        momentum: Its momentum.
        weight_decay: Its L2 factor.
        momentum_buffers: Momentum buffers in the order of ``model.weights()``; None before the first step.
        epsilon_scale: Global norm of the finite-difference perturbation.

    Returns:
        One gradient per architecture parameter, in the order of ``model.all_owned().values()``.

    Raises:
        FloatingPointError: When the result, or the validation gradient of the weights, is not finite.
        ValueError: When the number of buffers is not that of the weights, or nothing could be learnt.
    """
    weights, alphas = list(ArchModule.nonarch_params(model, True)), list(model.all_owned().param_by_kind())
    if not alphas:
        raise ValueError(NOTHING_TO_LEARN)
    if momentum_buffers is not None and len(momentum_buffers) != len(weights):
        raise ValueError(f"expected {len(weights)} momentum buffers, one per weight, got {len(momentum_buffers)}.")
    step = SgdStep.uniform(len(weights), lr=lr, momentum=momentum, weight_decay=weight_decay, buffers=momentum_buffers)

    def loss(batch: Batch, *, full_precision: bool = False, mixing: Sequence[Tensor | None] | None = None) -> Tensor:
        out = model(batch[0]) if mixing is None else model(batch[0], mixing)
        return loss_fn(out[0] if isinstance(out, tuple) else out, batch[1])

    def gradient(batch: Batch) -> Gradient:
        def of(inputs: Sequence[Parameter]) -> list[Tensor]:
            with only(inputs, [*alphas, *weights]), same_random_draws(model):
                return batch_gradient(loss, batch, inputs)

        return of

    with untouched_statistics(model):
        gradients, norm = unrolled_gradient(
            gradient(train_batch), gradient(val_batch), weights, alphas, step, epsilon_scale=epsilon_scale
        )
    if not torch.isfinite(norm):
        raise FloatingPointError(f"the validation gradient of the weights has norm {float(norm)}; check loss and data.")
    if not all(torch.isfinite(g).all() for g in gradients):
        raise FloatingPointError("the architecture gradient is not finite; check loss and data.")
    return gradients


@contextmanager
def only(inputs: Sequence[Parameter], among: Sequence[Parameter]) -> Iterator[None]:
    """Treat all of ``among`` as constants except ``inputs``."""
    wanted = {id(p) for p in inputs}
    with fixed(p for p in among if id(p) not in wanted):
        yield
