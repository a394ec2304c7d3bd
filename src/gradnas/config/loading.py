"""Configurations to YAML and back, and the presets that ship with the library."""

import dataclasses
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from gradnas.config.settings import RunConf
from gradnas.foundation.names import did_you_mean


def to_yaml(conf: RunConf) -> str:
    """The resolved configuration as YAML; :func:`from_yaml` gives an equal one."""
    import yaml  # not needed by a search that is not stored

    text: str = yaml.safe_dump(_plain(dataclasses.asdict(conf)), sort_keys=False, allow_unicode=True)
    return text


def from_yaml(text: str, where: str = "configuration") -> RunConf:
    """Read a configuration; what it leaves out takes its default.

    Args:
        text: YAML; nothing in it is executed.
        where: Name of the file, for messages.

    Raises:
        ValueError: For text that is no YAML mapping, an unknown key (naming the nearest) or a bad value.
    """
    import yaml

    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{where} is not YAML: {error}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be a mapping of settings, got {type(values).__name__}.")
    return from_values(values, where)


def from_values(values: Mapping[str, Any], where: str = "configuration") -> RunConf:
    """The configuration of nested plain values. ValueError as for :func:`from_yaml`."""
    from jsonargparse import ArgumentError, ArgumentParser  # slow to import; only those who load files pay

    check_keys(values, RunConf, where)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RunConf, fail_untyped=True)
    try:
        parsed = parser.instantiate(parser.parse_object(dict(values)))
    except (ArgumentError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    return RunConf(**{field.name: parsed[field.name] for field in dataclasses.fields(RunConf)})


def check_keys(values: Mapping[str, Any], kind: type, where: str, place: str = "") -> None:
    """Refuse a key that the settings do not have, naming the nearest. ValueError."""
    hints = typing.get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"{where}: unknown key {place + str(key)!r}. {did_you_mean(str(key), hints)}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            check_keys(value, typing.cast("type", hints[key]), where, f"{place}{key}.")


def preset_names() -> list[str]:
    """Names of the presets."""
    folder = resources.files("gradnas.config") / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """YAML of a preset. ValueError for an unknown name, naming the nearest."""
    if name not in preset_names():
        raise ValueError(f"unknown preset {name!r}. {did_you_mean(name, preset_names())}")
    return (resources.files("gradnas.config") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def load_preset(name: str) -> RunConf:
    """The configuration of a preset."""
    return from_yaml(preset_text(name), f"preset {name}")


def load_config(path: str | Path) -> RunConf:
    """The configuration of a YAML file. FileNotFoundError when there is none."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no configuration at {path}.")
    return from_yaml(path.read_text(encoding="utf-8"), str(path))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
