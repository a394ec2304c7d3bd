"""Means and spreads over repeated runs, in float64.

Source of the interval of a difference: Welch, Biometrika 34 (1947), with the degrees of freedom of Satterthwaite,
Biometrics Bulletin 2 (1946). Deviation: an accuracy on n test images is a multiple of 100/n points, so equal
accuracies do not mean that nothing varies; the variance of each sample counts as at least (100/n)²/12, that of a value
known to the next multiple only (Sheppard, 1898). Reference: tests/report/comparison/test_run_statistics.py compares
with scipy where the spreads are larger than that.

Source of what the choice of test images adds: Newcombe, Statistics in Medicine 17 (1998), method 10, joined with
Welch's interval by the squares of the distances to either end, as there. Deviation: both accuracies are of the same
images, yet count as of different ones, for what each network says of each image is not stored. Networks mostly fail on
the same images, so the interval is wider than need be: it claims too little rather than too much.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gradnas.report.records.share_intervals import difference_interval

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
        low: Lower end of its 95 % interval over runs, for these test images; None where either mean is of a single run,
            or where neither spreads and the number of test images is not known.
        high: Upper end.
        wide_low: Lower end of the 95 % interval over runs and test images; None where one of them is not known.
        wide_high: Upper end.
    """

    points: float
    low: float | None
    high: float | None
    wide_low: float | None = None
    wide_high: float | None = None

    @property
    def shown(self) -> bool:
        """True when the interval over runs leaves out zero: there is a difference on these test images."""
        return _leaves_out_zero(self.low, self.high)

    @property
    def general(self) -> bool:
        """True when the interval over runs and test images leaves out zero: other images would show it as well."""
        return _leaves_out_zero(self.wide_low, self.wide_high)


def _leaves_out_zero(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and (low > 0 or high < 0)


def difference(first: Spread, second: Spread, n_test: int | None = None) -> Difference:
    """The difference of two mean accuracies with its 95 % intervals; the two may spread differently.

    Args:
        first: Accuracies in percent.
        second: Others, on the same test images.
        n_test: How many test images those are; without it no spread is known to be too small.
    """
    points = first.mean - second.mean
    if first.std is None or second.std is None:
        return Difference(points=points, low=None, high=None)
    least = (100 / n_test) ** 2 / 12 if n_test else 0.0
    parts = (max(first.std**2, least) / first.n, max(second.std**2, least) / second.n)
    total = math.fsum(parts)
    if total == 0:
        return Difference(points=points, low=None, high=None)
    # Shares instead of squares of the parts: the squares of tiny spreads are zero in float64.
    freedom = 1 / math.fsum((part / total) ** 2 / (n - 1) for part, n in zip(parts, (first.n, second.n), strict=True))
    half = student_quantile(freedom) * math.sqrt(total)
    below, above = _image_reach(first.mean, second.mean, n_test) if n_test else (None, None)
    return Difference(
        points=points,
        low=points - half,
        high=points + half,
        wide_low=points - math.hypot(half, below) if below is not None else None,
        wide_high=points + math.hypot(half, above) if above is not None else None,
    )


def _image_reach(first: float, second: float, n_test: int) -> tuple[float, float]:
    """How far the choice of test images lets a difference of two accuracies reach down and up, in points."""
    one, other = (min(1.0, max(0.0, accuracy / 100)) for accuracy in (first, second))
    low, high = difference_interval(one, other, n_test, n_test)
    return 100 * (one - other - low), 100 * (high - one + other)


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
