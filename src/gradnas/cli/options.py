"""Options of the commands: made from the settings, short forms expanded, unknown ones refused with the nearest."""

import argparse
import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from gradnas.cli.errors import UsageError, nearest_option
from gradnas.config.loading import readable

Aliases = Mapping[str, tuple[str, ...]]
"""Short form -> the options that all take its value."""

OPTION_MAPPINGS = (
    *("--space.options.", "--strategy.options.", "--model.options."),
    *("--search.optimizer.options.", "--retrain.optimizer.options.", "--optimizer.options."),
)
"""What follows is up to the space, strategy, model or optimizer, which checks it."""


def new_parser(command: str, usage: str, description: str) -> ArgumentParser:
    """A parser without abbreviations, which would turn a typing error into another setting."""
    parser = ArgumentParser(
        prog=f"gradnas {command}",
        usage=f"gradnas {command} {usage}".rstrip(),
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
        default_env=False,
    )
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="Show the traceback of an error."
    )
    return parser


def add_option(parser: ArgumentParser, option: str, kind: type, metavar: str, text: str) -> None:
    """Add an option of the command itself. Without it something else happens than taking a value, as the text says."""
    parser.add_argument(option, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=text)


def add_settings(
    parser: ArgumentParser, kind: type, aliases: Aliases, skip: Sequence[str] = (), prefix: str | None = None
) -> None:
    """Add one option per setting, documented by the docstrings.

    Args:
        parser: The parser.
        kind: Dataclass of settings.
        aliases: Short forms; those that are no settings must have been added for the help already.
        skip: Settings to leave out.
        prefix: The part of the run that they are settings of, as in ``--retrain.epochs``; None for those of a whole.
    """
    parser.add_class_arguments(kind, prefix, fail_untyped=True, skip=set(skip))
    for group in parser._action_groups:
        group.title = group.title and _plain(group.title)
    parts = {f"--{name}" for name in _part_names(kind, f"{prefix}." if prefix else "")} | {f"--{prefix}"}
    for action in parser._actions:
        if parts & set(action.option_strings):  # jsonargparse reads a file here; one --config is enough
            short_for = [target for option in action.option_strings for target in aliases.get(option, ())]
            action.metavar = short_for[0].rpartition(".")[2].upper() if short_for else None
            action.help = f"Short for {short_for[0]}." if short_for else argparse.SUPPRESS
        elif action.help and action.help != argparse.SUPPRESS:
            action.help = _plain(action.help)


def _plain(docstring: str) -> str:
    """A docstring in the words of the command line, which takes null for None."""
    return re.sub(r"\bNone\b", "null", without_markup(docstring))


def without_markup(docstring: str) -> str:
    """A docstring without the marks of its markup."""
    return re.sub(r":\w+:`([^`]*)`", r"\1", docstring).replace("``", "")


def parse(parser: ArgumentParser, argv: Sequence[str], aliases: Aliases) -> dict[str, Any]:
    """What the user gave, nothing else: nested plain values.

    Raises:
        UsageError: For an unknown option, naming the nearest, a missing value or one of the wrong type.
    """
    _refuse_unknown(parser, argv, aliases)
    try:
        tokens = _with_values(_expand(argv, aliases), _switches(parser))
        values: dict[str, Any] = parser.parse_args(tokens, defaults=False).as_dict()
    except ArgumentError as error:
        raise UsageError(_explain(error, parser)) from error
    return values


def _refuse_unknown(parser: ArgumentParser, argv: Sequence[str], aliases: Aliases) -> None:
    hidden = {option for a in parser._actions if a.help == argparse.SUPPRESS for option in a.option_strings}
    known = [option for a in parser._actions for option in a.option_strings if option not in hidden]
    for token in argv:
        option = token.partition("=")[0]
        if not re.match(r"--?[A-Za-z]", option) or option in known or option in aliases:
            continue
        allowed = [prefix for prefix in OPTION_MAPPINGS if prefix[:-1] in known]
        if not any(option.startswith(prefix) and option != prefix for prefix in allowed):
            nearest = nearest_option(option, known) or f" See `{parser.prog} --help`."
            raise UsageError(f"unknown option {option}.{nearest}")


def _expand(argv: Sequence[str], aliases: Aliases) -> list[str]:
    """Write short forms out. The value stays where it was, joined to the option by ``=``."""
    expanded: list[str] = []
    tokens = iter(argv)
    for token in tokens:
        option, equals, value = token.partition("=")
        if option not in aliases:
            expanded.append(token)
            continue
        if not equals:
            following = next(tokens, None)
            if following is None or re.match(r"--[A-Za-z]", following):
                raise UsageError(f"option {option} needs a value.")
            value = following
        expanded += [f"{target}={value}" for target in aliases[option]]
    return expanded


def _switches(parser: ArgumentParser) -> set[str]:
    """Options that are true or false."""
    return {
        option
        for action in parser._actions
        if action.type is bool or getattr(action, "_typehint", None) is bool
        for option in action.option_strings
    }


def _with_values(argv: Sequence[str], switches: set[str]) -> list[str]:
    """A switch that stands alone means true."""
    following = [*argv, "--"][1:]
    return [
        f"{token}=true" if token in switches and re.match(r"--", after) else token
        for token, after in zip(argv, following, strict=True)
    ]


def _explain(error: ArgumentError, parser: ArgumentParser) -> str:
    text = str(error)
    if text.startswith("unrecognized arguments: "):
        return f"unexpected argument {text.removeprefix('unrecognized arguments: ')!r}. See `{parser.prog} --help`."
    missing = re.match(r"argument (\S+): expected one argument", text)
    if missing:
        return f"option {missing[1]} needs a value."
    required = re.match(r"the following arguments are required: (.*)", text)
    if required:
        return f"{parser.prog} needs {required[1].upper()}. Usage: {parser.usage}"
    return f"option {readable(error, '--')}"


def _part_names(kind: type, place: str = "") -> list[str]:
    """Dotted names of the settings that are dataclasses themselves."""
    hints = typing.get_type_hints(kind)
    names = []
    for name, hint in hints.items():
        if dataclasses.is_dataclass(hint):
            names += [f"{place}{name}", *_part_names(typing.cast("type", hint), f"{place}{name}.")]
    return names
