"""Settings in the types that they declare, so that those given in Python are those that a file gives back."""

import numbers
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from reprlib import repr as shortened
from typing import Any, get_args, get_origin, get_type_hints

_KINDS = {float: "a number", bool: "True or False", str: "text"}


def bring_to_declared_types(settings: object) -> None:
    """Bring the fields of a frozen dataclass to their types when it is made, in its ``__post_init__``.

    Where a number is declared, ``1`` becomes ``1.0``; ``tuple[float, ...]`` is made of any such series; of options,
    ``dict[str, Any]``, :func:`plain_values` are kept. Whole numbers and words of a list are left to their own checks.

    Args:
        settings: An instance whose fields are set; it is changed.

    Raises:
        TypeError: For a value of another type than its field declares, naming the field.
        ValueError: For a number that is too large for a float.
    """
    for name, declared in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        kinds = get_args(declared) if type(None) in get_args(declared) else (declared,)
        if value is None and type(None) in kinds:
            continue
        object.__setattr__(settings, name, _brought(value, kinds[0], name))


def plain_values(value: Any) -> Any:
    """The value with lists for tuples, dicts for mappings, and Python's own numbers, at any depth."""
    if isinstance(value, Mapping):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(item) for item in value]
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return value


def _brought(value: Any, declared: Any, name: str) -> Any:
    if declared is float:
        return _number(value, name)
    if get_origin(declared) is tuple and get_args(declared) == (float, ...):
        if not isinstance(value, Iterable) or isinstance(value, (str, Mapping)):
            raise TypeError(f"{name} must be a list of numbers, got {shortened(value)}.")
        return tuple(_number(item, f"each of {name}") for item in value)
    if get_origin(declared) is dict:
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a mapping of names to values, got {shortened(value)}.")
        return plain_values(value)
    known = isinstance(declared, type) and (declared in _KINDS or is_dataclass(declared))
    if known and not isinstance(value, declared):
        raise TypeError(f"{name} must be {_KINDS.get(declared, declared.__name__)}, got {shortened(value)}.")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {_KINDS[float]}, got {shortened(value)}.")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} must be a number that a float can hold, got {shortened(value)}.") from error
