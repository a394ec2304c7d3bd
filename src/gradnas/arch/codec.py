"""Descriptions to plain JSON values and back, driven by the type annotations: strict in both directions."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from reprlib import repr as shortened
from typing import Any, TypeVar

from gradnas.arch.params import ConvMacroParams, Params
from gradnas.foundation.names import did_you_mean

T = TypeVar("T")


def encode(value: object) -> Any:
    """Plain JSON value of a description part.

    Fields marked ``stored=False`` (weights) are left out, and those marked ``stored="changed"`` at their default: so
    what came later leaves files and hashes of all that does not use it as they were.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if _is_stored(f, value)}
    if isinstance(value, Mapping):
        return {str(name): encode(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return value


def _is_stored(field: dataclasses.Field[Any], value: object) -> bool:
    stored = field.metadata.get("stored", True)
    return getattr(value, field.name) != field.default if stored == "changed" else bool(stored)


def decode(kind: type[T], data: object, place: str) -> T:
    """The description part of type ``kind`` that :func:`encode` gave ``data`` for.

    Args:
        kind: Annotation: a dataclass, Params, Enum, int, float, bool, str, None, a union or a tuple of these.
        data: What :func:`gradnas.foundation.strict_json.read_json` returned, whose numbers fit into 64 bits.
        place: Dotted place of ``data`` in the file, for messages.

    Raises:
        ValueError: For an unknown or missing field, a wrong type or a value that the description refuses; the message
            names the place.
    """
    return typing.cast("T", _decode(kind, data, place))


def _decode(kind: Any, data: Any, place: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(kind), data, place)
    if origin is tuple:
        return _decode_tuple(typing.get_args(kind), data, place)
    if kind is Params:
        return _decode_params(data, place)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, place)
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = [member.value for member in kind]
        if data not in choices:
            raise ValueError(f"{place}: expected one of {choices}, got {shortened(data)}.")
        return kind(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise ValueError(f"{place}: expected {kind.__name__}, got {shortened(data)}.")
    return data


def _decode_union(kinds: tuple[Any, ...], data: Any, place: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    (kind,) = (k for k in kinds if k is not type(None))
    return _decode(kind, data, place)


def _decode_tuple(kinds: tuple[Any, ...], data: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise ValueError(f"{place}: expected a list, got {shortened(data)}.")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(data)
    if len(data) != len(kinds):
        raise ValueError(f"{place}: expected {len(kinds)} entries, got {len(data)}.")
    return tuple(_decode(kind, item, f"{place}[{i}]") for i, (kind, item) in enumerate(zip(kinds, data, strict=True)))


def _decode_params(data: Any, place: str) -> Params:
    if not isinstance(data, dict):
        raise ValueError(f"{place}: expected an object, got {shortened(data)}.")
    values = {name: _decode_plain(value, f"{place}.{name}") for name, value in data.items()}
    try:
        return Params(values)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _decode_plain(value: Any, place: str) -> Any:
    if isinstance(value, dict):
        return _decode_dataclass(ConvMacroParams, value, place)
    if isinstance(value, list):
        return tuple(_decode_plain(item, f"{place}[{i}]") for i, item in enumerate(value))
    return value


def _decode_dataclass(kind: Any, data: Any, place: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{place}: expected an object with the fields of {kind.__name__}, got {shortened(data)}.")
    stored = {f.name: f for f in dataclasses.fields(kind) if f.metadata.get("stored", True)}
    for name in data:
        if name not in stored:
            raise ValueError(f"{place}: unknown field {shortened(name)}. {did_you_mean(name, stored)}")
    for name, field in stored.items():
        if name not in data and field.metadata.get("stored") != "changed":
            raise ValueError(f"{place}: field {name!r} is missing.")
    hints = typing.get_type_hints(kind)
    values = {name: _decode(hints[name], item, f"{place}.{name}") for name, item in data.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error
