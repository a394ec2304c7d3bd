"""The most that the entropy of mixing weights can be."""

import math
import statistics
from collections.abc import Iterable, Sequence


def most_entropy(weights: Iterable[Sequence[Sequence[float]]]) -> float | None:
    """The entropy in nats if all candidates of each edge weighed the same; None without edges.

    The entropy of a search is the mean over the edges of all cells, so this is the mean of the logarithms of their
    numbers of candidates, which may differ between cells.

    Args:
        weights: The mixing weights of each cell, edges by candidates.
    """
    counts = [len(row) for cell in weights for row in cell]
    return statistics.fmean(map(math.log, counts)) if counts else None
