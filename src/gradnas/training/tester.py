"""Scoring a network on a set it does not learn from."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.data import BatchLoader
from gradnas.training.metrics import Score, ScoreSums


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
        return self.predict(loader, max_steps=max_steps)[0]

    @torch.no_grad()
    def predict(self, loader: BatchLoader, *, max_steps: int | None = None) -> tuple[Score, Tensor]:
        """The score, and the confusion matrix on the CPU: entry (i, j) counts samples of class i taken for class j."""
        device = next(self.model.parameters()).device
        sums = ScoreSums(device)
        confusion: Tensor | None = None
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
                counts = _confusion(logits, y)
                confusion = counts if confusion is None else confusion + counts
        finally:
            self.model.train(was_training)
        assert confusion is not None  # a loader has at least one batch
        return sums.read(), confusion.cpu()


def _confusion(logits: Tensor, y: Tensor) -> Tensor:
    n_classes = logits.shape[1]
    pairs = y * n_classes + logits.argmax(1)
    return (
        torch.zeros(n_classes**2, dtype=torch.int64, device=y.device)
        .scatter_add_(0, pairs, torch.ones_like(pairs))
        .view(n_classes, n_classes)
    )
