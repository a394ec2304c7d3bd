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
from gradnas.strategies import (
    Darts,
    DiDarts,
    DrNas,
    FairDarts,
    Gdas,
    MetaOptimizer,
    PcDarts,
    RandomSearch,
    Snas,
    Strategy,
    Xnas,
)

SPACES: Mapping[str, type[ModelDescBuilder]] = MappingProxyType({"darts": DartsSpace})
STRATEGIES: Mapping[str, type[Strategy]] = MappingProxyType(
    {
        "darts": Darts,
        "didarts": DiDarts,
        "drnas": DrNas,
        "fairdarts": FairDarts,
        "gdas": Gdas,
        "pcdarts": PcDarts,
        "snas": Snas,
        "xnas": Xnas,
        "random": RandomSearch,
    }
)

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
    """The configuration that names a space built in Python, from its ``options``.

    Raises:
        TypeError: When an argument of its constructor is not among them: the run could not be repeated.
    """
    names = [name for name in _arguments(type(space)) if name not in _FROM_DATA]
    return _described(space, SPACES, names, space.options, "put it into self.options")


def describe_strategy(strategy: Strategy) -> ComponentConf:
    """The configuration that names a strategy built in Python.

    Options are the arguments of its constructor, each kept as an attribute of the same name.

    Raises:
        TypeError: When one is not kept: the run could not be repeated.
    """
    names = _arguments(type(strategy))
    kept = {name: value for name, value in vars(strategy).items() if name in names}
    return _described(strategy, STRATEGIES, names, kept, f"keep it as an attribute of {type(strategy).__name__}")


def _described(
    instance: object, known: Mapping[str, type], names: list[str], kept: Mapping[str, Any], advice: str
) -> ComponentConf:
    kind = type(instance)
    missing = [name for name in names if name not in kept]
    if missing:
        raise TypeError(
            f"the constructor argument {missing[0]!r} of {kind.__name__} cannot be read back, so the run folder could "
            f"not repeat the run; {advice}."
        )
    name = next((n for n, k in known.items() if k is kind), f"{kind.__module__}.{kind.__qualname__}")
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in kept.items()}
    return ComponentConf(name=name, options=options)


def _arguments(kind: type) -> list[str]:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [name for name, p in inspect.signature(kind).parameters.items() if p.kind not in variable]


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
