"""Optimizers by name or class path, checked before they see a weight."""

import importlib
import inspect
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from gradnas.foundation.names import did_you_mean
from gradnas.training.settings import OPTIMIZERS, SGD_MOMENTUM, OptimConf

_BY_NAME: Mapping[str, type[Optimizer]] = MappingProxyType(
    {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
)
_SETTINGS = ("lr", "weight_decay")  # arguments that are settings of their own


def create_optimizer(conf: OptimConf, params: Iterable[Tensor]) -> Optimizer:
    """The optimizer of these settings over these parameters; their order is kept.

    Raises:
        ValueError: For a class path that leads to no optimizer, an option that it does not take (naming the nearest) or
            refuses, and an optimizer that does not step by dense gradients alone, as LBFGS, which wants a closure.
    """
    kind = _BY_NAME[conf.name] if conf.name in OPTIMIZERS else _from_class_path(conf.name)
    arguments = _arguments(conf, kind)
    if conf.name not in OPTIMIZERS:
        _try_out(conf.name, kind, arguments)
    return _made(conf.name, kind, list(params), arguments)


def _from_class_path(name: str) -> type[Optimizer]:
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"optimizer {name!r} cannot be imported: {error}. Give a class path as torch.optim.RMSprop, or one of "
            f"{', '.join(OPTIMIZERS)}."
        ) from error
    # before it is called: a configuration of a stranger must not call what it likes
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        raise ValueError(f"optimizer {name!r} is no class of optimizers: it must derive from torch.optim.Optimizer.")
    return kind


def _arguments(conf: OptimConf, kind: type[Optimizer]) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    own = {"momentum", "nesterov"} if conf.name == "sgd" else set()
    taken = [n for n, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD and n != "params"]
    for option in conf.options:
        if option in (*_SETTINGS, *own):
            raise ValueError(
                f"{option!r} is no option of the optimizer. Set it as optimizer.{option}, beside the name."
            )
        if option not in taken and not open_ended:
            choices = [name for name in taken if name not in (*_SETTINGS, *own)]
            raise ValueError(f"optimizer {conf.name!r} has no option {option!r}. {did_you_mean(option, choices)}")
    if "lr" not in taken and not open_ended:
        raise ValueError(f"optimizer {conf.name!r} takes no learning rate lr, which a schedule could set.")
    arguments: dict[str, Any] = {"lr": conf.lr, **conf.options}
    if "weight_decay" in taken or open_ended:
        arguments["weight_decay"] = conf.weight_decay
    elif conf.weight_decay > 0:
        raise ValueError(
            f"weight_decay={conf.weight_decay} would have no effect: optimizer {conf.name!r} takes none. Set "
            "optimizer.weight_decay to 0."
        )
    if conf.name == "sgd":
        arguments["momentum"] = SGD_MOMENTUM if conf.momentum is None else conf.momentum
        arguments["nesterov"] = conf.nesterov
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def _made(name: str, kind: type[Optimizer], params: list[Tensor], arguments: dict[str, Any]) -> Optimizer:
    try:
        return kind(params, **arguments)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{argument}={value!r}" for argument, value in arguments.items())
        raise ValueError(f"optimizer {name!r} with {given}: {error}") from error


def _try_out(name: str, kind: type[Optimizer], arguments: dict[str, Any]) -> None:
    """A step on a matrix of its own: it must do with a dense gradient and no closure."""
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"optimizer {name!r} wants a closure that computes the loss again, as often as it likes; training computes "
            "each batch once. Choose one that steps by the gradient, as sgd or adamw."
        )
    weight = Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    optimizer = _made(name, kind, [weight], arguments)
    try:
        optimizer.step()
    except Exception as error:
        raise ValueError(f"optimizer {name!r} cannot step by a dense gradient: {error}") from error
