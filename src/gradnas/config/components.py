"""Spaces and strategies by name or class path."""

import importlib
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gradnas.arch import DatasetConf
from gradnas.config.settings import ComponentConf
from gradnas.foundation.names import did_you_mean
from gradnas.spaces import DartsSpace, ModelDescBuilder
from gradnas.strategies import Darts, MetaOptimizer, RandomSearch, Strategy

SPACES: Mapping[str, type[ModelDescBuilder]] = MappingProxyType({"darts": DartsSpace})
STRATEGIES: Mapping[str, type[Strategy]] = MappingProxyType({"darts": Darts, "random": RandomSearch})

_FROM_DATA = ("in_channels", "image_size", "n_classes")


def build_space(conf: ComponentConf, data: DatasetConf) -> ModelDescBuilder:
    """The space of a configuration for images of this shape and this many classes.

    Raises:
        ValueError: For an unknown space or option, naming the nearest, or a value that the space refuses.
    """
    for name in _FROM_DATA:
        if name in conf.options:
            raise ValueError(f"space option {name!r} comes from the data set and cannot be set. Remove it.")
    facts = {"in_channels": data.channels, "image_size": data.image_size, "n_classes": data.n_classes}
    space = _build("space", SPACES, (ModelDescBuilder,), conf, facts)
    assert isinstance(space, ModelDescBuilder)
    return space


def build_strategy(conf: ComponentConf) -> Strategy:
    """The strategy of a configuration.

    Raises:
        ValueError: For an unknown strategy or option, naming the nearest, or a value that the strategy refuses.
    """
    strategy = _build("strategy", STRATEGIES, (MetaOptimizer, RandomSearch), conf, {})
    assert isinstance(strategy, (MetaOptimizer, RandomSearch))
    return strategy


def describe_space(space: ModelDescBuilder) -> ComponentConf:
    """The configuration that names a space built in Python."""
    return ComponentConf(name=_name(type(space), SPACES), options=dict(space.options))


def describe_strategy(strategy: Strategy) -> ComponentConf:
    """The configuration that names a strategy built in Python.

    Options are those arguments of its constructor that it keeps as attributes of the same name.
    """
    kept = vars(strategy)
    names = [name for name in inspect.signature(type(strategy)).parameters if name in kept]
    options = {name: list(kept[name]) if isinstance(kept[name], tuple) else kept[name] for name in names}
    return ComponentConf(name=_name(type(strategy), STRATEGIES), options=options)


def _name(kind: type, known: Mapping[str, type]) -> str:
    return next((name for name, k in known.items() if k is kind), f"{kind.__module__}.{kind.__qualname__}")


def _build(
    role: str, known: Mapping[str, type], bases: tuple[type, ...], conf: ComponentConf, facts: dict[str, Any]
) -> object:
    kind = known.get(conf.name) or _from_class_path(role, known, conf.name)
    if not issubclass(kind, bases):  # before it is called: a configuration of a stranger must not call what it likes
        raise ValueError(f"{role} {conf.name!r} is no {bases[0].__name__}. {did_you_mean(conf.name, known)}")
    parameters = inspect.signature(kind).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    names = [n for n, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD and n not in facts]
    for option in conf.options:
        if option not in names and not open_ended:
            raise ValueError(f"{role} {conf.name!r} has no option {option!r}. {did_you_mean(option, names)}")
    try:
        built: object = kind(**facts, **conf.options)
    except TypeError as error:
        raise ValueError(f"{role} {conf.name!r} with options {conf.options}: {error}") from error
    return built


def _from_class_path(role: str, known: Mapping[str, type], name: str) -> type:
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ValueError(f"unknown {role} {name!r}. {did_you_mean(name, known)} Or give a class path.")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{role} {name!r} cannot be imported: {error}. {did_you_mean(name, known)}") from error
    if not isinstance(kind, type):
        raise ValueError(f"{role} {name!r} is not a class.")
    return kind
