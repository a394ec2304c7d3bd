"""Settings over settings: a preset, a file over it, flags over both."""

from collections.abc import Mapping
from typing import Any

from gradnas.config.settings import RunConf

COMPONENTS = ("space", "strategy")


def layered(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the changes over it, key by key; neither is changed.

    Options belong to the space or strategy they were written for: where the changes name another one, the options of
    the base are left out.

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
    return _over(base, changes)


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = _over(below, value) if both else value  # type: ignore[arg-type]  # a mapping, as `both` says
    return result
