"""Whether a checkpoint is of the run that wants to go on with it."""

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from gradnas.training.settings import WATCHING, TrainConf


def shaping_settings(conf: TrainConf) -> dict[str, Any]:
    """The settings that change the run, not only what is seen or saved of it, as plain values."""
    shaping = {f.name: getattr(conf, f.name) for f in fields(conf) if f.name not in WATCHING}
    return {name: repr(value) if is_dataclass(value) else value for name, value in shaping.items()}


def check_identity(ours: Mapping[str, Any], theirs: Mapping[str, Any], data: Collection[str], path: Path) -> None:
    """Refuse to go on with a checkpoint of another run.

    Args:
        ours: What tells this run from others.
        theirs: The same of the checkpoint.
        data: Those keys that say which images there are.
        path: Of the checkpoint, for messages.

    Raises:
        ValueError: Naming what differs.
    """
    changed = [part for part in data if theirs.get(part) != ours[part]]
    if changed and any(part in theirs for part in changed):
        raise ValueError(
            f"{path} was made with other {' and '.join(changed)}. Put the images back that the run began with, or "
            "begin a new run in another folder."
        )
    different = [f"{key}: {theirs.get(key)!r}, now {ours[key]!r}" for key in ours if theirs.get(key) != ours[key]]
    if different:
        raise ValueError(f"{path} is of another run ({'; '.join(different)}); choose another folder.")
