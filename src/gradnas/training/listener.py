"""What may watch a training run: progress bars, log files."""

from dataclasses import dataclass
from typing import Protocol

from gradnas.training.metrics import EpochRecord, Metrics, Score


@dataclass(frozen=True)
class Progress:
    """Where a training run is.

    Args:
        phase: ``search``, ``retrain``, ….
        epoch: Counted from 0.
        epochs: Of the whole phase.
        step: Steps done in this epoch.
        steps: Of the epoch.
        running: Score of the epoch so far.
        entropy: Mean entropy of the mixing weights per edge in nats; None outside a search.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    running: Score
    entropy: float | None = None


class Listener(Protocol):
    """Told when a phase begins or goes on, every few steps, and after every epoch; must not change anything."""

    def on_start(self, phase: str, metrics: Metrics) -> None:
        """Called before the first step of a phase, also when it goes on from a checkpoint or goes back to one.

        Args:
            phase: Its name.
            metrics: All records of the phase that stand; what was told after them no longer counts.
        """
        ...

    def on_progress(self, progress: Progress) -> None:
        """Called when the metrics were read from the device."""
        ...

    def on_epoch(self, record: EpochRecord) -> None:
        """Called when an epoch is complete, before its checkpoint."""
        ...


class Silence:
    """Listens to nothing."""

    def on_start(self, phase: str, metrics: Metrics) -> None:
        pass

    def on_progress(self, progress: Progress) -> None:
        pass

    def on_epoch(self, record: EpochRecord) -> None:
        pass
