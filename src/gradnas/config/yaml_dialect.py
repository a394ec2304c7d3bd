"""YAML as users write it: ``1e-3`` is a number, a key given twice is an error, and no tag is ever executed."""

import re
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yaml import SafeDumper, SafeLoader
    from yaml.nodes import MappingNode

# PyYAML reads YAML 1.1, in which a number with an exponent needs a point and a sign: 1e-3 would be text there.
_EXPONENT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+")


def load_yaml(text: str) -> Any:
    """Plain values of a YAML text. ValueError for text that is no YAML, or a key that comes twice."""
    from yaml import YAMLError, load

    try:
        return load(text, Loader=_loader())  # noqa: S506 - derived from the safe loader
    except (YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def dump_yaml(values: Any) -> str:
    """YAML that :func:`load_yaml` reads back to equal values; tuples become lists."""
    from yaml import dump

    text: str = dump(values, Dumper=_dumper(), sort_keys=False, allow_unicode=True)
    return text


def _loader() -> "type[SafeLoader]":
    from yaml import SafeLoader
    from yaml.constructor import ConstructorError

    class Loader(SafeLoader):
        def construct_mapping(self, node: "MappingNode", deep: bool = False) -> dict[Hashable, Any]:
            seen = set()
            for key, _ in node.value:
                if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                    raise ConstructorError(None, None, f"the key {key.value!r} comes twice", key.start_mark)
                seen.add(key.value if isinstance(key.value, str) else id(key))
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))
    return Loader


def _dumper() -> "type[SafeDumper]":
    from yaml import SafeDumper

    class Dumper(SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True  # a value that occurs twice is written twice, for the reader

    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))  # quotes such text
    return Dumper
