"""Feature-map shapes: (channels, height, width), whole and positive, propagated from real strides."""

from collections.abc import Sequence

Shape = tuple[int, int, int]
"""Channels, height and width of one feature map."""


def check_count(value: object, what: str, minimum: int = 1) -> int:
    """Return ``value`` if it is a whole number of at least ``minimum``.

    Raises:
        TypeError: For anything that is not an ``int`` (``bool`` is not one).
        ValueError: For a number that is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number, got {value!r}. Pass an int of at least {minimum}.")
    if value < minimum:
        raise ValueError(f"{what} must be at least {minimum}, got {value}.")
    return value


def check_shape(shape: Sequence[int], what: str) -> Shape:
    """Return ``shape`` as a tuple if it is three positive whole numbers.

    Raises:
        TypeError: For an entry that is not an ``int``.
        ValueError: For another length or an entry below 1; unknown sizes (-1, fractions) are not accepted.
    """
    if len(shape) != 3:
        raise ValueError(f"{what} must be (channels, height, width), got {tuple(shape)}.")
    channels, height, width = (check_count(size, f"{what}, {name}") for size, name in zip(shape, "CHW", strict=True))
    return channels, height, width


def strided(shape: Shape, stride: int, channels: int | None = None) -> Shape:
    """The shape after an operation of this stride: every operation gives ceil(size / stride)."""
    return (shape[0] if channels is None else channels, -(-shape[1] // stride), -(-shape[2] // stride))
