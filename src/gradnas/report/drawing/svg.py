"""Paint a scene as SVG text: no ids, no scripts, no fonts, nothing to load; every text escaped.

A file stands by itself; the part of a page leaves colors, sizes and letters to the style sheet of the page, which
``page_style.css.j2`` holds, so that a page of hundreds of drawings stays small.
"""

from collections.abc import Sequence
from dataclasses import replace
from xml.sax.saxutils import escape, quoteattr

from gradnas.report.drawing.palette import COLORS
from gradnas.report.drawing.scene import Box, Command, Group, Item, Label, Path, Scene

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

_COMMON_LINES = {Box: 1.2, Path: 1.5}
_COMMON_SIZE = 12.0
# Widths of lines and size of letters that the style sheet of a page has; a part of a page states others only.


def to_svg(scene: Scene) -> str:
    """The scene as one ``<svg>`` element that stands by itself, the same text for the same scene.

    Colors stand in the attributes as on white; a style element replaces them where the reader prefers dark screens.
    Groups become ``<g class=kind data-…>`` with a ``<title>`` that browsers show when hovering.
    """
    body = "\n".join(_File().paint(item) for item in scene.items)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {_size(scene)} font-family="{FONT}">\n'
        f"<title>{_escaped(scene.title)}</title>\n<style>{_dark_style(scene)}</style>\n{body}\n</svg>\n"
    )


def to_svg_part(scene: Scene) -> str:
    """The scene as an ``<svg>`` element of a page with the common style sheet; groups are as in :func:`to_svg`."""
    return f"<svg {_size(scene)}>{''.join(_Part().paint(item) for item in scene.items)}</svg>\n"


def _size(scene: Scene) -> str:
    width, height = _number(scene.width), _number(scene.height)
    return (
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label={_quoted(scene.title)}'
    )


def _dark_style(scene: Scene) -> str:
    fills = {item.fill for item in scene.leaves()}
    strokes = {item.stroke for item in scene.leaves() if not isinstance(item, Label)}
    rules = [
        f".{kind}-{role}{{{kind}:{dark}}}"
        for kind, used in (("fill", fills), ("stroke", strokes))
        for role, (_, dark) in COLORS.items()
        if role in used
    ]
    return f"@media screen and (prefers-color-scheme:dark){{{''.join(rules)}}}"


class _File:
    """Paints items with all that they look like."""

    def paint(self, item: Item) -> str:
        match item:
            case Group():
                data = "".join(f" data-{name}={_quoted(value)}" for name, value in item.data)
                title = f"<title>{_escaped(item.title)}</title>" if item.title else ""
                inner = "".join(map(self.paint, self._parts(item.items)))
                return f"<g class={_quoted(item.kind)}{data}>{title}{inner}</g>"
            case Box():
                shape = f'x="{self._length(item.x)}" y="{self._length(item.y)}" width="{self._length(item.width)}"'
                corner = f' rx="{_number(item.radius)}"' if item.radius else ""
                shape += f' height="{self._length(item.height)}"'
                return f"<rect {shape}{corner}{_opacity(item)}{self._colors(item)}/>"
            case Label():
                x, y = _number(item.x), _number(item.y)
                turn = f' transform="rotate({_number(item.rotation)} {x} {y})"' if item.rotation else ""
                return f"<text {self._letters(item)}{turn}>{_escaped(item.text)}</text>"
            case Path():
                return f'<path d="{self._steps(item.commands)}"{_opacity(item)}{self._colors(item)}/>'

    def _parts(self, items: tuple[Item, ...]) -> tuple[Item, ...]:
        """The items of a group as they are painted."""
        return items

    def _length(self, value: float) -> str:
        return _number(value)

    def _letters(self, label: Label) -> str:
        anchor = f' text-anchor="{label.anchor}"' if label.anchor != "start" else ""
        weight = ' font-weight="600"' if label.bold else ""
        place = f'x="{_number(label.x)}" y="{_number(label.y)}" dy=".35em"'
        color = f'class="fill-{label.fill}" fill="{COLORS[label.fill][0]}"'
        return f'{place} font-size="{_number(label.size)}"{anchor}{weight} {color}'

    def _colors(self, item: Box | Path) -> str:
        text = _classes(item)
        text += f' fill="{COLORS[item.fill][0]}"' if item.fill else ' fill="none"'
        if item.stroke:
            text += f' stroke="{COLORS[item.stroke][0]}" stroke-width="{_number(item.line)}"'
            text += ' stroke-linecap="round"' if _round(item) else ""
            text += ' stroke-dasharray="5 4"' if item.dashed else ""
        return text

    def _steps(self, commands: Sequence[Command]) -> str:
        return " ".join(f"{name}{','.join(_number(v) for v in at)}" for name, at in commands)


