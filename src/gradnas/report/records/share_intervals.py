"""How sure a share is that was counted in a sample, and a difference of two."""

import math

_Z = 1.959964  # of 95 %


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share seen in ``count`` independent trials, both from 0 to 1.

    Source: Wilson, JASA 22 (1927). Deviations: none.
    """
    denominator = 1 + _Z * _Z / count
    center = (share + _Z * _Z / (2 * count)) / denominator
    half = _Z * math.sqrt(share * (1 - share) / count + _Z * _Z / (4 * count * count)) / denominator
    return max(0.0, center - half), min(1.0, center + half)


def difference_interval(first: float, second: float, first_count: int, second_count: int) -> tuple[float, float]:
    """95 % interval of the difference of two shares, first minus second, each seen in trials of its own.

    Two networks that were tested on the same images mostly fail on the same ones. Of such pairs the interval is wider
    than it had to be: it claims too little rather than too much.

    Source: Newcombe, Statistics in Medicine 17 (1998), method 10. Deviations: none.
    """
    (low1, high1), (low2, high2) = wilson_interval(first, first_count), wilson_interval(second, second_count)
    points = first - second
    return points - math.hypot(first - low1, high2 - second), points + math.hypot(high1 - first, second - low2)
