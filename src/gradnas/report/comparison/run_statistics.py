"""Means and spreads over repeated runs, in float64.

Source of the interval of a difference: Welch, Biometrika 34 (1947), with the degrees of freedom of Satterthwaite,
Biometrics Bulletin 2 (1946). Deviations: none. Reference: tests/report/test_run_statistics.py compares with scipy.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_SLICES = 400  # of the integral of Student's distribution; a multiple of two


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What repeated measurements of one quantity say.

    Args:
        n: How many there are, at least one.
        mean: Their mean.
        std: Sample standard deviation (n − 1); None for a single one.
        low: The smallest.
        high: The largest.
    """

    n: int
    mean: float
    std: float | None
    low: float
    high: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """The spread of the values that are known; None when none is."""
    known = [float(value) for value in values if value is not None]
    if not known:
        return None
    return Spread(
        n=len(known),
        mean=statistics.fmean(known),
        std=statistics.stdev(known) if len(known) > 1 else None,
        low=min(known),
        high=max(known),
    )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference of two means.

    Args:
        points: First minus second.
        low: Lower end of its 95 % interval; None where either mean is of a single run.
        high: Upper end.
    """

    points: float
    low: float | None
    high: float | None

    @property
    def shown(self) -> bool:
        """True when the interval leaves out zero: these runs show a difference."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def difference(first: Spread, second: Spread) -> Difference:
    """The difference of two means with Welch's 95 % interval; the two may spread differently."""
    points = first.mean - second.mean
    if first.std is None or second.std is None:
        return Difference(points=points, low=None, high=None)
    parts = (first.std**2 / first.n, second.std**2 / second.n)
    total = math.fsum(parts)
    if total == 0:
        return Difference(points=points, low=points, high=points)
    # Shares instead of squares of the parts: the squares of tiny spreads are zero in float64.
    freedom = 1 / math.fsum((part / total) ** 2 / (n - 1) for part, n in zip(parts, (first.n, second.n), strict=True))
    half = student_quantile(freedom) * math.sqrt(total)
    return Difference(points=points, low=points - half, high=points + half)


def student_quantile(freedom: float) -> float:
    """The t that Student's distribution with so many degrees of freedom, at least 1, stays within in 95 % of cases.

    With t = √freedom · tan θ the density is proportional to cos θ to the power (freedom − 1); θ is found by bisection.
    """
    assert freedom >= 1 - 1e-9
    power = freedom - 1
    whole = math.sqrt(math.pi) / 2 * math.exp(math.lgamma((power + 1) / 2) - math.lgamma(power / 2 + 1))
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if _cosine_integral(middle, power) < 0.95 * whole:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(high)


def _cosine_integral(end: float, power: float) -> float:
    """The integral of cos θ to a power from 0 to ``end``, by Simpson's rule."""
    step = end / _SLICES
    heights = [max(0.0, math.cos(i * step)) ** power for i in range(_SLICES + 1)]
    return step / 3 * (heights[0] + heights[-1] + 4 * math.fsum(heights[1:-1:2]) + 2 * math.fsum(heights[2:-1:2]))
