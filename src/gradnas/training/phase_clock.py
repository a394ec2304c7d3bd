"""How long a phase of a run has been going on, the processes before this one included."""

import time
from collections.abc import Mapping


class PhaseClock:
    """Wall-clock times in seconds."""

    def __init__(self) -> None:
        self._start = self._saved = time.perf_counter()
        self._earlier_s = 0.0
        self.epoch_start = self._start
        """When the epoch began on the scale of ``time.perf_counter``, less what earlier processes have spent on it."""
        self.closing_s = 0.0
        """What it took to end an epoch: validation and records."""

    def begin_epoch(self) -> None:
        """An epoch begins."""
        self.epoch_start = time.perf_counter()

    def saved(self) -> None:
        """A checkpoint was written."""
        self._saved = time.perf_counter()

    def since_saved_s(self) -> float:
        """Seconds since the last checkpoint, or since the start."""
        return time.perf_counter() - self._saved

    @property
    def earlier_s(self) -> float:
        """What earlier processes have spent."""
        return self._earlier_s

    def state_dict(self) -> dict[str, float]:
        """Seconds of the phase, of its present epoch, and of ending one."""
        now = time.perf_counter()
        return {
            "phase": self._earlier_s + now - self._start,
            "epoch": now - self.epoch_start,
            "closing": self.closing_s,
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from :meth:`state_dict`."""
        now = time.perf_counter()
        self._earlier_s, self._start, self._saved = state["phase"], now, now
        self.epoch_start, self.closing_s = now - state["epoch"], state["closing"]
