"""Scoring a network on a set it does not learn from."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.data import BatchLoader
from gradnas.training.metrics import Score, ScoreSums
from gradnas.training.test_report import ConfidenceBin, TestReport

CALIBRATION_BINS = 15  # Guo et al. (2017), section 5


def logits_of(output: Tensor | tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """(logits, auxiliary logits or None) of a network that returns either logits alone or such a pair."""
    return output if isinstance(output, tuple) else (output, None)


class Tester:
    """Runs a network in evaluation mode, without gradients, and leaves its mode as it was.

    Args:
        model: Returns logits (B, n_classes), or a tuple whose first item they are.
        precision: ``float32``, or ``bfloat16`` for autocast.
    """

    def __init__(self, model: nn.Module, *, precision: str = "float32") -> None:
        self.model, self.precision = model, precision

    def test(self, loader: BatchLoader, *, max_steps: int | None = None) -> Score:
        """Mean cross entropy (without smoothing) and accuracies over a loader."""
        return self.report(loader, max_steps=max_steps).score

    @torch.no_grad()
    def report(self, loader: BatchLoader, *, max_steps: int | None = None) -> TestReport:
        """Score, confusion matrix and calibration over a loader, summed on the device and read once.

        Args:
            loader: Batches with labels.
            max_steps: Stop after so many batches; None uses all.
        """
        device = next(self.model.parameters()).device
        sums = ScoreSums(device)
        confusion = bins = torch.zeros((), dtype=torch.float64, device=device)
        was_training = self.model.training
        self.model.eval()
        try:
            for i, (x, y) in enumerate(loader):
                if max_steps is not None and i >= max_steps:
                    break
                with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                    logits, _ = logits_of(self.model(x))
                logits = logits.float() if logits.dtype is torch.bfloat16 else logits
                sums.add(F.cross_entropy(logits, y), logits, y)
                confusion = confusion + _confusion(logits, y)
                bins = bins + _bins(logits, y)
        finally:
            self.model.train(was_training)
        assert confusion.ndim == 2  # a loader has at least one batch
        return TestReport(
            score=sums.read(),
            confusion=tuple(tuple(int(count) for count in row) for row in confusion.tolist()),
            bins=tuple(_bin(*values) for values in bins.tolist()),
        )


def _confusion(logits: Tensor, y: Tensor) -> Tensor:
    n_classes = logits.shape[1]
    pairs = y * n_classes + logits.argmax(1)
    return (
        torch.zeros(n_classes**2, dtype=torch.int64, device=y.device)
        .scatter_add_(0, pairs, torch.ones_like(pairs))
        .view(n_classes, n_classes)
    )


def _bins(logits: Tensor, y: Tensor) -> Tensor:
    """Samples, sum of confidences and hits of each bin: (bins, 3). By a matrix product, whose order is fixed."""
    confidence, likeliest = logits.double().softmax(1).max(1)
    edges = torch.arange(1, CALIBRATION_BINS, dtype=torch.float64, device=y.device) / CALIBRATION_BINS
    places = F.one_hot(torch.bucketize(confidence, edges), CALIBRATION_BINS).double()
    return places.T @ torch.stack([torch.ones_like(confidence), confidence, (likeliest == y).double()], dim=1)


def _bin(count: float, confidence: float, hits: float) -> ConfidenceBin:
    if count == 0:
        return ConfidenceBin(0, None, None)
    return ConfidenceBin(int(count), 100.0 * confidence / count, 100.0 * hits / count)
