"""Optimizers and losses of torch by the names of their classes."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.nn.modules.loss import _Loss
from torch.optim import Optimizer

from gradnas.foundation.names import did_you_mean

# One wants a closure, one sparse gradients, one matrices only.
_UNUSABLE = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}

OPTIMIZERS: Mapping[str, type[Optimizer]] = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, Optimizer) and name not in _UNUSABLE
}
"""Those of ``torch.optim`` that step any parameters by dense gradients."""

LOSSES: Mapping[str, type[nn.Module]] = {
    name: kind
    for name, kind in vars(nn).items()
    if isinstance(kind, type) and issubclass(kind, _Loss) and len(inspect.signature(kind.forward).parameters) == 3
}
"""Those of ``torch.nn`` that are called with outputs and targets."""


def optimizer_class(setting: str, name: str) -> type[Optimizer]:
    """The class of a name; ``setting`` is what the message calls it. TypeError, ValueError with the choices."""
    return OPTIMIZERS[_checked(setting, name, OPTIMIZERS, "torch.optim")]


def loss_class(setting: str, name: str) -> type[nn.Module]:
    """The same for a loss."""
    return LOSSES[_checked(setting, name, LOSSES, "torch.nn")]


def _checked(setting: str, name: str, known: Mapping[str, object], home: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{setting} must be the name of a class of {home}, got {name!r}.")
    if name not in known:
        raise ValueError(f"{setting} must be one of the names of {home}, got {name!r}. {did_you_mean(name, known)}")
    return name


def refuse_unused(kind: type[Optimizer], argument: str, setting: str, value: float, default: float) -> None:
    """ValueError for a setting that was changed, although the optimizer has no argument for it."""
    if argument not in inspect.signature(kind).parameters and value not in (0, default):
        raise ValueError(f"{setting}={value} has no effect: {kind.__name__} takes no {argument}. Set it to 0.")


def make_optimizer(kind: type[Optimizer], parameters: Iterable[Parameter], **settings: Any) -> Optimizer:
    """An optimizer with those of the settings that it takes."""
    taken = inspect.signature(kind).parameters
    return kind(parameters, **{name: value for name, value in settings.items() if name in taken})
