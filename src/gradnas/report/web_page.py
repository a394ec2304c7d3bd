"""What the pages of this room share: the template environment with the style sheet, and drawings as parts of a page."""

from importlib import resources
from typing import TYPE_CHECKING

from gradnas.report.drawing.scene import Scene
from gradnas.report.drawing.svg import to_svg

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
    """The scene as SVG that the template does not escape again; the painter has escaped its texts."""
    from markupsafe import Markup

    return Markup(to_svg(scene))


def figure(scene: Scene) -> "Markup":
    """The scene in a box that shrinks it a little where room is short, and scrolls where that is not enough."""
    from markupsafe import Markup

    return Markup('<figure class="scroll" style="--natural: {}px">{}</figure>').format(
        f"{scene.width:.0f}", drawn(scene)
    )
