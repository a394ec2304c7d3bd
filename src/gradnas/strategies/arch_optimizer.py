"""What all strategies that follow a gradient share: the optimizer of the architecture parameters, watched for NaNs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from gradnas.foundation.optimizers import load_optimizer_state, optimizer_state
from gradnas.supergraph import Model

NOTHING_TO_LEARN = (
    "the model has no architecture parameter that a gradient could move, so there is nothing to search: it has no edge "
    "with a choice, or another strategy's mixing rule."
)


def learnt_parameters(model: Model) -> dict[str, Parameter]:
    """The architecture parameters that a gradient can move, by name. ValueError when there are none."""
    learnt = {name: value for name, value in model.all_owned().items() if isinstance(value, Parameter)}
    if not learnt:
        raise ValueError(NOTHING_TO_LEARN)
    return learnt


class ArchOptimizer:
    """Steps the architecture parameters, and remembers the first step whose gradient was not finite.

    Args:
        parameters: The architecture parameters, by name.
        optimizer: An optimizer of exactly these, in this order.
    """

    def __init__(self, parameters: Mapping[str, Parameter], optimizer: Optimizer) -> None:
        self._names, self.alphas, self.optimizer = list(parameters), list(parameters.values()), optimizer
        device = self.alphas[0].device
        self._steps = torch.zeros((), dtype=torch.int64, device=device)
        self._first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)

    def step(self, gradients: Sequence[Tensor]) -> None:
        """One step along these gradients, one per parameter. Nothing is read from the device."""
        finite = torch.stack([g.isfinite().all() for g in gradients]).all()
        newly_bad = ~finite & (self._first_bad_step < 0)
        self._first_bad_step.copy_(torch.where(newly_bad, self._steps, self._first_bad_step))
        for alpha, gradient in zip(self.alphas, gradients, strict=True):
            alpha.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._steps += 1

    def check(self) -> None:
        """FloatingPointError if a gradient was not finite, naming the step. Reads the device."""
        bad = int(self._first_bad_step)
        if bad >= 0:
            raise FloatingPointError(
                f"the architecture gradient was not finite at architecture step {bad} of this search (counted from 0). "
                "Lower the learning rate of the weights, or look for NaNs in the data."
            )

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state and the number of steps."""
        return {"optimizer": optimizer_state(self.optimizer, self._names), "steps": int(self._steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        load_optimizer_state(self.optimizer, self._names, state["optimizer"])
        self._steps.fill_(int(state["steps"]))
        self._first_bad_step.fill_(-1)
