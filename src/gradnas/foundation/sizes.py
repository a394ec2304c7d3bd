"""Amounts of memory as people read them."""

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size_text(n_bytes: float) -> str:
    """Three digits and a binary unit, such as ``41.0 MiB`` or ``4.24 GiB``; 1 GiB = 1024³ bytes."""
    size, unit = float(n_bytes), 0
    while abs(size) >= 1000 and unit < len(_UNITS) - 1:  # 1000 MiB take a digit more than 0.98 GiB
        size, unit = size / 1024, unit + 1
    if unit == 0:
        return f"{round(size)} bytes"
    digits = 2 if abs(size) < 9.995 else 1 if abs(size) < 99.95 else 0
    return f"{size:.{digits}f} {_UNITS[unit]}"
