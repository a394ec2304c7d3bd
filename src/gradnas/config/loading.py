"""Configurations to YAML and back, and the presets that ship with the library."""

import dataclasses
import re
import typing
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gradnas.config.layers import PHASES, layered
from gradnas.config.settings import ManualConf, RunConf
from gradnas.config.yaml_dialect import MAX_CHARACTERS, dump_yaml, load_yaml
from gradnas.foundation.declared_types import plain_values
from gradnas.foundation.files import read_text
from gradnas.foundation.names import did_you_mean

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

T = TypeVar("T")


def to_yaml(conf: RunConf) -> str:
    """The resolved configuration as YAML; :func:`from_yaml` gives an equal one."""
    return dump_yaml(plain_values(dataclasses.asdict(conf)))


def from_yaml(text: str, where: str = "configuration") -> RunConf:
    """Read a configuration; what it leaves out takes its default.

    Args:
        text: YAML; nothing in it is executed.
        where: Name of the file, for messages.

    Raises:
        ValueError: For text that is no YAML mapping, an unknown key (naming the nearest) or a bad value.
    """
    return from_values(values_of(text, where), where)


def values_of(text: str, where: str = "configuration") -> dict[str, Any]:
    """The plain values of a configuration, keys checked, nothing filled in. ValueError as for :func:`from_yaml`."""
    try:
        values = load_yaml(text)
    except ValueError as error:
        raise ValueError(f"{where} is not YAML: {error}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be a mapping of settings, got {type(values).__name__}.")
    check_keys(values, RunConf, where)
    return values


def from_values(values: Mapping[str, Any], where: str = "configuration") -> RunConf:
    """The configuration of nested plain values. ValueError as for :func:`from_yaml`."""
    from jsonargparse import ArgumentError  # slow to import; only those who load files pay

    check_keys(values, RunConf, where)
    if values.get("model", {}).get("name") is not None:
        begin = plain_values(dataclasses.asdict(ManualConf()))
        values = layered({"retrain": begin | {"optimizer": {"lr": ManualConf().optimizer.lr}}}, values)
    values = layered(_optimizers(), values)  # so that a setting of the default schedule goes with that schedule
    # Options never pass through the parser: it would turn text that looks like YAML into numbers, and build (that is,
    # call) whatever a {class_path: …} among them names.
    try:
        parsed = _parser().parse_object(_without_options(values, RunConf)).as_dict()
    except (ArgumentError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: {readable(error)}") from error
    _put_back(parsed, values, RunConf)
    return _construct(RunConf, parsed, where)


def _optimizers() -> dict[str, Any]:
    """The optimizers of the phases at their defaults."""
    conf = RunConf()
    return {name: {"optimizer": plain_values(dataclasses.asdict(getattr(conf, name).optimizer))} for name in PHASES}


@cache
def _parser() -> "ArgumentParser":
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RunConf, fail_untyped=True)
    return parser


def check_keys(values: Mapping[str, Any], kind: type, where: str, place: str = "") -> None:
    """Refuse a key that the settings do not have, naming the nearest, and a part that is no mapping. ValueError."""
    hints = typing.get_type_hints(kind)
    for key, value in values.items():
        name = f"{place}{key}"
        if key not in hints:
            raise ValueError(f"{where}: unknown key {name!r}. {did_you_mean(str(key), hints)}")
        if dataclasses.is_dataclass(hints[key]) or typing.get_origin(hints[key]) is dict:
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}: {name} must be a mapping of settings, got {value!r}.")
            if dataclasses.is_dataclass(hints[key]):
                check_keys(value, typing.cast("type", hints[key]), where, f"{name}.")
            elif not all(isinstance(option, str) for option in value):
                raise ValueError(f"{where}: the keys of {name} must be names, got {list(value)}.")
        else:
            _check_text(value, hints[key], f"{where}: {name}")


def _check_text(value: object, hint: Any, place: str) -> None:
    """Refuse text for a number, which the parser would read as YAML once more, and null where it has no meaning."""
    kinds = typing.get_args(hint) or (hint,)
    numeric = {bool, int, float, type(None)}.issuperset(kinds)
    if (value is None and type(None) not in kinds) or (isinstance(value, str) and numeric):
        expected = " or ".join(_kind(getattr(kind, "__name__", str(kind))) for kind in kinds)
        raise ValueError(f"{place} must be {expected}, got {'null' if value is None else repr(value)}.")


def readable(error: Exception, prefix: str = "") -> str:
    """A message of jsonargparse in one line, such as ``search.epochs must be a whole number, got 'x'``.

    Args:
        error: What it raised.
        prefix: Put before the key, e.g. ``--``.
    """
    text = str(error)
    key, got = re.match(r'Parser key "([^"]+)"', text), re.search(r"(?:Got value|Given value): (.*)", text)
    expected = re.findall(r"Expected an? (.*?)(?:\. Got value.*)?$", text, flags=re.MULTILINE)
    if not (key and got and expected):
        return " ".join(text.split())
    kinds = [_kind(found) for found in expected]
    return f"{prefix}{key[1]} must be {' or '.join(kinds)}, got {got[1]!r}."


def _kind(found: str) -> str:
    literal = re.fullmatch(r"typing\.Literal\[(.*)\]", found)
    if literal:
        return f"one of {literal[1]}"
    name = re.sub(r"<class '(.*)'>", r"\1", found)
    names = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null"}
    return names.get(name, name)


def _without_options(values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {
        key: _without_options(value, typing.cast("type", hints[key])) if dataclasses.is_dataclass(hints[key]) else value
        for key, value in values.items()
        if typing.get_origin(hints[key]) is not dict
    }


def _put_back(parsed: dict[str, Any], values: Mapping[str, Any], kind: type) -> None:
    """Options, and text as written: the parser would read a folder named ``null`` or ``#1`` as YAML."""
    hints = typing.get_type_hints(kind)
    for key, value in values.items():
        if dataclasses.is_dataclass(hints[key]):
            _put_back(parsed[key], value, typing.cast("type", hints[key]))
        elif typing.get_origin(hints[key]) is dict:
            parsed[key] = dict(value)
        elif isinstance(value, str) and str in (hints[key], *typing.get_args(hints[key])):
            parsed[key] = value


def _construct(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """A dataclass of dataclasses; an error of one part says which."""
    hints = typing.get_type_hints(kind)
    parts = {
        key: _construct(hints[key], value, f"{where}: {key}") if dataclasses.is_dataclass(hints[key]) else value
        for key, value in values.items()
    }
    try:
        return kind(**parts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


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


def config_text(path: str | Path) -> str:
    """The text of a configuration file. FileNotFoundError for none, ValueError for one that is no text or too long."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no configuration at {path}.")
    try:
        return read_text(path, 4 * MAX_CHARACTERS)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: it is no UTF-8 text.") from error
    except ValueError as error:
        raise ValueError(f"{path} is not YAML: {error}.") from error


def load_config(path: str | Path) -> RunConf:
    """The configuration of a YAML file. FileNotFoundError when there is none."""
    return from_yaml(config_text(path), str(path))
