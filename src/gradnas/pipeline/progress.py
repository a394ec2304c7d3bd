"""What a person sees while a run goes on: one line with time left, loss, accuracy and entropy; nothing elsewhere."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from gradnas.training import EpochRecord, Metrics, Progress, Silence

if TYPE_CHECKING:
    from rich.progress import TaskID


class ProgressBar:
    """A rich progress bar per phase. Use as a context manager; it listens to training runs."""

    def __init__(self) -> None:
        from rich.progress import (  # slow to import; a run without a terminal does not need it
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichBars

        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scores]}"),
        )
        self._bars: RichBars = RichBars(*columns)
        self._tasks: dict[str, TaskID] = {}
        self._latest = ""

    def __enter__(self) -> "ProgressBar":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def on_start(self, phase: str, metrics: Metrics) -> None:
        """Nothing to show yet."""

    def on_progress(self, progress: Progress) -> None:
        """Move the bar of the phase; epochs count in fractions of steps."""
        task = self._tasks.get(progress.phase)
        if task is None:
            task = self._bars.add_task(progress.phase, total=progress.epochs, scores="")
            self._tasks[progress.phase] = task
        entropy = "" if progress.entropy is None else f"  entropy {progress.entropy:.3f}"
        running = f"loss {progress.running.loss:.3f}  train {progress.running.top1:.1f} %"
        done = progress.epoch + progress.step / progress.steps
        self._bars.update(task, completed=round(done, 1), scores=f"{running}{self._latest}{entropy}")

    def on_epoch(self, record: EpochRecord) -> None:
        """Remember the latest validation or test accuracy."""
        if record.val is not None:
            self._latest = f"  val {record.val.top1:.1f} %"
        if record.test is not None and record.phase in self._tasks:
            self._bars.update(self._tasks[record.phase], scores=f"test {record.test.top1:.2f} %")
            self._latest = ""


class _Quiet(Silence):
    def __enter__(self) -> "_Quiet":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


def progress_listener(show: bool | None) -> "ProgressBar | _Quiet":
    """A bar when asked for, or when ``show`` is None and the output is a terminal; otherwise a quiet listener."""
    return ProgressBar() if (sys.stdout.isatty() if show is None else show) else _Quiet()
