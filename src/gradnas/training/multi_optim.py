"""Several optimizers and their schedules behind one set of calls; schedules are torch's own."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from gradnas.foundation.optimizers import load_optimizer_state, optimizer_state
from gradnas.training.settings import OptimConf


def create_optimizer(conf: OptimConf, params: Iterable[Tensor]) -> Optimizer:
    """The optimizer of these settings over these parameters; their order is kept."""
    listed = list(params)
    if conf.name == "sgd":
        return torch.optim.SGD(
            listed, lr=conf.lr, momentum=conf.momentum, weight_decay=conf.weight_decay, nesterov=conf.nesterov
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[conf.name]
    return kind(listed, lr=conf.lr, weight_decay=conf.weight_decay)


def create_scheduler(conf: OptimConf, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """The schedule of these settings, stepped once per epoch: warm-up from lr / n, then the cosine or a constant."""
    rest = max(1, epochs - conf.warmup_epochs)
    main: LRScheduler
    if conf.schedule == "cosine":
        main = CosineAnnealingLR(optimizer, T_max=rest, eta_min=conf.lr_min)
    else:
        main = ConstantLR(optimizer, factor=1.0, total_iters=0)
    if conf.warmup_epochs == 0:
        return main
    n = conf.warmup_epochs
    warmup = LinearLR(optimizer, start_factor=1.0 / n, end_factor=1.0, total_iters=max(1, n - 1))
    return SequentialLR(optimizer, [warmup, main], milestones=[n])


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
            if part.scheduler is not None and not part.sched_on_epoch:
                part.scheduler.step()

    def epoch(self) -> None:
        """Step the schedules that step per epoch."""
        for part in self._parts:
            if part.scheduler is not None and part.sched_on_epoch:
                part.scheduler.step()

    @torch.no_grad()
    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rates of all optimizers, now and for the rest of their schedules."""
        for part in self._parts:
            for group in part.optimizer.param_groups:
                for key in ("lr", "initial_lr"):
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
                # Its steps were taken by another process; at the end of an epoch torch would warn that none was.
                part.optimizer._opt_called = True  # type: ignore[attr-defined]  # torch's own mark


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
