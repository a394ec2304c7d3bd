"""Which settings make two runs repeats of each other, which make them two methods, and which forbid to compare them.

The one place of the rule:

- The **data set** is what the images are. Accuracies on two data sets say nothing about two methods.
- The **budget** is what a run may see and spend: the split, the augmentation, batches, steps, epochs and the size of
  the supergraph in the search; and the whole retraining, which is the yardstick that every found architecture is
  measured with. With another yardstick a difference is not one of the searches.
- The **method** is what the search does with its budget: the space's choices, the strategy and its options, how the
  weights of the supergraph learn, remedies, finalizers.
- The **baseline** is a yardstick of its own: it changes the row of random search and nothing else.
- The **seed** makes repeats.
- What is **technical** changes how fast a run is or what it logs, not what it finds, but for rounding.
"""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

from gradnas.config import SPACES, STRATEGIES, ComponentConf, RunConf
from gradnas.foundation.plain_text import one_line
from gradnas.models import MODELS
from gradnas.report.drawing.scene import shortened
from gradnas.training import SGD_MOMENTUM

_LONGEST_VALUE = 28  # characters of a value in a name


class Role(StrEnum):
    """What a setting is when runs are compared; see the head of this file."""

    DATASET = "data set"
    BUDGET = "budget"
    METHOD = "method"
    BASELINE = "baseline"
    SEED = "seed"
    TECHNICAL = "technical"


_PHASE = {
    "epochs": Role.BUDGET,
    "batch_size": Role.BUDGET,
    "batch_chunks": Role.BUDGET,  # batch statistics are those of a part
    "precision": Role.BUDGET,
    "max_steps_per_epoch": Role.BUDGET,
    "val_ratio": Role.BUDGET,
    "cutout": Role.BUDGET,
    "policy": Role.BUDGET,
    "eval_batch_size": Role.TECHNICAL,
    "log_every_steps": Role.TECHNICAL,
    "validate_every_epochs": Role.TECHNICAL,
    "checkpoint_every_epochs": Role.TECHNICAL,
    "checkpoint_every_seconds": Role.TECHNICAL,
    "keep_checkpoints": Role.TECHNICAL,
}
_TRAINING = (
    *("optimizer", "grad_clip", "label_smoothing", "aux_weight", "drop_path", "l1_alphas", "on_nonfinite"),
    *("ema", "mixup", "cutmix"),
)

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "data.source": Role.DATASET,
        "data.image_size": Role.DATASET,
        "data.root": Role.TECHNICAL,
        "data.crop_padding": Role.BUDGET,
        "data.channels": Role.DATASET,
        "data.flip": Role.BUDGET,
        "data.resized_crop": Role.BUDGET,
        "data.max_memory": Role.TECHNICAL,
        "data.stream": Role.TECHNICAL,
        "data.workers": Role.TECHNICAL,
        "data.skip_unreadable": Role.DATASET,
        "space.name": Role.METHOD,
        "space.options": Role.METHOD,
        "space.options.channels": Role.BUDGET,
        "space.options.cells": Role.BUDGET,
        "strategy.name": Role.METHOD,
        "strategy.options": Role.METHOD,
        **{f"search.{name}": role for name, role in _PHASE.items()},
        **{f"search.{name}": Role.METHOD for name in _TRAINING},
        "search.finalizers": Role.METHOD,
        "search.stabilize": Role.METHOD,
        "search.augment_val_batches": Role.BUDGET,
        "search.fused": Role.TECHNICAL,
        "search.cuda_graph": Role.TECHNICAL,
        **{f"retrain.{name}": role for name, role in _PHASE.items()},
        **{f"retrain.{name}": Role.BUDGET for name in _TRAINING},
        "retrain.channels": Role.BUDGET,
        "retrain.cells": Role.BUDGET,
        "retrain.stems": Role.BUDGET,
        "retrain.inherit_weights": Role.BUDGET,
        "arch": Role.METHOD,
        "model.name": Role.METHOD,
        "model.options": Role.METHOD,
        "baseline.samples": Role.BASELINE,
        **{f"grid.{name}": Role.BUDGET for name in ("max_reductions", "max_cells", "max_nodes", "epochs")},
        "seed": Role.SEED,
        "device": Role.TECHNICAL,
        "tensorboard": Role.TECHNICAL,
        "max_time": Role.BUDGET,
        "deterministic": Role.TECHNICAL,
    }
)
"""Setting, or part of the settings, to its role; the longest entry that fits a setting counts."""

Settings = Mapping[str, object]
"""Dotted names of settings to plain values."""

DEFAULT = "default"
"""Stands for an option that a run does not give and whose default is not known."""


def role_of(setting: str) -> Role:
    """The role of a setting by its dotted name."""
    name = setting
    while name not in ROLES:
        name, dot, _ = name.rpartition(".")
        assert dot, f"no role for the setting {setting!r}"
    return ROLES[name]


