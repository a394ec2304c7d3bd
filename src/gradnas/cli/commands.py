"""All commands, in the order of the help."""

from collections.abc import Sequence

from gradnas.cli.command import Command
from gradnas.cli.draw import DRAW
from gradnas.cli.listing import LIST
from gradnas.cli.running import RESUME, RETRAIN, RUN, SEARCH

COMMANDS: Sequence[Command] = (RUN, SEARCH, RETRAIN, RESUME, DRAW, LIST)
