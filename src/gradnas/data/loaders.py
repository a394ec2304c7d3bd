"""The loaders of one run, together."""

from dataclasses import dataclass

from .batches import BatchLoader


@dataclass(frozen=True, kw_only=True, eq=False)
class DataLoaders:
    """The loaders of one run.

    Attributes:
        train: Shuffled, augmented.
        val: The held-out part of the training set in order, without augmentation, or None.
        alpha: The same part shuffled, for the architecture steps of a bilevel search, or None.
        test: Never used during a search; None where there is no test set or it is not wanted.
    """

    train: BatchLoader
    val: BatchLoader | None = None
    alpha: BatchLoader | None = None
    test: BatchLoader | None = None
