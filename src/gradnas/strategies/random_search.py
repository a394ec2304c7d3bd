"""Random search: the baseline that every search must beat."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RandomSearch:
    """Train n random members of the space briefly, and keep the best by validation.

    Source: Li and Talwalkar, Random Search and Reproducibility for NAS (UAI 2019), without weight sharing. Members are
    drawn as :class:`gradnas.finalizers.RandomFinalizers` does, from the seed of the run.

    Args:
        samples: How many members to train.
        epochs: Epochs for each; None divides the epochs of the search evenly among them, at least one each.

    Raises:
        ValueError: For numbers below 1.
    """

    samples: int = 8
    epochs: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}.")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}.")

    def epochs_each(self, search_epochs: int) -> int:
        """Epochs of one member when the whole search has ``search_epochs``."""
        return self.epochs if self.epochs is not None else max(1, search_epochs // self.samples)

    @staticmethod
    def best(scores: Sequence[float]) -> int:
        """Index of the highest validation score; of equal ones the first. NaN never wins.

        Raises:
            ValueError: When no score is a number.
        """
        valid = [i for i, score in enumerate(scores) if not math.isnan(score)]
        if not valid:
            raise ValueError(f"no random member reached a finite validation score: {list(scores)}.")
        return max(valid, key=lambda i: scores[i])
