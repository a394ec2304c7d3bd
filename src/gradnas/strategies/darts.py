"""DARTS: differentiable architecture search.

Implements: Liu, Simonyan, Yang: DARTS (ICLR 2019), algorithm 1. Per step, with a training and a validation batch:

1. alpha <- Adam(alpha, grad_alpha L_val(w', alpha)), w' = w (order 1) or w after one SGD step (order 2, unrolled.py);
2. w <- SGD(w, grad_w L_train(w, alpha)) with the new alpha: the trainer's own step.

Adam: lr 3e-4, betas (0.5, 0.999), L2 decay 1e-3 added to the gradient, constant rate, no clipping, as released.
Deviation: running statistics of batch norm do not move in the architecture passes; the released code moves them.
Reference tests: ``tests/strategies/test_darts.py``, ``tests/strategies/test_unrolled.py``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam, Optimizer

from gradnas.foundation.optimizers import load_optimizer_state, optimizer_state
from gradnas.strategies.base import Batch, BatchLoss, LossFn, MetaOptimizer, SearchSchedule
from gradnas.strategies.unrolled import Gradient, SgdStep, unrolled_gradient
from gradnas.supergraph import ArchModule, Model, batch_norms, fixed, same_random_draws, untouched_statistics

NOTHING_TO_LEARN = (
    "the model has no architecture parameter that a gradient could move, so there is nothing to search: it has no edge "
    "with a choice, or another strategy's mixing rule."
)


class Darts(MetaOptimizer):
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

    bilevel: ClassVar[bool] = True

    def __init__(
        self,
        order: int = 1,
        *,
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        epsilon_scale: float = 0.01,
    ) -> None:
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order!r}.")
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"lr must be at least 0 and finite, got {lr}.")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be two numbers of at least 0 and below 1, got {betas}.")
        if not (math.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"weight_decay must be at least 0 and finite, got {weight_decay}.")
        if not (math.isfinite(epsilon_scale) and epsilon_scale > 0):
            raise ValueError(f"epsilon_scale must be positive and finite, got {epsilon_scale}.")
        self.order, self.lr, self.betas = order, lr, (float(betas[0]), float(betas[1]))
        self.weight_decay, self.epsilon_scale = weight_decay, epsilon_scale

    @property
    def forward_equivalents(self) -> float:
        # order 1: 2 forward, 1 full and 1 alpha backward; order 2: 5 forward, 3 full and 2 alpha backward.
        return 2.0 + 2.0 + 1.0 if self.order == 1 else 5.0 + 3 * 2.0 + 2.0

    @property
    def capturable(self) -> bool:
        """Order 1 only: order 2 puts the state of random generators back, which a graph cannot."""
        return self.order == 1

    def __repr__(self) -> str:
        return (
            f"Darts(order={self.order}, lr={self.lr}, betas={self.betas}, weight_decay={self.weight_decay}, "
            f"epsilon_scale={self.epsilon_scale})"
        )

    def prepare(
        self,
        model: Model,
        loss: BatchLoss,
        weight_optimizer: Optimizer,
        *,
        chunks: int = 1,
        schedule: SearchSchedule | None = None,
    ) -> None:
        self._model, self._loss, self._chunks = model, loss, chunks
        self._weights, self._norms = list(model.weights()), batch_norms(model)
        learnt = {name: value for name, value in model.all_owned().items() if isinstance(value, Parameter)}
        self._names, self._alphas = list(learnt), list(learnt.values())
        if not self._alphas:
            raise ValueError(NOTHING_TO_LEARN)
        self._weight_optimizer = weight_optimizer
        if self.order == 2:
            SgdStep.of(weight_optimizer, self._weights)  # refuse now rather than at the first step
        device = self._alphas[0].device
        self._optimizer = Adam(
            self._alphas,
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            capturable=device.type == "cuda",
        )
        self._steps = torch.zeros((), dtype=torch.int64, device=device)
        self._first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)

    def step(self, train_batch: Batch, val_batch: Batch | None) -> None:
        if val_batch is None:
            raise ValueError("DARTS is bilevel: each step needs a validation batch. Give the search a validation set.")
        gradients = self._gradients(train_batch, val_batch)
        finite = torch.stack([g.isfinite().all() for g in gradients]).all()
        newly_bad = ~finite & (self._first_bad_step < 0)
        self._first_bad_step.copy_(torch.where(newly_bad, self._steps, self._first_bad_step))
        for alpha, gradient in zip(self._alphas, gradients, strict=True):
            alpha.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._steps += 1

    def _gradients(self, train_batch: Batch, val_batch: Batch) -> list[Tensor]:
        with untouched_statistics(self._norms):
            if self.order == 1:
                with fixed(self._weights):
                    return batch_gradient(self._loss, val_batch, self._alphas, self._chunks)
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

    def check(self) -> None:
        bad = int(self._first_bad_step)
        if bad >= 0:
            raise FloatingPointError(
                f"the architecture gradient was not finite at step {bad} of this search (counted from 0). "
                "Lower the learning rate of the weights, or look for NaNs in the data."
            )

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": optimizer_state(self._optimizer, self._names), "steps": int(self._steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_optimizer_state(self._optimizer, self._names, state["optimizer"])
        self._steps.fill_(int(state["steps"]))


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


def batch_gradient(
    loss: BatchLoss, batch: Batch, inputs: Sequence[Parameter], chunks: int = 1, *, full_precision: bool = False
) -> list[Tensor]:
    """Gradients of the mean loss of a batch, processed in equal parts; zero for a parameter that takes no part."""
    total: list[Tensor] | None = None
    for x, y in zip(batch[0].chunk(chunks), batch[1].chunk(chunks), strict=True):
        value = loss((x, y), full_precision=full_precision) * (len(y) / len(batch[1]))
        part = torch.autograd.grad(value, list(inputs), allow_unused=True, materialize_grads=True)
        if total is None:
            total = list(part)
        else:
            torch._foreach_add_(total, list(part))
    assert total is not None
    return total
