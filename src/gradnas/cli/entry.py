"""Entry point: find the command, run it, and turn what goes wrong into one line and an exit code."""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from gradnas import __version__
from gradnas.cli.command import Command
from gradnas.cli.commands import COMMANDS
from gradnas.cli.errors import EXPECTED, INTERRUPTED, StoppedRun, UsageError, did_you_mean_command, one_line
from gradnas.cli.options import parse
from gradnas.cli.output import complain, say

OK, FAILED, WRONG_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: Arguments; None takes those of the process.

    Returns:
        Exit code: 0, also after SIGTERM has stopped a run, which is saved; 1 for an error, 2 for a wrong command line,
        130 after Ctrl-C.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    with _warnings_in_one_line():
        try:
            return _dispatch(args)
        except UsageError as error:
            complain(f"error: {error}")
            return WRONG_USAGE
        except StoppedRun as stop:
            complain(str(stop))
            return stop.exit_code
        except KeyboardInterrupt:
            complain("interrupted.")
            return INTERRUPTED
        except BrokenPipeError:  # the reader of a pipe has seen enough, as in `gradnas list ops | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except EXPECTED as error:
            if "--debug" in args:
                raise
            complain(f"error: {one_line(error)}")
            return FAILED


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        say(overview())
        return OK if args else WRONG_USAGE
    if args[0] == "--version":
        say(f"gradnas {__version__}")
        return OK
    command, rest = _command(args[0]), args[1:]
    parser = command.parser()
    if "-h" in rest or "--help" in rest:
        say(parser.format_help().rstrip())
        return OK
    command.act(parse(parser, rest, command.aliases))
    return OK


def _command(name: str) -> Command:
    for command in COMMANDS:
        if command.name == name:
            return command
    what = "option" if name.startswith("-") else "command"
    known = ["--help", "--version"] if what == "option" else [command.name for command in COMMANDS]
    raise UsageError(f"unknown {what} {name!r}.{did_you_mean_command(name, known)}")


def overview() -> str:
    """The help of ``gradnas`` itself."""
    width = max(len(command.name) for command in COMMANDS)
    commands = "\n".join(f"  {command.name.ljust(width)}  {command.summary}" for command in COMMANDS)
    return (
        "usage: gradnas COMMAND ...\n\nFind a network by gradient, retrain it, keep it as plain PyTorch.\n\n"
        f"commands:\n{commands}\n\n"
        "options:\n  -h, --help  Show this help; after a command, its options and their defaults.\n"
        "  --version   Show the version.\n  --debug     After a command: show the traceback of an error.\n\n"
        "A first run: gradnas run --preset demo"
    )


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        complain(f"warning: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
