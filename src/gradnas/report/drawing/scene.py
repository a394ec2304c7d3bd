"""A drawing as plain data: boxes, labels and paths with named colors, painted by ``svg.py`` or ``png.py``.

Lengths are pixels of the drawing at its natural size, x to the right, y downwards. Colors are roles of ``palette.py``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

Anchor = Literal["start", "middle", "end"]
Command = tuple[str, tuple[float, ...]]
"""One path command: ``M`` or ``L`` with (x, y), ``C`` with two control points and the end, ``Z`` with nothing."""

_NARROW = frozenset("iljtf.,:;|!'()[]/\\ ")
_WIDE = frozenset("mwMW@%→")


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle; ``radius`` rounds its corners. ``fill`` and ``stroke`` are roles, None for none."""

    x: float
    y: float
    width: float
    height: float
    fill: str | None = None
    stroke: str | None = None
    radius: float = 0.0
    opacity: float = 1.0
    dashed: bool = False
    line: float = 1.2


@dataclass(frozen=True, kw_only=True)
class Label:
    """One line of text; y is the middle of its letters, ``rotation`` turns it clockwise, in degrees, about (x, y)."""

    x: float
    y: float
    text: str
    fill: str = "ink"
    size: float = 12.0
    anchor: Anchor = "start"
    bold: bool = False
    rotation: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Path:
    """A line of ``stroke``, or an area of ``fill``. ``ends`` are those of the line; butt ones stop at its points."""

    commands: tuple[Command, ...]
    stroke: str | None = None
    fill: str | None = None
    opacity: float = 1.0
    line: float = 1.5
    dashed: bool = False
    ends: Literal["round", "butt"] = "round"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Items that are one thing to the reader: its kind, what a program may ask of it, the words shown on hovering."""

    items: tuple["Item", ...]
    kind: str
    data: tuple[tuple[str, str], ...] = ()
    title: str = ""


Item = Box | Label | Path | Group


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A drawing of ``width`` by ``height`` pixels. ``title`` is read aloud where the drawing cannot be seen."""

    width: float
    height: float
    items: tuple[Item, ...] = field(repr=False)
    title: str

    @property
    def heading(self) -> str:
        """The title up to its first colon: what the drawing is called."""
        return self.title.partition(":")[0]

    def leaves(self) -> Iterator[Box | Label | Path]:
        """Everything to paint, in order, groups opened."""
        yield from _leaves(self.items)


def _leaves(items: tuple[Item, ...]) -> Iterator[Box | Label | Path]:
    for item in items:
        if isinstance(item, Group):
            yield from _leaves(item.items)
        else:
            yield item


def text_width(text: str, size: float) -> float:
    """Width of a text in pixels, from above: as wide as DejaVu Sans, which is wider than the fonts of most readers."""
    ems = sum(
        0.38 if c in _NARROW else 1.0 if c in _WIDE or ord(c) > 0x2E80 else 0.72 if c.isupper() else 0.63 for c in text
    )
    return ems * size


def shortened(text: str, longest: int) -> str:
    """The text with at most ``longest`` characters, an ellipsis in place of what is left out."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def moved(item: Item, dx: float, dy: float) -> Item:
    """The item dx further right and dy further down."""
    if isinstance(item, Group):
        return replace(item, items=tuple(moved(inner, dx, dy) for inner in item.items))
    if isinstance(item, Path):
        shifts = (dx, dy)
        commands = tuple((name, tuple(v + shifts[i % 2] for i, v in enumerate(at))) for name, at in item.commands)
        return replace(item, commands=commands)
    return replace(item, x=item.x + dx, y=item.y + dy)


def line(*points: tuple[float, float], stroke: str, width: float = 1.5, dashed: bool = False) -> Path:
    """Straight lines through the points."""
    commands = tuple(("M" if i == 0 else "L", point) for i, point in enumerate(points))
    return Path(commands=commands, stroke=stroke, line=width, dashed=dashed)


def arrow_head(x: float, y: float, fill: str, *, down: bool = False) -> Path:
    """A small arrow head that ends at (x, y), pointing right or down."""
    wings = ((x - 3.5, y - 6), (x + 3.5, y - 6)) if down else ((x - 6, y - 3.5), (x - 6, y + 3.5))
    return Path(commands=(("M", (x, y)), ("L", wings[0]), ("L", wings[1]), ("Z", ())), fill=fill)
