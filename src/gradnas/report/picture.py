"""An architecture as one picture file."""

import os
from pathlib import Path

from gradnas.arch import CellType, ModelDesc
from gradnas.foundation.files import write_atomic
from gradnas.report.cell_drawing import cell_scene
from gradnas.report.network_drawing import network_scene
from gradnas.report.png import to_png
from gradnas.report.scene import Box, Item, Scene, moved
from gradnas.report.svg import to_svg

_GAP = 8.0


def draw(desc: ModelDesc, path: str | os.PathLike[str]) -> Path:
    """Write the regular cell, the reduction cell and the network as one picture.

    The same description gives the same bytes; a picture that cannot be written leaves the previous one intact.

    Args:
        desc: A found architecture or a supergraph.
        path: Where to write, ending in ``.svg`` or ``.png``; its folder must exist.

    Returns:
        The path.

    Raises:
        ValueError: For another ending.
        OSError: When the file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in (".svg", ".png"):
        raise ValueError(
            f"a drawing is written as .svg or .png, got {target.name!r}. Choose one of the two endings for the path."
        )
    scene = model_scene(desc)
    write_atomic(target, to_svg(scene) if suffix == ".svg" else to_png(scene))
    return target


def model_scene(desc: ModelDesc) -> Scene:
    """Cells on the left, one below the other, the network on the right."""
    cells = [cell for kind in CellType if (cell := desc.first_cell(kind)) is not None]
    left = [cell_scene(cell) for cell in cells]
    network = network_scene(desc)
    x = max((scene.width for scene in left), default=0.0) + _GAP
    height = max(sum(scene.height + _GAP for scene in left), network.height)
    items: list[Item] = [Box(x=0, y=0, width=x + network.width, height=height, fill="paper")]
    y = 0.0
    for scene in left:
        items += [moved(item, 0, y) for item in scene.items]
        y += scene.height + _GAP
    items += [moved(item, x, 0) for item in network.items]
    title = "; ".join(scene.title for scene in (*left, network))
    return Scene(width=x + network.width, height=height, items=tuple(items), title=title)
