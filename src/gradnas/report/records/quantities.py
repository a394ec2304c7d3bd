"""Numbers with their units, as a reader wants them."""

import math


def time_text(time_s: float) -> str:
    """Seconds as ``48.2 s``, ``12 min 05 s``, ``3 h 07 min`` or ``2 d 4 h``."""
    if time_s < 60:
        return f"{time_s:.1f} s"
    minutes, seconds = divmod(round(time_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def millions(count: float) -> str:
    """A count in millions with three significant digits: ``3.30 M``."""
    value = count / 1e6
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 4
    return f"{value:.{decimals}f} M"


def percent(value: float, *, signed: bool = False) -> str:
    """Two decimals: ``97.24 %``."""
    return f"{value:+.2f}" if signed else f"{value:.2f} %"


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share seen in ``count`` independent trials, both from 0 to 1.

    Source: Wilson, JASA 22 (1927). Deviations: none.
    """
    z = 1.959964
    denominator = 1 + z * z / count
    center = (share + z * z / (2 * count)) / denominator
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / denominator
    return max(0.0, center - half), min(1.0, center + half)
