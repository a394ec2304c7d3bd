"""What of a preset or file counts where options name the network to train: nothing of searching one."""

from collections.abc import Collection, Mapping
from typing import Any

SEARCHING = ("strategy", "search", "baseline", "grid")
"""Settings that need a search."""

OF_SEARCHES = ("arch", "space", *SEARCHING)
"""Those that a model designed by hand has no use for."""

_OF_SUPERGRAPHS = ("channels", "cells", "nodes", "primitives")
_OF_CELLS = ("channels", "cells", "stems", "inherit_weights", "drop_path", "aux_weight")


def for_model(below: Mapping[str, Any]) -> dict[str, Any]:
    """The settings below the options, for a model designed by hand: without searches and what networks of cells need.

    Args:
        below: Nested plain values of a preset and a file, keys checked.
    """
    kept = _without(below, OF_SEARCHES)
    return {**kept, "retrain": _without(kept.get("retrain", {}), _OF_CELLS)}


def for_arch(below: Mapping[str, Any]) -> dict[str, Any]:
    """Those for a given architecture: without searches, another model, and what its genotype says of the space."""
    kept = _without(below, (*SEARCHING, "arch", "model"))
    space = kept.get("space", {})
    if "options" in space:
        kept["space"] = {**space, "options": _without(space["options"], _OF_SUPERGRAPHS)}
    return {**kept, "retrain": _without(kept.get("retrain", {}), ("inherit_weights",))}


def _without(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
