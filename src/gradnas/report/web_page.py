"""What the pages of this room share: the template environment with the style sheet, and drawings as parts of a page."""

from importlib import resources
from typing import TYPE_CHECKING

from gradnas.report.drawing.scene import Scene
from gradnas.report.drawing.svg import printable, to_svg, to_svg_part

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup


def page_template(name: str) -> "Template":
    """A template of this package by its file name; it may include others, such as ``page_style.css.j2``.

    Values are escaped unless they are markup already; a value that is missing is an error.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _source(name: str) -> str:
    return resources.files("gradnas.report").joinpath(name).read_text(encoding="utf-8")


def drawn(scene: Scene) -> "Markup":
    """The scene as part of a page with ``page_style.css.j2``; not escaped again, the painter has escaped its texts."""
    from markupsafe import Markup

    return Markup(to_svg_part(scene))


def drawn_alone(scene: Scene) -> "Markup":
    """The scene as SVG that needs no style sheet, for fragments that stand in pages of others."""
    from markupsafe import Markup

    return Markup(to_svg(scene))


def figure(scene: Scene, *, label: str | None = None) -> "Markup":
    """The scene in a box that shrinks it a little where room is short, and scrolls where that is not enough.

    Args:
        scene: What to show.
        label: What the box is called to those who reach it by keyboard; by default the heading of the scene.
    """
    from markupsafe import Markup

    return Markup(
        '<figure class="scroll" role="region" tabindex="0" aria-label="{}" style="--natural: {}px">{}</figure>'
    ).format(printable(label if label is not None else scene.heading), f"{scene.width:.0f}", drawn(scene))
