"""ShakeDrop: a residual branch is kept, or scaled by other random numbers forward than backward.

Source: Yamada et al., ShakeDrop regularization for deep residual learning, 2019 (arXiv:1802.02375), section 3. In
training the output is ``(q + a − q·a)·x`` and the gradient ``(q + b − q·b)·g`` with a gate q of Bernoulli(p), one for
the batch; in evaluation both are scaled by E[q + a − q·a]. a and b are drawn for each image (of the levels that the
paper compares, the one of its released code). Deviations: none. Reference test: tests/models/test_shake_drop.py.
"""

from typing import Any

import torch
from torch import Tensor, nn

Range = tuple[float, float]


def keep_probability(block: int, blocks: int, last: float = 0.5) -> float:
    """The linear decay rule: 1 − (l / L) (1 − P_L) for block l of 1 … L."""
    return 1 - block / blocks * (1 - last)


class _Scale(torch.autograd.Function):
    """One random factor forward, another one backward, the gate in common."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, keep: float, alphas: Range, betas: Range, generator: torch.Generator | None
    ) -> Tensor:
        gate = torch.empty((), device=x.device).bernoulli_(keep, generator=generator)
        ctx.betas, ctx.generator = betas, generator
        ctx.save_for_backward(gate)
        return _factor(gate, x, alphas, generator) * x

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        (gate,) = ctx.saved_tensors
        return _factor(gate, grad, ctx.betas, ctx.generator) * grad, None, None, None, None


def _factor(gate: Tensor, like: Tensor, ends: Range, generator: torch.Generator | None) -> Tensor:
    """The factor q + r − q·r with r of U(ends) for each image, (B, 1, …): no read of the gate by the host."""
    shape = (len(like),) + (1,) * (like.dim() - 1)
    drawn = torch.empty(shape, device=like.device).uniform_(*ends, generator=generator)
    return (gate + (1 - gate) * drawn).to(like.dtype)  # exactly 1 where the branch is kept


class ShakeDrop(nn.Module):
    """Scales a residual branch, (B, …) -> (B, …); see the head of this file.

    Args:
        keep: Probability p that the branch is kept as it is.
        alphas: Range of the factor forward, where it is not.
        betas: Range of the factor backward, where it is not.
        generator: Draws on the device of the input; None takes torch's default one.

    Raises:
        ValueError: For a probability outside of [0, 1], or a range whose ends are not in order.
    """

    def __init__(
        self,
        keep: float = 0.5,
        *,
        alphas: Range = (-1.0, 1.0),
        betas: Range = (0.0, 1.0),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= keep <= 1:
            raise ValueError(f"the probability to keep a branch must be between 0 and 1, got {keep}.")
        for name, (low, high) in (("alphas", alphas), ("betas", betas)):
            if not low <= high:
                raise ValueError(f"{name} must be a range (low, high), got {(low, high)}.")
        self.keep, self.alphas, self.betas, self.generator = keep, alphas, betas, generator

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            out: Tensor = _Scale.apply(x, self.keep, self.alphas, self.betas, self.generator)
            return out
        return (self.keep + (1 - self.keep) * sum(self.alphas) / 2) * x

    def extra_repr(self) -> str:
        return f"keep={self.keep}, alphas={self.alphas}, betas={self.betas}"
