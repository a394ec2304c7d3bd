"""Paint a scene as SVG text: no ids, no scripts, no fonts, nothing to load; every text escaped."""

from xml.sax.saxutils import escape, quoteattr

from gradnas.report.drawing.palette import COLORS
from gradnas.report.drawing.scene import Box, Group, Item, Label, Path, Scene

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def to_svg(scene: Scene) -> str:
    """The scene as one ``<svg>`` element, the same text for the same scene.

    Colors stand in the attributes as on white; a style element replaces them where the reader prefers dark screens.
    Groups become ``<g class=kind data-…>`` with a ``<title>`` that browsers show when hovering.
    """
    width, height = _number(scene.width), _number(scene.height)
    body = "\n".join(_paint(item) for item in scene.items)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label={_quoted(scene.title)} font-family="{FONT}">\n'
        f"<title>{_escaped(scene.title)}</title>\n<style>{_dark_style(scene)}</style>\n{body}\n</svg>\n"
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


def _paint(item: Item) -> str:
    match item:
        case Group():
            data = "".join(f" data-{name}={_quoted(value)}" for name, value in item.data)
            title = f"<title>{_escaped(item.title)}</title>" if item.title else ""
            inner = "".join(_paint(part) for part in item.items)
            return f"<g class={_quoted(item.kind)}{data}>{title}{inner}</g>"
        case Box():
            shape = f'x="{_number(item.x)}" y="{_number(item.y)}" width="{_number(item.width)}"'
            corner = f' rx="{_number(item.radius)}"' if item.radius else ""
            opacity = f' fill-opacity="{_number(item.opacity)}"' if item.opacity != 1 else ""
            colors = _colors(item.fill, item.stroke, item.line, item.dashed)
            return f'<rect {shape} height="{_number(item.height)}"{corner}{opacity}{colors}/>'
        case Label():
            x, y = _number(item.x), _number(item.y)
            anchor = f' text-anchor="{item.anchor}"' if item.anchor != "start" else ""
            weight = ' font-weight="600"' if item.bold else ""
            turn = f' transform="rotate({_number(item.rotation)} {x} {y})"' if item.rotation else ""
            colors = _colors(item.fill, None, 0, False)
            place = f'x="{x}" y="{y}" dy=".35em" font-size="{_number(item.size)}"{anchor}{weight}{turn}'
            return f"<text {place}{colors}>{_escaped(item.text)}</text>"
        case Path():
            steps = " ".join(f"{name}{','.join(_number(v) for v in at)}" for name, at in item.commands)
            return f'<path d="{steps}"{_colors(item.fill, item.stroke, item.line, item.dashed)}/>'


def _colors(fill: str | None, stroke: str | None, line: float, dashed: bool) -> str:
    classes = " ".join(f"{kind}-{role}" for kind, role in (("fill", fill), ("stroke", stroke)) if role)
    text = f' class="{classes}"' if classes else ""
    text += f' fill="{COLORS[fill][0]}"' if fill else ' fill="none"'
    if stroke:
        text += f' stroke="{COLORS[stroke][0]}" stroke-width="{_number(line)}" stroke-linecap="round"'
        text += ' stroke-dasharray="5 4"' if dashed else ""
    return text


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
