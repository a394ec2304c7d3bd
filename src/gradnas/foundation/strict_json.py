"""JSON of strangers: what two readers could understand differently, or what is made to exhaust one, is refused."""

import json
import re
from collections.abc import Iterable
from itertools import chain
from reprlib import repr as shortened
from typing import Any, NoReturn

MAX_CHARACTERS = 2**24
"""Longest text that is read; descriptions of the largest networks have a few million characters. A character of nothing
but empty objects takes about 25 bytes of memory."""

MAX_DEPTH = 64
"""Deepest nesting of lists and objects; a description has about a dozen levels."""

_LARGEST_INTEGER = 2**63  # beyond it other readers of JSON, and tensors, have no whole numbers
HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def read_json(text: str) -> Any:
    """The value of a JSON text.

    Args:
        text: At most :data:`MAX_CHARACTERS` characters, nested at most :data:`MAX_DEPTH` levels deep.

    Raises:
        ValueError: For other text, a name that comes twice in one object, a number that is not finite or a whole one of
            more than 64 bits, and text with half a character (a lone surrogate), which no file can hold.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_no_number
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    check_plain(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # adds, and is false
        raise ValueError(f"the name {shortened(twice)} comes twice in one object")
    return values


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -_LARGEST_INTEGER <= int(digits) < _LARGEST_INTEGER:
        raise ValueError(f"the number {digits[:20]}{'…' if len(digits) > 20 else ''} has more than 64 bits")
    return int(digits)


def _fraction(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        _no_number(digits[:20])
    return number


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no finite number")


def check_plain(value: object) -> None:
    """Refuse what JSON can say and nobody can use: half a character in a text or name, and endless nesting.

    Args:
        value: What a JSON reader returned. It is looked at level by level, without recursion.

    Raises:
        ValueError: For such a value.
    """
    level: list[object] = [value]
    for depth in range(MAX_DEPTH + 1):
        if depth == MAX_DEPTH and any(isinstance(inside, (dict, list)) for inside in level):
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        for text in level:
            if isinstance(text, str) and HALF_CHARACTER.search(text):
                raise ValueError(f"the text {shortened(text)} has half a character")
        level = list(chain.from_iterable(map(_inside, level)))


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return chain(value, value.values())
    return value if isinstance(value, list) else ()
