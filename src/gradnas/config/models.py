"""Hand-designed networks by name, from torchvision, or from a factory of the user's."""

import importlib
import inspect
import typing
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from gradnas.arch import PUBLISHED, DatasetConf
from gradnas.config.settings import ModelConf
from gradnas.foundation.names import did_you_mean
from gradnas.models import MODELS, PREFIX, torchvision_model

Factory = Callable[..., nn.Module]
"""Makes a network."""

FROM_DATA = ("in_channels", "image_size", "n_classes", "num_classes")
"""Arguments of a factory that follow from the data; it is given those that it names. The last two are the same."""


def build_model(conf: ModelConf, data: DatasetConf) -> nn.Module:
    """The network of a configuration for images of this shape and this many classes.

    A factory of the user's is imported and called. So that a configuration of a stranger cannot call what it likes, it
    must be a class of networks, or a function whose annotation says that it returns one.

    Raises:
        ValueError: For an unknown model or option, naming the nearest, a factory that is none, or values that it
            refuses.
    """
    name = conf.name
    if name is None:
        raise ValueError("no model is named: set model.name. `gradnas list models` shows what there is.")
    for option in FROM_DATA:
        if option in conf.options:
            raise ValueError(f"model option {option!r} comes from the data set and cannot be set. Remove it.")
    facts = {
        "in_channels": data.channels,
        "image_size": data.image_size,
        "n_classes": data.n_classes,
        "num_classes": data.n_classes,
    }
    factory = _factory(name)
    parameters = inspect.signature(factory).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    known = [n for n, p in parameters.items() if p.kind not in _VARIABLE and n not in FROM_DATA]
    for option in conf.options:
        if option not in known and not open_ended:
            raise ValueError(f"model {name!r} has no option {option!r}. {did_you_mean(option, known)}")
    taken = {fact: value for fact, value in facts.items() if fact in parameters}
    try:
        model = factory(**taken, **conf.options)
    except (ValueError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # what a factory of the user's raises is anything
        cause = " ".join(str(error).split())
        if not isinstance(error, TypeError):
            cause = f"{type(error).__name__}: {cause}"
        raise ValueError(f"model {name!r} with options {conf.options}: {cause}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {name!r} gave a {type(model).__name__}, which is no torch.nn.Module.")
    return model


def model_name(model: str | Factory) -> str:
    """The name of a model for a configuration: of a factory where it can be imported from.

    Raises:
        TypeError: For what cannot be named, as a network that is built already: nobody could build it again to go on
            with the run or to load its weights.
    """
    if isinstance(model, str):
        return model
    if isinstance(model, nn.Module) or not callable(model):
        raise TypeError(
            f"a model is given by its name or as a factory, got a {type(model).__name__}: what is built already could "
            "not be built again. Give its class, or a function of a module that makes it: def build(n_classes: int) -> "
            "torch.nn.Module."
        )
    module, place = getattr(model, "__module__", ""), getattr(model, "__qualname__", "")
    try:
        found = _imported(module, place)
    except (ImportError, AttributeError, ValueError):
        found = None
    if found is not model:
        raise TypeError(
            f"the factory {place or model!r} cannot be imported as {module}:{place}, so that the run folder could not "
            "name it. Define it at the top of a module."
        )
    if module == MAIN:
        warnings.warn(
            f"the factory {place} is defined in the program that runs, so that no other one, nor the command line, can "
            "go on with the run or load its weights. Put it into a module of its own, and import it from there.",
            stacklevel=3,
        )
    return f"{module}:{place}"


MAIN = "__main__"  # of the program that runs, or of a notebook
_VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _factory(name: str) -> Factory:
    if name in MODELS:
        return MODELS[name].build
    if name.startswith(PREFIX):
        return partial(torchvision_model, name.removeprefix(PREFIX))
    module, colon, place = name.partition(":") if ":" in name else name.rpartition(".")
    if name in PUBLISHED:
        raise ValueError(
            f"{name!r} is a published architecture, not a model: retrain it by gradnas.retrain({name!r}, train_set=…) "
            f"or `gradnas retrain {name} --data SOURCE`."
        )
    if not (module and colon and place):
        raise ValueError(
            f"unknown model {name!r}. {did_you_mean(name, MODELS)} Or give one of torchvision as {PREFIX}resnet18, or "
            "package.module:factory."
        )
    try:
        found = _imported(module, place)
    except (ImportError, AttributeError) as error:
        if module == MAIN:
            raise ValueError(
                f"the model {place} was defined in the program that made the run, which is not this one: go on with "
                "the run, or load its weights, in that program."
            ) from error
        raise ValueError(
            f"model {name!r} cannot be imported: {error}. Set PYTHONPATH to the folder that holds the module, or "
            "install its package; `gradnas list models` shows the names that need neither."
        ) from error
    if not _makes_networks(found):
        raise ValueError(
            f"model {name!r} is no class of torch.nn.Module, nor a function that says to return one. Annotate it: "
            f"def {place}(n_classes: int) -> torch.nn.Module."
        )
    return found


def _imported(module: str, place: str) -> Any:
    found: Any = importlib.import_module(module)
    for attribute in place.split("."):
        found = getattr(found, attribute)
    return found


def _makes_networks(found: object) -> typing.TypeGuard[Factory]:
    if isinstance(found, type):
        return issubclass(found, nn.Module)
    try:
        returned = typing.get_type_hints(found).get("return")
    except (TypeError, NameError, AttributeError):  # nothing with annotations, or some that name nothing
        return False
    return callable(found) and isinstance(returned, type) and issubclass(returned, nn.Module)
