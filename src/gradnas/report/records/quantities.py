"""Numbers with their units, as a reader wants them."""


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


def milliseconds(time_ms: float) -> str:
    """A short time with three significant digits: ``1.23 ms``; a long one as :func:`time_text` has it."""
    return f"{time_ms:.3g} ms" if time_ms < 999.5 else time_text(time_ms / 1000)


def millions(count: float) -> str:
    """A count in millions: ``3.30 M``; below 0.1 M in thousands: ``14.3 k``; below 1000 as it is."""
    if count < 1e3:
        return f"{count:.0f}"
    if count < 1e5:
        return f"{f'{count / 1e3:#.3g}'.rstrip('.')} k"  # the sign keeps zeros at the end, and a point after 100
    value = count / 1e6
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{decimals}f} M"


def percent(value: float, *, signed: bool = False) -> str:
    """Two decimals: ``97.24 %``."""
    return f"{value:+.2f}".replace("-", "−") if signed else f"{value:.2f} %"
