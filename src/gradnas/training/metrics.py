"""Losses and accuracies: summed on the device, read rarely."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

TOP5_CLASSES = 5  # top-5 accuracy means something from this many classes on


@dataclass(frozen=True)
class Score:
    """Averages over the samples of one pass.

    Args:
        loss: Mean loss.
        top1: Accuracy in percent.
        top5: Share of samples whose class is among the five likeliest, in percent; None below 5 classes.
    """

    loss: float
    top1: float
    top5: float | None = None


class ScoreSums:
    """Sums of loss and hits, kept on the device so that a step never waits for it."""

    def __init__(self, device: torch.device | str) -> None:
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)  # loss, top-1 hits, top-5 hits, samples
        self._has_top5 = True

    def state_dict(self) -> dict[str, Any]:
        """The sums (a copy) and what they hold."""
        return {"sums": self._sums.clone(), "has_top5": self._has_top5}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._sums.copy_(state["sums"])
        self._has_top5 = state["has_top5"]

    @torch.no_grad()
    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add one batch.

        Args:
            loss: Mean loss of the batch (0-dim).
            logits: (B, n_classes).
            targets: (B,).
        """
        n = len(targets)
        self._has_top5 = logits.shape[1] >= TOP5_CLASSES
        likeliest = logits.topk(TOP5_CLASSES if self._has_top5 else 1, dim=1).indices
        hits = likeliest == targets[:, None]
        counts = (loss.double() * n, hits[:, 0].sum().double(), hits.sum().double())
        self._sums += torch.stack([*counts, torch.full_like(counts[0], n)])

    def read(self) -> Score:
        """The averages so far; waits for the device. NaN before the first batch."""
        loss, hits, hits5, n = self._sums.tolist()
        if n == 0:
            return Score(math.nan, math.nan)
        return Score(loss / n, 100.0 * hits / n, 100.0 * hits5 / n if self._has_top5 else None)


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch leaves: a line of ``metrics.jsonl``.

    Args:
        phase: ``search``, ``retrain``, ….
        epoch: Counted from 0.
        train: Score on the training batches as they were seen (augmented, while learning); of mixed images the class
            with the largest share counts as the true one.
        val: Score on the validation set, without augmentation.
        test: Score on the test set; only in the one record after the last epoch.
        lr: Learning rate of the weights during the epoch; at its beginning where it changes with every step.
        seconds: Wall-clock time of the epoch.
        skipped: Steps that were left out because their loss or gradient was not a finite number.
    """

    phase: str
    epoch: int
    train: Score | None = None
    val: Score | None = None
    test: Score | None = None
    lr: float | None = None
    seconds: float = 0.0
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what was not measured is null."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "EpochRecord":
        """The record of :meth:`to_dict`."""
        scores = {key: None if values[key] is None else Score(**values[key]) for key in ("train", "val", "test")}
        return EpochRecord(
            values["phase"],
            values["epoch"],
            **scores,
            lr=values["lr"],
            seconds=values["seconds"],
            skipped=values.get("skipped", 0),
        )


class Metrics:
    """The records of a run in order."""

    def __init__(self, records: list[EpochRecord] | None = None) -> None:
        self.records: list[EpochRecord] = list(records or [])

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def add(self, record: EpochRecord) -> None:
        """Append a record."""
        self.records.append(record)

    @property
    def test(self) -> Score | None:
        """The score on the test set, None when there was no test."""
        return next((record.test for record in reversed(self.records) if record.test is not None), None)

    @property
    def last(self) -> EpochRecord | None:
        """The record of the last trained epoch."""
        return next((record for record in reversed(self.records) if record.train is not None), None)

    def next_epoch(self) -> int:
        """The first epoch without a record; the record of the test comes after the last epoch and counts as one."""
        return 1 + max((record.epoch for record in self.records), default=-1)

    def best_epoch(self) -> EpochRecord | None:
        """The epoch with the highest validation accuracy, the earliest of equals; None without validation."""
        validated = [r for r in self.records if r.val is not None and not math.isnan(r.val.top1)]
        return max(validated, key=lambda r: r.val.top1 if r.val else math.nan, default=None)

    def best_val_top1(self) -> float:
        """The highest validation accuracy in percent; NaN without validation."""
        best = self.best_epoch()
        return math.nan if best is None or best.val is None else best.val.top1

    def seconds(self) -> float:
        """Wall-clock time of all epochs."""
        return sum(record.seconds for record in self.records)

    def to_list(self) -> list[dict[str, Any]]:
        """Plain values of all records."""
        return [record.to_dict() for record in self.records]

    @staticmethod
    def from_list(values: list[dict[str, Any]]) -> "Metrics":
        """The records of :meth:`to_list`."""
        return Metrics([EpochRecord.from_dict(value) for value in values])
