"""Paint a scene as a PNG picture with matplotlib, on white, without a system binary."""

import io
import warnings
from typing import TYPE_CHECKING

from gradnas.report.drawing.palette import COLORS
from gradnas.report.drawing.scene import Box, Command, Label, Path, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 100
_POINTS_PER_INCH = 72
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}


def to_png(scene: Scene, *, zoom: float = 2.0) -> bytes:
    """The scene as PNG bytes, the same for the same scene and the same matplotlib.

    Args:
        scene: What to paint.
        zoom: Picture pixels per pixel of the scene; 2 is sharp on phones and in print.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(scene.width * zoom / _DPI, scene.height * zoom / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)  # the figure keeps it
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, scene.width)
    axes.set_ylim(scene.height, 0)
    axes.axis("off")
    for order, item in enumerate(scene.leaves()):
        _paint(axes, item, order, zoom)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # an op name in a script that the bundled font lacks
        figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()


def _paint(axes: "Axes", item: Box | Label | Path, order: int, zoom: float) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    points = zoom * _POINTS_PER_INCH / _DPI
    fill = to_rgba(COLORS[item.fill][0]) if item.fill else "none"
    if isinstance(item, Label):
        axes.text(
            item.x,
            item.y,
            item.text,
            fontsize=item.size * points,
            fontfamily="DejaVu Sans",
            fontweight="bold" if item.bold else "normal",
            color=fill,
            ha=_ANCHORS[item.anchor],
            va="center_baseline" if not item.rotation else "center",
            rotation=-item.rotation,
            rotation_mode="anchor",
            parse_math=False,
            zorder=order,
        )
        return
    if item.fill:
        fill = to_rgba(COLORS[item.fill][0], item.opacity)
    codes: list[int] = []
    vertices: list[tuple[float, float]] = []
    kinds = {"M": Outline.MOVETO, "L": Outline.LINETO, "C": Outline.CURVE4}
    for name, at in _outline(item) if isinstance(item, Box) else item.commands:
        if name == "Z":
            codes.append(int(Outline.CLOSEPOLY))
            vertices.append(vertices[0])
            continue
        pairs = list(zip(at[::2], at[1::2], strict=True))
        codes += [int(kinds[name])] * len(pairs)
        vertices += pairs
    axes.add_patch(
        PathPatch(
            Outline(vertices, codes),
            facecolor=fill,
            edgecolor=to_rgba(COLORS[item.stroke][0], 1.0 if item.fill else item.opacity) if item.stroke else "none",
            linewidth=item.line * points if item.stroke else 0,
            linestyle=(0, (5 / item.line, 4 / item.line)) if item.dashed else "solid",
            capstyle="butt" if isinstance(item, Path) and item.ends == "butt" else "round",
            zorder=order,
        )
    )


def _outline(box: Box) -> tuple[Command, ...]:
    """A rectangle with circular corners as a path; matplotlib's own rounded box bends its corners less."""
    r = min(box.radius, box.width / 2, box.height / 2)
    k = r * (1 - 0.5523)  # the cubic curve nearest to a quarter of a circle
    x0, y0, x1, y1 = box.x, box.y, box.x + box.width, box.y + box.height
    return (
        ("M", (x0 + r, y0)),
        ("L", (x1 - r, y0)),
        ("C", (x1 - k, y0, x1, y0 + k, x1, y0 + r)),
        ("L", (x1, y1 - r)),
        ("C", (x1, y1 - k, x1 - k, y1, x1 - r, y1)),
        ("L", (x0 + r, y1)),
        ("C", (x0 + k, y1, x0, y1 - k, x0, y1 - r)),
        ("L", (x0, y0 + r)),
        ("C", (x0, y0 + k, x0 + k, y0, x0 + r, y0)),
        ("Z", ()),
    )
