"""What may end training before its last epoch: a signal, or a limit of time. Both take effect between two steps."""

import math
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C has stopped a run, which is saved; the text says where."""


class Terminated(SystemExit):
    """SIGTERM has stopped a run, which is saved; the text says where. The process ends with exit code 0."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 0


class Stop:
    """Asked between two steps whether to go on.

    As a context manager it takes SIGINT (Ctrl-C) and SIGTERM: the first one is remembered, for training to finish its
    step and save; the second one ends the program at once. A first one that no step has followed is followed at the end
    of the block. The handlers from before are put back. In another thread than the main one, which alone can take
    signals, and for a signal that is ignored, nothing is changed.

    Args:
        max_time_s: Time in seconds that training may take, that of earlier processes included; None sets no limit.
    """

    def __init__(self, max_time_s: float | None = None) -> None:
        self._max_time_s = math.inf if max_time_s is None else max_time_s
        self._start, self._earlier_s = time.perf_counter(), 0.0
        self._received: signal.Signals | None = None
        self._followed = False
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}
        self.cut_short: dict[str, bool] = {}
        """Whether the limit of time has ended a phase before its last step, or has kept it from beginning."""

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):  # None: set by another language; leave it alone
                    self._before[number] = before
                    signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}
        if error is None and not self._followed:  # the signal came when there was no step left to stop after
            self.raise_if_asked("everything is saved")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._received is None:
            self._received = signal.Signals(number)
            return
        self._followed = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._received is not None

    def raise_if_asked(self, where: str) -> None:
        """End a run that has been saved, if a signal has come.

        Args:
            where: What is saved, in words.

        Raises:
            Interrupted: After Ctrl-C.
            Terminated: After SIGTERM.
        """
        if self._received is not None:
            self._followed = True
            kind = Interrupted if self._received == signal.SIGINT else Terminated
            name = "Ctrl-C" if self._received == signal.SIGINT else self._received.name
            raise kind(f"stopped by {name}; {where}")

    def account_for(self, seconds: float) -> None:
        """Count time that earlier processes have spent on the same run."""
        self._earlier_s += seconds

    def time_is_up(self, reserve_s: float = 0.0) -> bool:
        """Whether less than the reserve is left of the time."""
        return self._earlier_s + time.perf_counter() - self._start + reserve_s >= self._max_time_s
