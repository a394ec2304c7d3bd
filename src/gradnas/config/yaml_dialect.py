"""YAML as users write it: ``1e-3`` is a number, a key given twice is an error, and no tag is ever executed.

PyYAML reads YAML 1.1, in which ``1:30`` is ninety, ``010`` is eight, ``1_000`` a number and ``2024-01-01`` a date. Here
these are text, as they are to most readers, and numbers are those of YAML 1.2 and of JSON: ``12``, ``-1.5``, ``1e-3``,
``0x1F``, ``.inf``. The words ``yes``, ``no``, ``on`` and ``off`` stay truth values.
"""

import re
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any

from gradnas.foundation.strict_json import HALF_CHARACTER

if TYPE_CHECKING:
    from yaml import SafeDumper, SafeLoader
    from yaml.nodes import MappingNode, Node, ScalarNode

MAX_CHARACTERS = 2**18
"""Longest text that is read: a configuration has a few thousand characters, and PyYAML reads 100,000 in a second."""

MAX_DEPTH = 32
"""Deepest nesting of lists and mappings."""

MAX_VALUES = 100_000
"""Most values when every alias is written out: an alias of aliases of aliases would fill any memory."""

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge"))
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FRACTION = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LARGEST_INTEGER = 2**63
_LONGEST_INTEGER = 66  # octal digits of 64 bits, with room
_FIRST_CHARACTERS = list("-+.0123456789")


def load_yaml(text: str) -> Any:
    """Plain values of a YAML text: text, numbers, truth values, null, lists, and mappings.

    Args:
        text: At most :data:`MAX_CHARACTERS` characters, nested at most :data:`MAX_DEPTH` levels deep.

    Raises:
        ValueError: For text that is no YAML, a key that comes twice, other values than these, a whole number of more
            than 64 bits, an alias of what is around it, and aliases that stand for more than :data:`MAX_VALUES` values.
    """
    from yaml import YAMLError

    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read")
    try:
        loader = _loader()(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    # PyYAML lets through what an escape of a character that does not exist, such as "\\UFFFFFFFF", makes Python raise.
    except (YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def dump_yaml(values: Any) -> str:
    """YAML that :func:`load_yaml` reads back to equal values; tuples become lists.

    Raises:
        ValueError: For a whole number of more than 64 bits, which would not be read back.
    """
    from yaml import dump

    text: str = dump(values, Dumper=_dumper(), sort_keys=False, allow_unicode=True)
    return text


def _check(root: "Node") -> None:
    """Refuse values that are not plain, keys that come twice, and aliases that stand for too much."""
    from yaml.nodes import MappingNode, ScalarNode

    sizes: dict[tuple[int, int], int] = {}

    def size(node: "Node", depth: int) -> int:
        if depth > MAX_DEPTH:
            raise _fault(
                f"it is nested more than {MAX_DEPTH} levels deep, or an alias stands for what is around it", node
            )
        if node.tag not in _PLAIN_TAGS:
            raise _fault(f"{node.tag.removeprefix(_TAG)} is no kind of value that a configuration holds", node)
        if isinstance(node, ScalarNode):
            if HALF_CHARACTER.search(node.value):
                raise _fault("a text has half a character", node)
            return 1
        # By depth as well: an alias may stand deeper than its anchor. Depth is bounded, so that the walk ends.
        place = id(node), depth
        if place not in sizes:
            if isinstance(node, MappingNode):
                _check_keys(node)
            sizes[place] = 1
            for item in node.value:
                for child in item if isinstance(item, tuple) else (item,):
                    sizes[place] += size(child, depth + 1)
                    if sizes[place] > MAX_VALUES:
                        raise _fault(f"its aliases stand for more than {MAX_VALUES:,} values", node)
        return sizes[place]

    size(root, 0)


def _check_keys(node: "MappingNode") -> None:
    from yaml.nodes import ScalarNode

    seen = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise _fault("a key is a list or a mapping, not a name", key)
        if key.tag != f"{_TAG}merge" and key.value in seen:
            raise _fault(f"the key {key.value!r} comes twice", key)
        seen.add(key.value)


def _fault(message: str, node: "Node") -> Exception:
    from yaml.constructor import ConstructorError

    return ConstructorError(None, None, message, node.start_mark)


def _loader() -> "type[SafeLoader]":
    from yaml import SafeLoader
    from yaml.constructor import ConstructorError

    class Loader(SafeLoader):
        depth = 0

        def compose_node(self, parent: "Node | None", index: Any) -> "Node | None":
            self.depth += 1
            if self.depth > MAX_DEPTH + 1:  # at once: the time that PyYAML takes grows with the square of the depth
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
                raise ConstructorError(None, None, f"it is nested more than {MAX_DEPTH} levels deep", mark)
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_integer(self, node: "ScalarNode") -> int:
            text = node.value
            if not _INTEGER.fullmatch(text):
                raise _fault(f"{text!r} is no whole number", node)
            number = int(text, 0) if len(text) <= _LONGEST_INTEGER else _LARGEST_INTEGER
            if not -_LARGEST_INTEGER <= number < _LARGEST_INTEGER:
                raise _fault("a whole number has more than 64 bits", node)
            return number

        def construct_fraction(self, node: "ScalarNode") -> float:
            text = node.value
            if _NOT_FINITE.fullmatch(text):
                return float(text.replace(".", "", 1))
            if not _FRACTION.fullmatch(text) and not _INTEGER.fullmatch(text):
                raise _fault(f"{text!r} is no number", node)
            return float(text) if not text.startswith("0x") else float(self.construct_integer(node))

        def construct_truth(self, node: "ScalarNode") -> bool:
            if node.value.lower() not in self.bool_values:
                raise _fault(f"{node.value!r} is neither true nor false", node)
            return self.bool_values[node.value.lower()]

    replaced = ("int", "float", "timestamp", "value")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_TAG) not in replaced]
        for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
    }
    _add_numbers(Loader)
    Loader.add_constructor(f"{_TAG}int", Loader.construct_integer)
    Loader.add_constructor(f"{_TAG}float", Loader.construct_fraction)
    Loader.add_constructor(f"{_TAG}bool", Loader.construct_truth)
    return Loader


def _dumper() -> "type[SafeDumper]":
    from yaml import SafeDumper

    class Dumper(SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True  # a value that occurs twice is written twice, for the reader

        def represent_integer(self, number: int) -> "ScalarNode":
            if not -_LARGEST_INTEGER <= number < _LARGEST_INTEGER:
                raise ValueError(f"a configuration holds whole numbers of up to 64 bits, got {shortened(number)}.")
            return self.represent_int(number)

    Dumper.add_representer(int, Dumper.represent_integer)
    _add_numbers(Dumper)  # beside those of YAML 1.1: text that looks like a number to either is quoted
    return Dumper


def _add_numbers(kind: "type[SafeLoader] | type[SafeDumper]") -> None:
    kind.add_implicit_resolver(f"{_TAG}int", _whole(_INTEGER), _FIRST_CHARACTERS)
    kind.add_implicit_resolver(f"{_TAG}float", _whole(_FRACTION, _NOT_FINITE), _FIRST_CHARACTERS)


def _whole(*patterns: re.Pattern[str]) -> re.Pattern[str]:
    """PyYAML matches the beginning of a text alone."""
    return re.compile(f"(?:{'|'.join(pattern.pattern for pattern in patterns)})\\Z")
