"""A network as a column: image, stems, cells with their shapes, auxiliary tower, head."""

import math

from gradnas.arch import CellDesc, CellType, ModelDesc, OpDesc, size_text
from gradnas.report.drawing.scene import Box, Group, Item, Label, Path, Scene, arrow_head, line, shortened, text_width
from gradnas.report.drawing.svg import to_svg

_WIDEST = 268.0  # a box of the full resolution
_NARROWEST = 206.0  # still holds "19 reduction 1024×14×14"
_HEIGHT = 28.0
_GAP = 12.0
_LEFT = 46.0  # room for the arcs
_HEAD = 44.0
_MARGIN = 16.0


def draw_network(desc: ModelDesc) -> str:
    """The column of cells as SVG text.

    A box is narrower where the map is smaller; reduction cells have their own color. A cell is a group of class
    ``cell`` with ``data-id``, ``data-type`` and ``data-shape``. The arcs are the second input of each cell, s0.
    """
    return to_svg(network_scene(desc))


def network_scene(desc: ModelDesc, *, title: str = "network") -> Scene:
    """What :func:`draw_network` paints."""
    image = desc.conf_model_desc.dataset.image_shape
    rows: list[tuple[str, str, str, CellDesc | None, float]] = [
        ("", "image", size_text(image), None, _WIDEST),
        ("", stems_text(desc), channels_text(desc.model_stems[1]), None, _WIDEST),
    ]
    rows += [
        (str(cell.id), f"{cell.cell_type.value} cell", size_text(cell.out_shape), cell, _box_width(cell, image))
        for cell in desc.cell_descs
    ]
    last = rows[-1][4]
    rows.append(("", desc.pool_op.name, channels_text(desc.pool_op), None, last))
    n_classes = desc.conf_model_desc.dataset.n_classes
    rows.append(("", desc.logits_op.name, f"{n_classes} classes", None, last))

    center = _MARGIN + _LEFT + _WIDEST / 2
    ys = [_HEAD + i * (_HEIGHT + _GAP) for i in range(len(rows))]
    items: list[Item] = []
    for i, row in enumerate(rows):
        if i:
            items.append(line((center, ys[i] - _GAP), (center, ys[i] - 4), stroke="wire"))
            items.append(arrow_head(center, ys[i], "wire", down=True))
        items.append(_row(row, center, ys[i]))
    widths = [row[4] for row in rows]
    # Cell k reads the output of cell k - 2; the first two read the stems, row 1.
    items += [_arc(center, ys, widths, i - 2, i) for i in range(3, 2 + len(desc.cell_descs))]
    right = center + _WIDEST / 2
    width = right + _MARGIN
    for i, tower in enumerate(desc.aux_tower_descs):
        if tower is not None:
            half = widths[i + 2] / 2
            items.append(_tower(center + half, ys[i + 2] + _HEIGHT / 2, right + 26, tower.n_classes))
            width = max(width, right + 26 + 118 + _MARGIN)
    reductions = desc.cell_type_count(CellType.Reduction)
    count = (
        f"{len(desc.cell_descs)} cells, {reductions} halving the map" if reductions else f"{len(desc.cell_descs)} cells"
    )
    y = ys[-1] + _HEIGHT + 20
    words = (count, "shapes: channels × height × width", "arcs: the second input of a cell, s0")
    notes = [Label(x=_MARGIN, y=y + 16 * i, text=text, size=11, fill="muted") for i, text in enumerate(words)]
    height = y + 16 * len(words) + _MARGIN - 8
    width = max(width, *(text_width(note.text, 11) + 2 * _MARGIN for note in notes))
    paper = Box(x=0, y=0, width=width, height=height, fill="paper")
    heading = Label(x=_MARGIN, y=22, text=title, size=15, bold=True)
    return Scene(width=width, height=height, items=(paper, heading, *items, *notes), title=f"{title}: {count}")


def _row(row: tuple[str, str, str, CellDesc | None, float], center: float, y: float) -> Group:
    number, name, shape, cell, width = row
    x = center - width / 2
    reduces = cell is not None and cell.cell_type is CellType.Reduction
    fill, stroke = (
        ("reduction", "reduction-line") if reduces else ("sep", "sep-line") if cell else ("state", "other-line")
    )
    items: list[Item] = [Box(x=x, y=y, width=width, height=_HEIGHT, fill=fill, stroke=stroke, radius=7)]
    middle = y + _HEIGHT / 2
    if number:
        items.append(Label(x=x + 10, y=middle, text=number, size=11, fill="muted"))
    if cell is None and text_width(name, 12) + text_width(shape, 11) + 28 > width:
        shape = ""  # stands in the tooltip and, for the head, at the cell before it
    room = width - 20 - (26 if number else 0) - text_width(shape, 11) - 8
    while len(name) > 4 and text_width(name, 12) > room:
        name = shortened(name, len(name) - 1)
    items.append(Label(x=x + (36 if number else 10), y=middle, text=name, bold=reduces))
    items.append(Label(x=x + width - 10, y=middle, text=shape, size=11, anchor="end"))
    if cell is None:
        return Group(items=tuple(items), kind="part", title=f"{row[1]} {row[2]}".rstrip())
    data = (("id", str(cell.id)), ("type", cell.cell_type.value), ("shape", shape))
    return Group(items=tuple(items), kind="cell", data=data, title=f"cell {cell.id}, {cell.cell_type.value}: {shape}")


def _arc(center: float, ys: list[float], widths: list[float], start: int, end: int) -> Path:
    x0, x1 = center - widths[start] / 2, center - widths[end] / 2
    y0, y1 = ys[start] + _HEIGHT * 0.68, ys[end] + _HEIGHT * 0.32
    out = center - _WIDEST / 2 - 30
    return Path(commands=(("M", (x0, y0)), ("C", (out, y0 + 8, out, y1 - 8, x1, y1))), stroke="faint", line=1.3)


def _tower(x: float, y: float, x_box: float, n_classes: int) -> Group:
    wire = line((x, y), (x_box - 4, y), stroke="mixed-line", dashed=True)
    box = Box(x=x_box, y=y - 19, width=118, height=38, fill="mixed", stroke="mixed-line", radius=7)
    texts = (
        Label(x=x_box + 59, y=y - 7, text="auxiliary tower", anchor="middle", size=11.5),
        Label(x=x_box + 59, y=y + 8, text=f"{n_classes} classes", anchor="middle", size=10.5, fill="muted"),
    )
    words = "a second classifier that helps while training and is not used afterwards"
    return Group(items=(wire, arrow_head(x_box, y, "mixed-line"), box, *texts), kind="tower", title=words)


def _box_width(cell: CellDesc, image: tuple[int, int, int]) -> float:
    """Linear in the logarithm of the map's area, one step per halving."""
    full, here = image[1] * image[2], cell.out_shape[1] * cell.out_shape[2]
    halvings = max(0.0, math.log2(full / here) / 2)
    return max(_NARROWEST, _WIDEST - 18 * halvings)


def stems_text(desc: ModelDesc) -> str:
    """Names of the two stems, once where they are one."""
    first, second = (stem.name for stem in desc.model_stems)
    return first if first == second else f"{first}, {second}"


def channels_text(op: OpDesc) -> str:
    """``48 channels``; empty for an op without."""
    return f"{op.conv.ch_out} channels" if "conv" in op.params else ""