class _Part(_File):
    """Paints items as classes of the style sheet, to a tenth of a pixel; says what differs from the most common."""

    def _parts(self, items: tuple[Item, ...]) -> tuple[Item, ...]:
        """Lines that look alike and follow each other are one."""
        parts: list[Item] = []
        for item in items:
            before = parts[-1] if parts else None
            if isinstance(item, Path) and isinstance(before, Path) and item == replace(before, commands=item.commands):
                parts[-1] = replace(before, commands=before.commands + item.commands)
            else:
                parts.append(item)
        return tuple(parts)

    def _length(self, value: float) -> str:
        return _tenths(round(10 * value))

    def _letters(self, label: Label) -> str:
        place = f'x="{_tenths(round(10 * label.x))}" y="{_tenths(round(10 * label.y + 3.5 * label.size))}"'
        size = f' font-size="{_number(label.size)}"' if label.size != _COMMON_SIZE else ""
        color = f"fill-{label.fill}" if label.fill != "ink" else ""
        anchor = label.anchor if label.anchor != "start" else ""
        names = " ".join(name for name in (color, anchor, "bold" if label.bold else "") if name)
        return f"{place}{size}" + (f' class="{names}"' if names else "")

    def _colors(self, item: Box | Path) -> str:
        text = _classes(item)
        if item.stroke:
            text += f' stroke-width="{_number(item.line)}"' if item.line != _COMMON_LINES[type(item)] else ""
            text += "" if _round(item) else ' stroke-linecap="butt"'
            text += ' stroke-dasharray="5 4"' if item.dashed else ""
        return text

    def _steps(self, commands: Sequence[Command]) -> str:
        """Each step from the end of the one before it; the first is from the origin."""
        start = pen = (0, 0)
        text = ""
        for name, at in commands:
            points = [(round(10 * x), round(10 * y)) for x, y in zip(at[::2], at[1::2], strict=True)]
            moves = [(x - pen[0], y - pen[1]) for x, y in points]
            pen = points[-1] if points else start
            start = pen if name == "M" else start
            if name == "L" and 0 in moves[0]:
                (dx, dy) = moves[0]
                text += f"v{_tenths(dy)}" if dx == 0 else f"h{_tenths(dx)}"
            else:
                text += name.lower() + " ".join(_tenths(way) for move in moves for way in move)
        return text.replace(" -", "-")


def _classes(item: Box | Path) -> str:
    names = " ".join(f"{kind}-{role}" for kind, role in (("fill", item.fill), ("stroke", item.stroke)) if role)
    return f' class="{names}"' if names else ""


def _opacity(item: Box | Path) -> str:
    kind = "fill" if item.fill else "stroke"
    return f' {kind}-opacity="{_number(item.opacity)}"' if item.opacity != 1 else ""


def _round(item: Box | Path) -> bool:
    return isinstance(item, Box) or item.ends == "round"


def _tenths(value: int) -> str:
    """A number of tenths of a pixel in pixels, as short as it can be written."""
    text = _number(value / 10)
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _escaped(text: str) -> str:
    return escape(printable(text))


def _quoted(text: str) -> str:
    return quoteattr(printable(text))


def printable(text: str) -> str:
    """The text with ``�`` for control characters and lone surrogates, which neither XML nor UTF-8 can write."""
    allowed = (
        c if c in "\t\n" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff") else "�"
        for c in text
    )
    return "".join(allowed)