def settings_of(conf: RunConf) -> Settings:
    """All settings of a run by their dotted names; options that were left out have the defaults of their component.

    A run that trains a given model or architecture has no settings of a search, and a run that searches none of them.

    Only components that the library knows by name are looked into: a class path in somebody's configuration is not
    imported in order to compare.
    """
    known = {
        "space": SPACES.get(conf.space.name),
        "strategy": STRATEGIES.get(conf.strategy.name),
        "model": _factory(conf.model.name),
    }
    values = dataclasses.asdict(conf)
    for optimizer in (values["search"]["optimizer"], values["retrain"]["optimizer"]):
        if optimizer["name"] == "sgd" and optimizer["momentum"] is None:
            optimizer["momentum"] = SGD_MOMENTUM
    for role, made_by in known.items():
        values[role]["options"] = _with_defaults(made_by, values[role]["options"])
    left_out: tuple[str, ...] = _OF_MODELS
    if conf.arch is not None:
        left_out = ("space.", *_OF_MODELS, *_OF_SEARCHES)
    if conf.model.name is not None:
        left_out = ("arch", "space.", *_OF_SEARCHES, *_OF_FOUND_NETWORKS)
    return {name: value for name, value in _flat(values, "") if not name.startswith(left_out)}


_OF_MODELS = ("model.",)
_OF_FOUND_NETWORKS = tuple(f"retrain.{name}" for name in ("channels", "cells", "stems", "inherit_weights"))
_OF_SEARCHES = ("strategy.", "search.", "baseline.", "grid.")


def _factory(name: str | None) -> Callable[..., object] | None:
    return MODELS[name].build if name is not None and name in MODELS else None


def _with_defaults(kind: Callable[..., object] | None, options: Mapping[str, object]) -> dict[str, object]:
    parameters = inspect.signature(kind).parameters.values() if kind is not None else ()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | dict(options)


def _flat(values: Mapping[str, object], place: str) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value


def counted(settings: Settings, *, retrained: bool) -> dict[str, object]:
    """The settings that tell rows apart: budget and method, those of the retraining only where there is one."""
    return {
        name: value
        for name, value in settings.items()
        if role_of(name) in (Role.BUDGET, Role.METHOD) and (retrained or not name.startswith("retrain."))
    }


def key_of(settings: Settings) -> str:
    """A text that is equal for equal settings; a whole number is equal to itself with a point."""
    return json.dumps({name: value_key(value) for name, value in settings.items()}, sort_keys=True)


def value_key(value: object) -> str:
    """A text that is equal for equal values."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_key, value))}]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, default=str, ensure_ascii=False)


def short_name(setting: str) -> str:
    """A setting as it stands in the name of a row: options of strategies and remedies without their place."""
    for prefix in ("strategy.options.", "search.stabilize."):
        if setting.startswith(prefix):
            return one_line(setting.removeprefix(prefix))
    return one_line(setting.replace(".options.", "."))


def value_text(value: object) -> str:
    """A value as the configuration file writes it, long ones shortened."""
    return shortened(one_line(value if isinstance(value, str) else value_key(value)), _LONGEST_VALUE)


def differing(all_settings: Sequence[Settings]) -> list[str]:
    """Names of the settings that do not have one value everywhere, in order.

    One that a run does not have, as a run without retraining has no settings of it, does not count there; an option
    that a component of it does not have is at its default.
    """
    names = dict.fromkeys(name for settings in all_settings for name in settings)

    def values(name: str) -> set[str]:
        component, options, _ = name.partition(".options.")
        return {
            value_key(s.get(name, DEFAULT)) for s in all_settings if name in s or (options and f"{component}.name" in s)
        }

    return [name for name in names if len(values(name)) > 1]


def importance(setting: str) -> int:
    """Where a setting stands in the name of a row, the smaller the earlier: what searches, where, and all the rest."""
    places = (("strategy.", "search.finalizers", "search.stabilize."), ("space.",), ("",))
    return next(rank for rank, starts in enumerate(places) if setting.startswith(starts))


def distinguishing(all_settings: Sequence[Settings]) -> list[str]:
    """Few settings that tell apart all that differ, the most important ones first.

    Of equal importance, again and again the one that tells most of them apart.
    """
    offered = differing(all_settings)
    chosen: list[str] = []

    def groups(names: Sequence[str]) -> int:
        return len({tuple(value_key(s.get(name, DEFAULT)) for name in names) for s in all_settings})

    for rank in sorted({importance(name) for name in offered}):
        left = [name for name in offered if importance(name) == rank]
        while left:
            best = max(left, key=lambda name: groups([*chosen, name]))  # of equally good ones the first
            if groups([*chosen, best]) == groups(chosen):
                break
            chosen.append(best)
            left.remove(best)
    return chosen


def departures(settings: Settings, others: Sequence[Settings]) -> list[str]:
    """The settings that differ from one of the others and are not at their default, the most important first.

    What such a setting does, such as to cut every epoch short, may matter more than what tells the two apart already.
    Of equal importance, one that another row leaves at its default comes first.
    """
    default = _defaults(str(settings.get("space.name", "")), str(settings.get("strategy.name", "")))
    unlike = set(differing([settings, *others]))
    found = [n for n in settings if n in unlike and n in default and value_key(settings[n]) != value_key(default[n])]

    def left_alone(name: str) -> bool:
        return any(name in other and value_key(other[name]) == value_key(default[name]) for other in others)

    return sorted(found, key=lambda name: (importance(name), not left_alone(name)))


@functools.lru_cache(maxsize=64)
def _defaults(space: str, strategy: str) -> Settings:
    """All settings at their defaults; those of a component that the library does not know have none."""
    conf = RunConf(space=ComponentConf(name=space), strategy=ComponentConf(name=strategy))
    components = ("space.name", "strategy.name")
    return {name: value for name, value in settings_of(conf).items() if name not in components}
