"""An iterator over a loader that never ends, for the architecture steps of a bilevel search."""

from torch import Tensor

from .batches import BatchLoader


class EndlessBatches:
    """A persistent iterator for architecture steps: it starts the next pass when one is exhausted.

    Attributes:
        drawn: Batches drawn so far. It is the whole state: a new object with the same loader and ``drawn`` continues
            exactly there.
    """

    def __init__(self, loader: BatchLoader, drawn: int = 0) -> None:
        """Continue after ``drawn`` batches.

        Args:
            loader: Where the batches come from; pass ``k`` uses its epoch ``k``.
            drawn: Batches drawn before, at least 0.

        Raises:
            ValueError: If ``drawn`` is negative.
        """
        if drawn < 0:
            raise ValueError(f"drawn counts the batches drawn so far and must be at least 0, got {drawn}.")
        self._loader = loader
        self.drawn = drawn

    def next(self) -> tuple[Tensor, Tensor]:
        """The next batch: ``x`` of shape ``(B, C, H, W)`` and ``y`` of shape ``(B,)``, as :meth:`BatchLoader.batch`."""
        epoch, index = divmod(self.drawn, len(self._loader))
        batch = self._loader.batch(epoch, index)
        self.drawn += 1
        return batch
