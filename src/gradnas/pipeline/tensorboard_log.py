"""A run as TensorBoard event files, beside the logs of its folder. TensorBoard is imported when a run asks for it."""

import math
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gradnas.arch import wiring
from gradnas.report.records.would_be import read_would_be
from gradnas.training import EpochRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"  # in the run folder
_OF_SEARCH = ("entropy", "gap", "skips", "parameter_free", "changed_edges", "discretization_drop", "eigenvalue")


def check_tensorboard() -> None:
    """ImportError, naming the extra, when TensorBoard is not installed."""
    _writer_class()


class TensorBoardLog:
    """Events of one phase; the step is the epoch, counted from 0 as in ``metrics.jsonl``.

    The file appears with the first event. Every epoch is on disk when its call returns.

    Args:
        folder: Where the event files of the phase go; phases must not share one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._start = folder, 0
        self._writer: SummaryWriter | None = None

    def begin(self, epoch: int) -> None:
        """Told before the first epoch that will be written: earlier events of it and later ones no longer count."""
        if self._writer is not None:
            self._writer.close()
        self._writer, self._start = None, epoch

    def epoch(self, record: EpochRecord) -> None:
        """Losses, accuracies in percent, learning rate and seconds; what was not measured is left out."""
        values: dict[str, Any] = {"lr": record.lr, "seconds": record.seconds}
        for split, score in (("train", record.train), ("val", record.val), ("test", record.test)):
            if score is not None:
                values |= {f"loss/{split}": score.loss, f"top1/{split}": score.top1, f"top5/{split}": score.top5}
        self._scalars(values, record.epoch)

    def alphas(self, record: Mapping[str, Any]) -> None:
        """What a record of ``alphas.jsonl`` says: its numbers, the mixing weights as histograms, the would-be cells.

        The record behind an early stop, which repeats an epoch, adds a text only.
        """
        epoch = int(record["epoch"])
        if record.get("returned_epoch") is not None:
            self._text("returned", f"the architecture of epoch {record['returned_epoch']}", epoch)
            return
        cells: Mapping[str, Any] = record["cells"]
        counts = {
            f"survivors/{kind}": sum(map(sum, cell["survivors"])) for kind, cell in cells.items() if "survivors" in cell
        }
        self._scalars({**{f"search/{name}": record.get(name) for name in _OF_SEARCH}, **counts}, epoch)
        writer = self._open()
        for kind, cell in cells.items():
            weights = [weight for row in cell["weights"] for weight in row if math.isfinite(weight)]
            if weights:
                writer.add_histogram(f"weights/{kind}", torch.tensor(weights), epoch)
        for kind, would_be in read_would_be(record).items():
            lines = wiring(would_be.cell())
            self._text(f"would_be/{kind}", "\n".join(f"    {line}" for line in lines), epoch)  # indented: as it is
        said = [record.get("words") or "", *record.get("diagnosis", ())]
        self._text("words", "\n\n".join(filter(None, said)), epoch)

    def _scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        writer = self._open()
        for tag, value in _finite(values):
            writer.add_scalar(tag, value, epoch)
        writer.flush()

    def _text(self, tag: str, text: str, epoch: int) -> None:
        if text:
            writer = self._open()
            writer.add_text(tag, text, epoch)
            writer.flush()

    def _open(self) -> "SummaryWriter":
        if self._writer is None:
            self._writer = _writer_class()(str(self._folder), purge_step=self._start)
            weakref.finalize(self, self._writer.close)  # its thread ends with the phase
        return self._writer


def _finite(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for tag, value in values.items():
        if value is not None and math.isfinite(value):
            yield tag, float(value)


def _writer_class() -> "type[SummaryWriter]":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "this run writes event files (tensorboard=true), but TensorBoard is not installed. Install it with "
            "`pip install 'gradnas[tensorboard]'`, or leave the setting out."
        ) from error
    return SummaryWriter
