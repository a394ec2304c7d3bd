"""Durations as people write them: ``90m``, ``1h30m``, ``45s``, or a plain number of seconds."""

import math
import re
import sys

_UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_FORM = re.compile(r"(?:(\d+(?:\.\d*)?)d)?(?:(\d+(?:\.\d*)?)h)?(?:(\d+(?:\.\d*)?)m)?(?:(\d+(?:\.\d*)?)s?)?")


def seconds_of(duration: str | float, what: str = "a duration") -> float:
    """A duration in seconds.

    Args:
        duration: Days, hours, minutes and seconds in this order, each left out or given once, as in ``1h30m``; or a
            number of seconds.
        what: Its name, for messages.

    Raises:
        ValueError: For another form, or a duration that is not positive.
    """
    if isinstance(duration, (int, float)) and not isinstance(duration, bool):
        seconds = float(duration) if abs(duration) < sys.float_info.max else math.inf
    else:
        match = _FORM.fullmatch(str(duration).strip().lower())
        if match is None or not any(match.groups()):
            raise ValueError(f"{what} must be a duration such as 90m, 1h30m or 3600 (seconds), got {duration!r}.")
        parts = zip(_UNITS_S.values(), match.groups(), strict=True)
        seconds = sum(unit * float(number) for unit, number in parts if number is not None)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{what} must be longer than nothing and not endless, got {duration!r}.")
    return seconds
