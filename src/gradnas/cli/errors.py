"""What the command line tells its user when it cannot go on."""

import os
import shlex
from pathlib import Path

from gradnas.foundation.names import nearest

EXPECTED = (ValueError, TypeError, KeyError, OSError, FloatingPointError, ImportError, MemoryError)
"""Errors that the library explains; anything else is a fault of ours and keeps its traceback."""


INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class UsageError(Exception):
    """The command line itself is wrong: exit code 2."""


class StoppedRun(Exception):  # noqa: N818 - not an error
    """A signal stopped a run.

    Args:
        text: What was saved, and how to go on.
        exit_code: Of the program.
    """

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks, error numbers or the quotes that KeyError adds."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, OSError) and error.strerror:
        text = str(error.strerror)
        if error.filename is not None and os.fspath(error.filename) not in text:
            text = f"{error.filename}: {text}"
    return " ".join(text.split()) or type(error).__name__


def nearest_option(option: str, known: list[str]) -> str:
    """The question that names the options a user may have meant; empty when none is near."""
    tail = option.lstrip("-").replace("-", "_").rpartition(".")[2]
    same_tail = [name for name in known if "." in name and name.rpartition(".")[2] == tail]
    close, loose = nearest(option, known, likeness=0.75), nearest(option, known)
    found = close or " or ".join(same_tail[:3]) or loose
    return f" Did you mean {found}?" if found else ""


def did_you_mean_command(name: str, known: list[str]) -> str:
    """As :func:`nearest_option`, for names in quotes."""
    close = nearest(name, known)
    return f" Did you mean {close!r}?" if close is not None else f" Known: {', '.join(known)}."


def resume_advice(folder: Path, what: str) -> str:
    """What stopped the run in a folder, and how to go on with it, if it has begun to be one."""
    from gradnas.pipeline import RunFolder

    said = what or "interrupted"
    if RunFolder(folder).is_run():
        return f"{said}. Continue with `gradnas resume {shlex.quote(str(folder))}`."
    return f"{said} before anything was written."
