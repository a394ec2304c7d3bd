"""Shake-Shake: two branches of a residual block, mixed by other random numbers forward than backward.

Source: Gastaldi, Shake-Shake regularization, 2017 (arXiv:1705.07485), section 2 and table 1. In training the output is
``a·x1 + (1 − a)·x2`` and the gradients are ``b·g`` and ``(1 − b)·g``; in evaluation a = b = ½. Deviations: none.
Reference test: tests/models/test_shake.py.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradnas.foundation.names import did_you_mean

FORWARD_MODES = ("shake", "even")
BACKWARD_MODES = ("shake", "even", "keep")
LEVELS = ("image", "batch")


class ShakeShake(torch.autograd.Function):
    """Mixes two tensors of one shape; see the head of this file.

    ``ShakeShake.apply(x1, x2, training, forward_mode, backward_mode, level, generator)``:

    - ``training``: no takes a = b = ½, so that output and gradient are free of randomness. By default yes.
    - ``forward_mode``: ``shake``, a drawn from U(0, 1), or ``even``, a = ½.
    - ``backward_mode``: ``shake``, b drawn anew, ``even``, b = ½, or ``keep``, b = a.
    - ``level``: ``image``, one draw for each example, or ``batch``, one for the whole batch.
    - ``generator``: Of the device of the tensors; None takes torch's default one.

    Numbers are drawn on the device of the tensors in float32, and cast to their type. The backward pass needs no
    activation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x1: Tensor,
        x2: Tensor,
        training: bool = True,
        forward_mode: str = "shake",
        backward_mode: str = "shake",
        level: str = "image",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(B, …), (B, …) -> (B, …). ValueError for other shapes, or an unknown mode or level."""
        if x1.shape != x2.shape:
            raise ValueError(f"both branches must have one shape, got {tuple(x1.shape)} and {tuple(x2.shape)}.")
        _check(forward_mode, "forward mode", FORWARD_MODES)
        _check(backward_mode, "backward mode", BACKWARD_MODES)
        _check(level, "level", LEVELS)
        n = len(x1) if level == "image" else 1
        shape = (n,) + (1,) * (x1.dim() - 1)
        a = draw_or_half(training and forward_mode == "shake", shape, x1, generator)
        ctx.redraws = training and backward_mode == "shake"
        ctx.generator = generator
        ctx.save_for_backward(a if training and backward_mode == "keep" else torch.full_like(a, 0.5))
        ctx.set_materialize_grads(False)
        return a.to(x1.dtype) * x1 + (1 - a).to(x2.dtype) * x2

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of both branches, nothing else."""
        (grad,) = grad_outputs
        if grad is None:
            return (None,) * 7
        (b,) = ctx.saved_tensors
        if ctx.redraws:
            b = draw_or_half(True, b.shape, grad, ctx.generator)
        return b.to(grad.dtype) * grad, (1 - b).to(grad.dtype) * grad, None, None, None, None, None


def draw_or_half(draws: bool, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Numbers of U(0, 1) in float32 on the device of a tensor, or ½."""
    if draws:
        return torch.rand(shape, generator=generator, device=like.device, dtype=torch.float32)
    return torch.full(shape, 0.5, device=like.device, dtype=torch.float32)


@dataclass(frozen=True)
class ShakeMode:
    """What a network draws, by the name that the paper gives it: forward, backward and level.

    Args:
        forward: ``shake`` or ``even``.
        backward: ``shake``, ``even`` or ``keep``.
        level: ``image`` or ``batch``.

    Raises:
        ValueError: For another one.
    """

    forward: str = "shake"
    backward: str = "shake"
    level: str = "image"

    def __post_init__(self) -> None:
        _check(self.forward, "forward mode", FORWARD_MODES)
        _check(self.backward, "backward mode", BACKWARD_MODES)
        _check(self.level, "level", LEVELS)

    @staticmethod
    def of(name: str) -> "ShakeMode":
        """Read a name such as ``shake-keep-batch`` or ``even-even``; without a level it is ``image``."""
        parts = name.lower().split("-")
        if not 2 <= len(parts) <= 3:
            raise ValueError(f"a Shake-Shake mode is FORWARD-BACKWARD or FORWARD-BACKWARD-LEVEL, got {name!r}.")
        return ShakeMode(*parts)

    def __str__(self) -> str:
        return f"{self.forward}-{self.backward}-{self.level}"


def _check(value: str, what: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"unknown Shake-Shake {what} {value!r}. {did_you_mean(value, known)}")
