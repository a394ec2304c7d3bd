"""Optimizers by name or class path, checked before they see a weight."""

import importlib
import inspect
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from gradnas.foundation.names import did_you_mean
from gradnas.foundation.optimizers import HOW_COMPUTED
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
    _check_options(conf, kind)
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


def _check_options(conf: OptimConf, kind: type[Optimizer]) -> None:
    """Refuse values of another kind than the signature says, of which torch takes many as they come."""
    parameters, hints = inspect.signature(kind).parameters, _hints(kind)

    def switch(option: str) -> bool:
        return {*get_args(hints.get(option))} == {bool, type(None)}

    for option, value in conf.options.items():
        default = parameters[option].default if option in parameters else inspect.Parameter.empty
        items = value if isinstance(value, list) else [value]
        expected = None
        if not all(math.isfinite(item) for item in items if isinstance(item, float)):
            expected = "finite"
        elif isinstance(default, bool) or switch(option):
            known = isinstance(value, bool) or (value is None and switch(option))
            expected = None if known else "True or False"
        elif isinstance(default, (int, float)) and isinstance(value, bool):
            expected = f"a number, such as {default}"
        elif isinstance(default, tuple) and isinstance(value, list) and len(value) != len(default):
            expected = f"{len(default)} values, such as {list(default)}"
        if expected is not None:
            raise ValueError(f"option {option!r} of optimizer {conf.name!r} must be {expected}, got {value!r}.")


def _hints(kind: type[Optimizer]) -> dict[str, Any]:
    try:
        return get_type_hints(kind.__init__)
    except (TypeError, NameError, AttributeError):  # of a class that names what is not there: nothing to go by
        return {}


def _made(name: str, kind: type[Optimizer], params: list[Tensor], arguments: dict[str, Any]) -> Optimizer:
    try:
        return kind(params, **arguments)
    except Exception as error:
        raise ValueError(f"{_described(name, arguments)}: {_reason(error)}") from error


def _described(name: str, arguments: Mapping[str, Any]) -> str:
    return f"optimizer {name!r} with {', '.join(f'{argument}={value!r}' for argument, value in arguments.items())}"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _try_out(name: str, kind: type[Optimizer], arguments: dict[str, Any]) -> None:
    """Steps on a matrix of its own: it must do with a dense gradient and no closure.

    The matrix is on the CPU, so that what says how a device computes is left out.
    """
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"optimizer {name!r} wants a closure that computes the loss again, as often as it likes; training computes "
            "each batch once. Choose one that steps by the gradient, as sgd or adamw."
        )
    arguments = {argument: value for argument, value in arguments.items() if argument not in HOW_COMPUTED}
    weight = Parameter(torch.zeros(2, 2, device="cpu"))
    weight.grad = torch.ones(2, 2, device="cpu")
    optimizer = _made(name, kind, [weight], arguments)
    try:
        for _ in range(2):  # the first step with momentum has none to dampen
            optimizer.step()
    except Exception as error:
        raise ValueError(f"{_described(name, arguments)} cannot step by a dense gradient: {_reason(error)}") from error
