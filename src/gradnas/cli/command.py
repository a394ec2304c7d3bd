"""What a command of the command line is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonargparse import ArgumentParser

from gradnas.cli.options import Aliases, new_parser

Options = Mapping[str, Any]
"""What the user gave: option or argument to value."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command.

    Args:
        name: Its name.
        usage: What follows the name.
        summary: One line for the list of commands.
        details: More for its own help.
        add_options: Adds its options to a parser.
        act: What it does with the options the user gave.
        aliases: Short forms of options.
    """

    name: str
    usage: str
    summary: str
    details: str = ""
    add_options: Callable[[ArgumentParser], None]
    act: Callable[[Options], None]
    aliases: Aliases = field(default_factory=dict)

    def parser(self) -> ArgumentParser:
        """Its parser, which also writes its help."""
        parser = new_parser(self.name, self.usage, f"{self.summary} {self.details}".strip())
        self.add_options(parser)
        return parser


def add_folder(parser: ArgumentParser) -> None:
    """The argument of commands on a run folder."""
    parser.add_argument("folder", type=str, help="A run folder.")
