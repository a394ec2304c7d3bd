"""Following a run folder as it grows, until the run is over. Nothing is ever written into it."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gradnas.report.live.live_view import frame
from gradnas.report.live.look import Look
from gradnas.report.live.run_lines import Lines
from gradnas.report.records.run_folder import FILES, LOCK, RunFolder, read_run_folder


class Follower:
    """Looks at a folder again and again; files are read again only when one of them has changed.

    Args:
        folder: The run folder, which need not exist yet.
        clock: The time in seconds, as that of files.
    """

    def __init__(self, folder: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self.name, self.folder, self._clock = os.fspath(folder), Path(folder), clock
        self._state: tuple[object, ...] | None = None
        self._run: RunFolder | None = None

    def look(self) -> Look:
        """What the folder says now.

        Raises:
            FileNotFoundError: When the folder exists and holds other things than a run.
            NotADirectoryError: When it is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.name} is a file. Give the folder of a run.")
        stats = {name: found for name in FILES if (found := _stat(self.folder / name)) is not None}
        if not stats:
            if self.folder.is_dir() and any(not _is_of_a_beginning(item.name) for item in self.folder.iterdir()):
                raise FileNotFoundError(
                    f"{self.name} is not a run folder: it has none of {', '.join(FILES)}. Give the folder of a run."
                )
            return Look(name=self.name, run=None)
        state = tuple((name, found.st_ino, found.st_size, found.st_mtime_ns) for name, found in stats.items())
        if state != self._state:
            self._run, self._state = read_run_folder(self.folder), state
        newest = max(found.st_mtime for found in stats.values())
        return Look(name=self.name, run=self._run, silent_s=max(0.0, self._clock() - newest))


def follow(
    folder: str | os.PathLike[str],
    *,
    every_s: float = 2.0,
    once: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show a run until it is over: a frame that renews itself in a terminal, elsewhere one line per epoch.

    Args:
        folder: The run folder; what does not exist yet is waited for.
        every_s: Seconds between two looks.
        once: Show what is there now and return.
        sleep: Waits the given seconds.

    Raises:
        FileNotFoundError: When the folder exists and holds other things than a run.
        ValueError: When ``every_s`` is not above 0.
    """
    if not every_s > 0:
        raise ValueError(f"the time between two looks must be above 0 seconds, got {every_s}.")
    follower = Follower(folder)
    if not sys.stdout.isatty():
        _follow_in_lines(follower, every_s, once, sleep)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    look = follower.look()
    with Live(frame(look, console.width), console=console, auto_refresh=False) as live:
        while not look.finished and not once:
            sleep(every_s)
            look = follower.look()
            live.update(frame(look, console.width), refresh=True)


def _follow_in_lines(follower: Follower, every_s: float, once: bool, sleep: Callable[[float], None]) -> None:
    lines = Lines()
    while True:
        look = follower.look()
        for line in lines.new(look):
            print(line, flush=True)  # noqa: T201 - the view of a pipe
        if look.finished or once:
            return
        sleep(every_s)


def _is_of_a_beginning(name: str) -> bool:
    return name == LOCK or name.startswith(".")  # a file that is being written has a name with a dot


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
