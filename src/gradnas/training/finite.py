"""Finds the step at which a loss or gradient stops being a finite number."""

import math

import torch
from torch import Tensor


class NotFiniteError(FloatingPointError):
    """A number of a training step is NaN or infinite.

    Args:
        what: The number, e.g. "training loss".
        value: Its value as text.
        global_step: Of the step, counted from 0 over all epochs.
    """

    def __init__(self, what: str, value: str, global_step: int) -> None:
        super().__init__(f"the {what} became {value} at step {global_step}")
        self.what, self.value, self.global_step = what, value, global_step


class FiniteWatch:
    """Looks at the numbers of each step.

    On the CPU at once, before anything follows from them. A GPU would have to be waited for: there the device remembers
    the first bad step, and :meth:`check` names it later, unless every step has to be known at once.

    Args:
        device: Where the numbers are.
        at_once: Wait for the device in each step.
    """

    def __init__(self, device: torch.device, *, at_once: bool = False) -> None:
        self._at_once = at_once or device.type == "cpu"
        self._global_step = 0
        self._step = torch.zeros((), dtype=torch.int64, device=device)  # a tensor, for a recorded step to read
        self._first = torch.full((), -1, dtype=torch.int64, device=device)

    def begin(self, global_step: int) -> None:
        """Told before each step."""
        self._global_step = global_step
        if not self._at_once:
            self._step.fill_(global_step)

    def see(self, number: Tensor, what: str) -> None:
        """Look at a number, a 0-dim tensor. NotFiniteError where that is known at once."""
        if not self._at_once:
            bad = ~torch.isfinite(number.detach()) & (self._first < 0)
            self._first.copy_(torch.where(bad, self._step, self._first))
        elif not math.isfinite(value := number.item()):
            raise NotFiniteError(what, str(value), self._global_step)

    def check(self) -> None:
        """Wait for the device. NotFiniteError when a number since the last :meth:`forget` was bad."""
        if not self._at_once and (first := int(self._first)) >= 0:
            raise NotFiniteError("training loss or gradient", "NaN or infinite", first)

    def forget(self) -> None:
        """Begin anew, after what was bad has been undone."""
        self._first.fill_(-1)
