"""When to stop a search, and which epoch's architecture to return: rules over what was recorded each epoch.

Sources: Zela et al., RobustDARTS (ICLR 2020), section 4.1 (eigenvalue); Liang et al., DARTS+ (2019), criterion 1
(skip connections). Both are functions of the whole record, so nothing is kept beside it.
Reference test: ``tests/strategies/test_early_stop.py``.
"""

from collections.abc import Sequence


def eigenvalue_rise(
    values: Sequence[float | None], *, window: int = 5, lag: int = 5, ratio: float = 0.75
) -> int | None:
    """The epoch to go back to, when the dominant eigenvalue has risen by the last epoch; else None.

    With the mean over the last ``window`` values up to epoch e, m(e): stop when m(e - lag) / m(e) < ratio, and return
    the architecture of epoch e - lag. Means that are not positive decide nothing.

    Args:
        values: The eigenvalue after each epoch, None where none was recorded.
        window: Values in a mean.
        lag: Epochs between the two means.
        ratio: How much smaller the earlier mean is.
    """
    last = len(values) - 1
    recent = _mean(values[last - window + 1 : last + 1]) if last - window + 1 >= 0 else None
    first = last - lag - window + 1
    earlier = _mean(values[first : first + window]) if first >= 0 else None
    if recent is None or earlier is None or recent <= 0 or earlier <= 0:
        return None
    return last - lag if earlier / recent < ratio else None


def too_many_skips(counts: Sequence[int], *, most: int = 1, earliest: int = 10) -> bool:
    """Whether the cell of the last epoch has too many skips.

    Args:
        counts: Skip connections in the discretized regular cell after each epoch.
        most: How many are allowed.
        earliest: Epochs that run in any case.
    """
    return len(counts) >= max(earliest, 1) and counts[-1] > most


def last_within(counts: Sequence[int], most: int) -> int | None:
    """The last epoch with at most so many skips, the one to go back to; None when no epoch had so few."""
    return next((epoch for epoch in range(len(counts) - 1, -1, -1) if counts[epoch] <= most), None)


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None
