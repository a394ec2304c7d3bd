"""The command line of gradnas in a process that tells its parent what happens, and dies or waits where it is told to.

    python driver.py PIPE DEED EVENT NUMBER COMMAND [ARGUMENT ...]

Every event is a line of JSON on the file descriptor PIPE, written at once: ``imported``; ``step`` with phase and step
after each weight step, before anything of it is saved; ``test`` where validation or test begins; ``commit`` and
``committed`` around a checkpoint; ``line`` and ``lined`` around a line of a log; ``fsync``, ``replace`` and
``replaced`` around what makes a file durable. At the NUMBER-th event called EVENT the process does its DEED: ``die``
by SIGKILL, before it tells of the event; or ``wait`` for five seconds, after it. A NUMBER of 0 is never reached. The
library knows nothing of this: it is wrapped from outside.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

WAIT_S = 5.0


class Teller:
    """Counts events, tells them, and does its deed at one of them.

    Args:
        pipe: Where to write.
        deed: ``die`` or ``wait``.
        event: Name of the event to do it at.
        number: Which of them, counted from 1; 0 for none.
    """

    def __init__(self, pipe: int, deed: str, event: str, number: int) -> None:
        self._pipe, self._deed, self._event, self._number = pipe, deed, event, number
        self._count: Counter[str] = Counter()

    def tell(self, event: str, **facts: Any) -> None:
        """Tell an event; die or wait at it where that is wanted."""
        self._count[event] += 1
        here = event == self._event and self._count[event] == self._number
        if here and self._deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self._pipe, json.dumps({"event": event, "at": time.monotonic(), **facts}).encode() + b"\n")
        if here:
            time.sleep(WAIT_S)  # a signal handler that returns does not end it

    def around(self, call: Callable[..., Any], before: str, after: str = "", *, named: int | None = None) -> Any:
        """A function that tells of itself; ``named`` is the argument whose base name goes along."""

        def told(*args: Any, **kwargs: Any) -> Any:
            facts = {} if named is None else {"name": os.path.basename(str(args[named]))}
            self.tell(before, **facts)
            result = call(*args, **kwargs)
            if after:
                self.tell(after, **facts)
            return result

        return told


def wrap(teller: Teller) -> None:
    """Let the library tell what it does."""
    from gradnas.pipeline import RunFolder
    from gradnas.training import CheckPoint, Tester, Trainer

    post_step = Trainer.post_step

    def told(trainer: Trainer, *batch: Any) -> None:
        post_step(trainer, *batch)
        teller.tell("step", phase=trainer.phase, step=trainer.global_step)

    Trainer.post_step = told  # type: ignore[method-assign]
    Tester.report = teller.around(Tester.report, "test")  # type: ignore[method-assign]
    CheckPoint.commit = teller.around(CheckPoint.commit, "commit", "committed")  # type: ignore[method-assign]
    RunFolder.append = teller.around(RunFolder.append, "line", "lined", named=1)  # type: ignore[method-assign]
    os.fsync = teller.around(os.fsync, "fsync")
    os.replace = teller.around(os.replace, "replace", "replaced", named=1)


def main() -> int:
    """Run the command line as its own program does."""
    pipe, deed, event, number, *command = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
    teller = Teller(int(pipe), deed, event, int(number))
    from gradnas.cli import main as gradnas

    wrap(teller)
    teller.tell("imported")
    sys.argv = ["gradnas", *command]
    return gradnas(command)


if __name__ == "__main__":
    sys.exit(main())
