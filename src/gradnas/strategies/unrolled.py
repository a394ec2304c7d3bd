"""The second-order architecture gradient of DARTS.

Implements: Liu et al., DARTS (ICLR 2019), equations 6-8, with the momentum and weight decay of the real weight step:

    g  = grad_w L_train(w, a),  d = g + decay w,  b' = momentum m + d,  s = b'  (Nesterov: d + momentum b')
    w' = w - lr s
    v  = grad_w' L_val(w', a)
    dL/da = grad_a L_val(w', a) - lr kappa [grad_a L_train(w + e v) - grad_a L_train(w - e v)] / (2 e),  e = scale/||v||

with kappa = ds/dg. The norm is one global norm over the ordinary weights. Parameter groups with different lr or kappa
fold the factor into v. Deviations: none; the paper leaves out kappa because it has neither Nesterov nor dampening.
Reference test: ``tests/strategies/test_unrolled.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Optimizer

Gradient = Callable[[Sequence[Parameter]], list[Tensor]]
"""Gradients of a loss with respect to the given parameters; zero for one that takes no part."""


@dataclass(frozen=True)
class SgdStep:
    """The SGD step that the weights are about to take; one entry of each list per weight.

    Args:
        lr: Learning rate.
        momentum: Momentum factor.
        weight_decay: L2 factor added to the gradient.
        dampening: Dampening of the momentum.
        nesterov: Whether the momentum is Nesterov's.
        buffers: Momentum buffer, None before the first step.
    """

    lr: list[float]
    momentum: list[float]
    weight_decay: list[float]
    dampening: list[float]
    nesterov: list[bool]
    buffers: list[Tensor | None]

    @staticmethod
    def uniform(
        count: int, *, lr: float, momentum: float, weight_decay: float, buffers: Sequence[Tensor | None] | None
    ) -> "SgdStep":
        """The same plain step for all of ``count`` weights."""
        return SgdStep(
            lr=[lr] * count,
            momentum=[momentum] * count,
            weight_decay=[weight_decay] * count,
            dampening=[0.0] * count,
            nesterov=[False] * count,
            buffers=[None] * count if buffers is None else list(buffers),
        )

    @staticmethod
    def of(optimizer: Optimizer, weights: Sequence[Parameter]) -> "SgdStep":
        """The step that a live optimizer is about to take.

        Raises:
            ValueError: For an optimizer other than SGD, one that maximizes, or a weight that it does not hold.
        """
        if not isinstance(optimizer, SGD):
            raise ValueError(
                "the second-order architecture gradient unrolls an SGD step; the weight optimizer is "
                f"{type(optimizer).__name__}. Use SGD, or order=1."
            )
        if any(group["maximize"] for group in optimizer.param_groups):
            raise ValueError("the weight optimizer has maximize=True, but a search minimizes the training loss.")
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        missing = sum(id(w) not in groups for w in weights)
        if missing:
            raise ValueError(f"{missing} weights of the model are not in the weight optimizer; give it all of them.")
        of_weight = [groups[id(w)] for w in weights]
        return SgdStep(
            lr=[float(group["lr"]) for group in of_weight],
            momentum=[group["momentum"] for group in of_weight],
            weight_decay=[group["weight_decay"] for group in of_weight],
            dampening=[group["dampening"] for group in of_weight],
            nesterov=[group["nesterov"] for group in of_weight],
            buffers=[optimizer.state.get(w, {}).get("momentum_buffer") for w in weights],
        )

    def change(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        """The change -lr s of each weight."""
        changes = list(torch._foreach_mul(list(weights), self.weight_decay))
        torch._foreach_add_(changes, list(gradients))
        for i, buffer in enumerate(self.buffers):
            mu = self.momentum[i]
            if mu == 0.0:
                continue
            d = changes[i]
            b = d if buffer is None else torch.add(d * (1.0 - self.dampening[i]), buffer, alpha=mu)
            changes[i] = torch.add(d, b, alpha=mu) if self.nesterov[i] else b
        torch._foreach_mul_(changes, [-lr for lr in self.lr])
        return changes

    def gains(self) -> list[float]:
        """Lr · kappa: how much the change of a weight answers to its gradient, with the sign turned."""
        kappas = []
        for mu, damp, nesterov, buffer in zip(self.momentum, self.dampening, self.nesterov, self.buffers, strict=True):
            if nesterov:
                kappas.append(1.0 + mu)
            else:
                kappas.append(1.0 - damp if mu and buffer is not None else 1.0)
        return [lr * kappa for lr, kappa in zip(self.lr, kappas, strict=True)]


def unrolled_gradient(
    train_gradient: Gradient,
    val_gradient: Gradient,
    weights: Sequence[Parameter],
    alphas: Sequence[Parameter],
    step: SgdStep,
    *,
    epsilon_scale: float = 0.01,
) -> tuple[list[Tensor], Tensor]:
    """The gradient of the validation loss after one SGD step, with respect to the architecture parameters.

    Weights are changed in place for the passes and restored from copies, bit for bit, also after an error. Nothing is
    read from the device.

    Args:
        train_gradient: Gradients of the training loss at the present weights.
        val_gradient: Gradients of the validation loss at the present weights.
        weights: The ordinary weights.
        alphas: The architecture parameters.
        step: The step that is unrolled.
        epsilon_scale: The perturbation e·v has this global norm.

    Returns:
        One gradient per architecture parameter, and the norm of v (0-dim): zero gives exactly the first-order part;
        if it is not finite, neither are the gradients.
    """
    w = list(weights)
    gradients = train_gradient(w)
    with torch.no_grad():
        saved = [p.detach().clone() for p in w]
        changes = step.change(saved, gradients)
    try:
        _add_(w, changes)
        at_step = val_gradient([*alphas, *w])
        first, v = at_step[: len(alphas)], list(at_step[len(alphas) :])
        with torch.no_grad():
            torch._foreach_mul_(v, step.gains())
            norm = torch.stack(torch._foreach_norm(v)).norm()
            divisor = torch.where(norm == 0, torch.ones_like(norm), norm)
            torch._foreach_mul_(v, epsilon_scale / divisor)
        _restore_(w, saved)
        _add_(w, v)
        above = train_gradient(alphas)
        _restore_(w, saved)
        _add_(w, torch._foreach_neg(v))
        below = train_gradient(alphas)
    finally:
        _restore_(w, saved)
    # The factor is exactly 0 when v is 0, whatever noise the two equal passes may show on a device.
    factor = norm / (2.0 * epsilon_scale)
    return [d - factor * (a - b) for d, a, b in zip(first, above, below, strict=True)], norm


@torch.no_grad()
def _add_(weights: Sequence[Tensor], changes: Sequence[Tensor]) -> None:
    tensors: list[Tensor] = list(changes)
    torch._foreach_add_(list(weights), tensors)


@torch.no_grad()
def _restore_(weights: Sequence[Tensor], saved: list[Tensor]) -> None:
    torch._foreach_copy_(list(weights), saved)
