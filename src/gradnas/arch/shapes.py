"""Feature-map shapes: (channels, height, width), whole and positive, propagated from real strides."""

from collections.abc import Sequence
from reprlib import repr as shortened

from gradnas.arch.limits import MAX_CHANNELS, MAX_SIDE

Shape = tuple[int, int, int]
"""Channels, height and width of one feature map."""


def check_count(value: object, what: str, minimum: int = 1, maximum: int | None = None) -> int:
    """Return ``value`` if it is a whole number of at least ``minimum`` and, unless that is None, at most ``maximum``.

    Raises:
        TypeError: For anything that is not an ``int`` (``bool`` is not one).
        ValueError: For a number that is too small or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number, got {shortened(value)}. Pass an int of at least {minimum}.")
    if value < minimum:
        raise ValueError(f"{what} must be at least {minimum}, got {shortened(value)}.")
    if maximum is not None and value > maximum:
        raise ValueError(f"{what} must be at most {maximum:,}, got {shortened(value)}.")
    return value


def check_shape(shape: Sequence[int], what: str) -> Shape:
    """Return ``shape`` as a tuple if it is three positive whole numbers.

    Raises:
        TypeError: For an entry that is not an ``int``.
        ValueError: For another length, an entry below 1 or one beyond :mod:`gradnas.arch.limits`; unknown sizes (-1,
            fractions) are not accepted.
    """
    if len(shape) != 3:
        raise ValueError(f"{what} must be (channels, height, width), got {tuple(shape)}.")
    channels, height, width = shape
    return (
        check_count(channels, f"{what}, C", maximum=MAX_CHANNELS),
        check_count(height, f"{what}, H", maximum=MAX_SIDE),
        check_count(width, f"{what}, W", maximum=MAX_SIDE),
    )


def strided(shape: Shape, stride: int, channels: int | None = None) -> Shape:
    """The shape after an operation of this stride: every operation gives ceil(size / stride)."""
    return (shape[0] if channels is None else channels, -(-shape[1] // stride), -(-shape[2] // stride))
