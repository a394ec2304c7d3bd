"""Settings over settings: a preset, a file over it, flags over both."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gradnas.config.settings import RunConf
from gradnas.training import OptimConf

PHASES = ("search", "retrain")
_OWNED = MappingProxyType(
    {
        "name": ("momentum", "nesterov", "options"),
        "schedule": ("lr_min", "factor", "milestones", "warmup_factor"),
    }
)  # what is said of the optimizer or the schedule that was chosen
COMPONENTS = ("space", "strategy", "model")


def layered(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the changes over it, key by key; neither is changed.

    Options belong to the space, strategy or model they were written for: where the changes name another one, those of
    the base are left out. Likewise settings of an optimizer, as its momentum, and of a schedule, as its last rate.

    Args:
        base: Nested plain values, as :func:`gradnas.config.from_values` reads them.
        changes: Values of the same form that win.
    """
    base = dict(base)
    for role in COMPONENTS:
        below, above = base.get(role), changes.get(role)
        if isinstance(below, Mapping) and isinstance(above, Mapping) and "name" in above:
            default = getattr(RunConf(), role).name
            if above["name"] != below.get("name", default):
                base[role] = {**below, "options": {}}
    for phase in PHASES:
        optimizer, changed = _optimizer(base, phase), _optimizer(changes, phase)
        if optimizer and changed:
            base[phase] = {**base[phase], "optimizer": _kept(optimizer, changed)}
    return _over(base, changes)


def _optimizer(values: Mapping[str, Any], phase: str) -> Mapping[str, Any]:
    part = values.get(phase)
    optimizer = part.get("optimizer") if isinstance(part, Mapping) else None
    return optimizer if isinstance(optimizer, Mapping) else {}


def _kept(optimizer: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an optimizer, at their default where the changes name another optimizer or schedule for them."""
    default, kept = dataclasses.asdict(OptimConf()), dict(optimizer)
    for chooser, owned in _OWNED.items():
        if chooser in changes and changes[chooser] != optimizer.get(chooser, default[chooser]):
            kept.update({name: default[name] for name in owned if name in optimizer})
    return kept


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = _over(below, value) if both else value  # type: ignore[arg-type]  # a mapping, as `both` says
    return result
