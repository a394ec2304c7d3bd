"""Several optimizers and their schedules behind one set of calls."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, SequentialLR

from gradnas.foundation.optimizers import load_optimizer_state, optimizer_state

_RATES = ("lr", "initial_lr", "max_lr", "min_lr")  # of a parameter group: the last two are OneCycle's


@dataclass(frozen=True)
class OptimSched:
    """An optimizer, its schedule or None, and whether the schedule steps per epoch (else per step)."""

    optimizer: Optimizer
    scheduler: LRScheduler | None = None
    sched_on_epoch: bool = True


class MultiOptim:
    """A list of optimizers stepped together.

    Raises:
        ValueError: For a parameter that is in two of them.
    """

    def __init__(self, parts: Sequence[OptimSched] = ()) -> None:
        self._parts: list[OptimSched] = []
        for part in parts:
            self.append(part)

    def append(self, part: OptimSched) -> None:
        """Add an optimizer."""
        taken = {id(p) for other in self._parts for p in _params(other.optimizer)}
        shared = sum(id(p) in taken for p in _params(part.optimizer))
        if shared:
            raise ValueError(f"{shared} parameters are in two optimizers; give each parameter to one.")
        self._parts.append(part)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[OptimSched]:
        return iter(self._parts)

    def __getitem__(self, i: int) -> OptimSched:
        return self._parts[i]

    def params(self) -> list[Tensor]:
        """Every parameter of every optimizer."""
        return [p for part in self._parts for p in _params(part.optimizer)]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self._parts:
            part.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Step every optimizer, then the schedules that step per step."""
        for part in self._parts:
            part.optimizer.step()
        self._step_schedules(on_epoch=False)

    def skip(self) -> None:
        """In place of :meth:`step` for a batch that is left out: it keeps its place in the schedules."""
        self._step_schedules(on_epoch=False)

    def epoch(self) -> None:
        """Step the schedules that step per epoch."""
        self._step_schedules(on_epoch=True)

    def _step_schedules(self, *, on_epoch: bool) -> None:
        for part in self._parts:
            if part.scheduler is not None and part.sched_on_epoch is on_epoch:
                # Its steps may have been taken by another process, or all been skipped: torch would warn of none.
                part.optimizer._opt_called = True  # type: ignore[attr-defined]  # torch's own mark
                part.scheduler.step()

    @torch.no_grad()
    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rates of all optimizers, now and for the rest of their schedules."""
        for part in self._parts:
            for group in part.optimizer.param_groups:
                for key in _RATES:
                    if key in group:
                        group[key] = group[key] * factor
            if part.scheduler is not None:
                _scale_schedule(part.scheduler, factor)

    def get_lr(self, i: int = 0, group: int = 0) -> float:
        """Present learning rate of a parameter group of optimizer i."""
        return float(self._parts[i].optimizer.param_groups[group]["lr"])

    def state_dict(self, names: Mapping[int, str]) -> list[dict[str, Any]]:
        """State of all optimizers and schedules; ``names`` maps ``id(parameter)`` to its name in the model."""
        return [
            {
                "optimizer": optimizer_state(part.optimizer, [names[id(p)] for p in _params(part.optimizer)]),
                "scheduler": None if part.scheduler is None else _plain(part.scheduler.state_dict()),
            }
            for part in self._parts
        ]

    def load_state_dict(self, states: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            ValueError: When the number of optimizers or their parameters differ.
        """
        if len(states) != len(self._parts):
            raise ValueError(f"expected the state of {len(self._parts)} optimizers, found {len(states)}.")
        for part, state in zip(self._parts, states, strict=True):
            load_optimizer_state(part.optimizer, [names[id(p)] for p in _params(part.optimizer)], state["optimizer"])
            if part.scheduler is not None:
                part.scheduler.load_state_dict(state["scheduler"])


def _params(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _scale_schedule(schedule: LRScheduler, factor: float) -> None:
    if isinstance(schedule, SequentialLR):
        for part in schedule._schedulers:
            _scale_schedule(part, factor)
        return
    schedule.base_lrs = [lr * factor for lr in schedule.base_lrs]
    if isinstance(schedule, CosineAnnealingLR):
        schedule.eta_min = schedule.eta_min * factor


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    # A sequential schedule nests the state of its parts; none of torch's keeps more than numbers, strings and lists.
    return {
        key: [_plain(item) if isinstance(item, dict) else item for item in value] if isinstance(value, list) else value
        for key, value in state.items()
    }
