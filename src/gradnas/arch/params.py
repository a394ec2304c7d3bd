"""Immutable parameters of an operation: plain values under names."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Union

from gradnas.arch.limits import MAX_CHANNELS, MAX_INTEGER
from gradnas.arch.shapes import check_count


@dataclass(frozen=True)
class ConvMacroParams:
    """The channel counts that the macro structure (depth, width) may change: input and output channels, each >= 1.

    Raises:
        ValueError: For a count below 1 or above :data:`gradnas.arch.limits.MAX_CHANNELS`.
    """

    ch_in: int
    ch_out: int

    def __post_init__(self) -> None:
        check_count(self.ch_in, "ch_in", maximum=MAX_CHANNELS)
        check_count(self.ch_out, "ch_out", maximum=MAX_CHANNELS)

    def clone(self) -> "ConvMacroParams":
        """An equal, independent copy."""
        return ConvMacroParams(self.ch_in, self.ch_out)


PlainValue = Union[None, bool, int, float, str, ConvMacroParams, tuple["PlainValue", ...]]  # noqa: UP007 - refers to itself
"""What a parameter may be: it compares, hashes and survives JSON."""


class Params(Mapping[str, PlainValue]):
    """A hashable mapping name -> plain value; lists become tuples. As in a file, 1, 1.0 and True are not equal.

    Raises:
        TypeError: For a name that is no string, or a value that is not plain, naming it.
        ValueError: For a number that is not finite, which JSON has no word for, or a whole one of more than 64 bits.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object] | None = None, /, **more: object) -> None:
        merged = {**(values or {}), **more}
        for name in merged:
            if not isinstance(name, str):
                raise TypeError(f"names of parameters must be strings, got {name!r}.")
        self._values: dict[str, PlainValue] = {name: _plain(value, name) for name, value in sorted(merged.items())}

    def __getitem__(self, name: str) -> PlainValue:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Params):
            return repr(self) == repr(other)  # tells 1 from 1.0 and True, as the content hash of a description does
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"Params({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"

    def replace(self, **changes: object) -> "Params":
        """A copy with these values changed or added."""
        return Params({**self._values, **changes})


def _plain(value: object, name: str) -> PlainValue:
    if value is None or isinstance(value, (bool, ConvMacroParams)):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"parameter {name!r} must be finite, got {value!r}.")
    # Exact types only, such as float for numpy.float64: no subclass survives JSON.
    if isinstance(value, int):
        return int(check_count(value, f"parameter {name!r}", -MAX_INTEGER, MAX_INTEGER))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item, name) for item in value)
    raise TypeError(
        f"parameter {name!r} must be None, bool, int, float, str, ConvMacroParams or a tuple of them, "
        f"got {type(value).__name__}. Descriptions are plain data; keep objects in the module."
    )
