"""An architecture as one file: a picture, or text for programs that draw."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from gradnas.arch import ModelDesc, distinct_cells
from gradnas.foundation.files import write_atomic
from gradnas.report.drawing.cell_drawing import cell_scene
from gradnas.report.drawing.graph_text import What, check_what, to_dot, to_mermaid
from gradnas.report.drawing.network_drawing import network_scene
from gradnas.report.drawing.png import to_png
from gradnas.report.drawing.scene import Box, Item, Scene, moved
from gradnas.report.drawing.svg import to_svg

_GAP = 8.0

ENDINGS: Mapping[str, Callable[[ModelDesc, What], str | bytes]] = MappingProxyType(
    {
        ".svg": lambda desc, what: to_svg(model_scene(desc, what=what)),
        ".png": lambda desc, what: to_png(model_scene(desc, what=what)),
        ".mmd": lambda desc, what: to_mermaid(desc, what=what),
        ".dot": lambda desc, what: to_dot(desc, what=what),
    }
)
"""What a file of each ending holds."""


def draw(desc: ModelDesc, path: str | os.PathLike[str], *, what: What = "all") -> Path:
    """Write each distinct cell and the network as one file.

    The same description gives the same bytes; a file that cannot be written leaves the previous one intact.

    Args:
        desc: A found architecture or a supergraph.
        path: Where to write: a picture ends in ``.svg`` or ``.png``, text for Mermaid in ``.mmd``, for Graphviz in
            ``.dot``; its folder must exist.
        what: ``cells``, ``network`` or ``all``.

    Returns:
        The path.

    Raises:
        ValueError: For another ending, or another ``what``.
        OSError: When the file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in ENDINGS:
        *most, last = ENDINGS
        raise ValueError(
            f"a drawing is written as {', '.join(most)} or {last}, got {target.name!r}. Choose one of these endings "
            "for the path."
        )
    write_atomic(target, ENDINGS[suffix](desc, what))
    return target


def model_scene(desc: ModelDesc, *, what: What = "all") -> Scene:
    """Cells on the left, one below the other, the network on the right; ``what`` as in :func:`draw`."""
    check_what(what)
    cells = [] if what == "network" else [cell_scene(cell, title=title) for title, cell in distinct_cells(desc)]
    columns = [_stacked(cells)] if cells else []
    columns += [] if what == "cells" else [network_scene(desc)]
    items: list[Item] = []
    x = 0.0
    for column in columns:
        items += [moved(item, x, 0) for item in column.items]
        x += column.width + _GAP
    width, height = x - _GAP, max(column.height for column in columns)
    paper = Box(x=0, y=0, width=width, height=height, fill="paper")
    return Scene(width=width, height=height, items=(paper, *items), title="; ".join(c.title for c in columns))


def _stacked(scenes: Sequence[Scene]) -> Scene:
    items: list[Item] = []
    y = 0.0
    for scene in scenes:
        items += [moved(item, 0, y) for item in scene.items]
        y += scene.height + _GAP
    width = max(scene.width for scene in scenes)
    return Scene(width=width, height=y - _GAP, items=tuple(items), title="; ".join(s.title for s in scenes))
