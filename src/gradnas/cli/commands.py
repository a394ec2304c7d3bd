"""All commands, in the order of the help."""

from collections.abc import Sequence

from gradnas.cli.command import Command
from gradnas.cli.compare import COMPARE
from gradnas.cli.draw import DRAW
from gradnas.cli.export import EXPORT
from gradnas.cli.listing import LIST
from gradnas.cli.plan import PLAN
from gradnas.cli.report import REPORT
from gradnas.cli.running import RESUME, RETRAIN, RUN, SEARCH
from gradnas.cli.training import TRAIN
from gradnas.cli.watch import WATCH

COMMANDS: Sequence[Command] = (PLAN, RUN, SEARCH, RETRAIN, TRAIN, RESUME, REPORT, WATCH, EXPORT, DRAW, COMPARE, LIST)
