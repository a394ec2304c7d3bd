"""One cell as a graph from left to right: inputs, operations, nodes, merge."""

from gradnas.arch import (
    CellDesc,
    EdgeDesc,
    OpDesc,
    candidates,
    concat_ids,
    op_call,
    op_text,
    size_text,
    state_name,
    wiring,
)
from gradnas.report.drawing.cell_layout import CellLayout, EdgePlace, place_cell
from gradnas.report.drawing.palette import FAMILIES, family
from gradnas.report.drawing.scene import (
    Box,
    Group,
    Item,
    Label,
    Path,
    Scene,
    arrow_head,
    line,
    moved,
    shortened,
    text_width,
)
from gradnas.report.drawing.svg import to_svg

_TEXT = 12.0
_LONGEST_NAME = 26  # characters on a label; the whole name is in the tooltip
_GAP = 58.0  # in which wires change rows
_NODE = 30.0  # diameter of a node
_LEAD = 20.0  # from a label to its node
_INPUT = 44.0
_MARGIN = 16.0
_HEAD = 44.0
_SOURCES = ("output of the cell before the previous one", "output of the previous cell")


def draw_cell(cell: CellDesc, *, title: str | None = None) -> str:
    """A cell as SVG text.

    Each edge is a group of class ``edge`` with ``data-op``, ``data-inputs`` and ``data-node``. A node without edges,
    which copies the state before it, shows a dashed wire labeled ``copy``.

    Args:
        cell: A discrete cell, or one of a supergraph, whose undecided edges read ``N candidates``.
        title: Heading; by default the type of the cell.
    """
    return to_svg(cell_scene(cell, title=title))


def cell_scene(cell: CellDesc, *, title: str | None = None) -> Scene:
    """What :func:`draw_cell` paints."""
    n_nodes = len(cell.nodes())
    lines = [[_label_lines(edge) for edge in node.edges] or [["copy"]] for node in cell.nodes()]
    layout = place_cell(cell, [[len(label) for label in node] for node in lines])
    label_width = max(text_width(text, _TEXT) for node in lines for label in node for text in label) + 16
    pitch = _GAP + label_width + _LEAD + _NODE
    columns = [_MARGIN, *(_MARGIN + _INPUT + layer * pitch - _NODE for layer in range(1, max(layout.layers) + 1))]
    merge_lines = [shortened(cell.post_op.name, _LONGEST_NAME), size_text(cell.out_shape)]
    merge_width = max(text_width(text, _TEXT) for text in merge_lines) + 20
    x_merge = columns[-1] + _NODE + _GAP
    width = x_merge + merge_width + _MARGIN

    wires: list[Item] = []
    blocks: list[Item] = []
    for place in layout.edges:
        x_label = columns[layout.layers[place.node + 2]] - _LEAD - label_width
        edge = _edge(cell, layout, place, columns, x_label, label_width, lines[place.node][place.index])
        wires.append(edge)
    wires += _merge_wires(cell, layout, columns, x_merge)
    blocks += [_input(cell, state, layout.state_y[state]) for state in (0, 1)]
    blocks += [_node(cell, k, columns[layout.layers[k + 2]], layout.state_y[k + 2]) for k in range(n_nodes)]
    middle = layout.height / 2
    box = Box(
        x=x_merge, y=middle - 24, width=merge_width, height=48, fill="state", stroke="state-line", radius=8, line=1.5
    )
    texts = (
        Label(x=x_merge + merge_width / 2, y=middle - 9, text=merge_lines[0], anchor="middle", size=_TEXT, bold=True),
        Label(x=x_merge + merge_width / 2, y=middle + 9, text=merge_lines[1], anchor="middle", size=11, fill="muted"),
    )
    merged = ", ".join(state_name(state) for state in concat_ids(cell))
    blocks.append(Group(items=(box, *texts), kind="merge", title=f"{cell.post_op.name} of {merged}"))

    heading = title if title is not None else f"{cell.cell_type.value} cell"
    width = max(width, text_width(heading, 15) + 2 * _MARGIN)
    legend, legend_height = _legend(cell, width)
    body = _HEAD + layout.height
    height = body + 18 + legend_height + _MARGIN
    items: list[Item] = [Box(x=0, y=0, width=width, height=height, fill="paper")]
    items.append(Label(x=_MARGIN, y=22, text=heading, size=15, bold=True))
    items += [moved(item, 0, _HEAD) for item in (*wires, *blocks)]
    items += [moved(item, 0, body + 18) for item in legend]
    return Scene(width=width, height=height, items=tuple(items), title=f"{heading}: {wiring_text(cell)}")


def wiring_text(cell: CellDesc) -> str:
    """The cell in words: ``n0 = sep_conv_3x3(s0) + skip_connect(s1); …``."""
    return "; ".join(wiring(cell))


def _label_lines(edge: EdgeDesc) -> list[str]:
    """What stands on an edge: the op, its stride when it halves the map, and the parts of a composite."""
    op = edge.op_desc
    children = [
        f"{_label(child, _LONGEST_NAME - 6)} of {state_name(edge.input_ids[port])}"
        for child, port in zip(op.children or (), op.children_ins or (), strict=True)
    ]
    return [_label(op, _LONGEST_NAME), *children]


def _label(op: OpDesc, longest: int) -> str:
    name = op_text(op.with_params(stride=1))
    return shortened(name, longest) + op_text(op).removeprefix(name)


def _edge(
    cell: CellDesc,
    layout: CellLayout,
    place: EdgePlace,
    columns: list[float],
    x_label: float,
    label_width: float,
    lines: list[str],
) -> Group:
    edges = cell.nodes()[place.node].edges
    op = edges[place.index].op_desc if edges else None
    kind = family(op) if op else "other"
    items: list[Item] = [
        _wire(_right_of(layout, columns, state), layout.state_y[state], x_label, row, copied=op is None)
        for state, row in zip(place.input_ids, place.rows, strict=True)
    ]
    x_right, x_node = x_label + label_width, columns[layout.layers[place.node + 2]]
    y_node = layout.state_y[place.node + 2]
    middle = place.middle
    bend = x_right + _LEAD * 0.6
    end = y_node + max(-8.0, min(8.0, (middle - y_node) * 0.3))  # wires meet a node side by side, not in one point
    curve = (("M", (x_right, middle)), ("C", (bend, middle, x_node - _LEAD * 0.8, end, x_node - 1, end)))
    items.append(Path(commands=curve, stroke="wire", dashed=op is None))
    items.append(arrow_head(x_node + 1, end, "wire"))
    box_height = (len(lines) - 1) * 16 + 22
    items.append(
        Box(
            x=x_label,
            y=middle - box_height / 2,
            width=label_width,
            height=box_height,
            fill=kind,
            stroke=f"{kind}-line",
            radius=7,
            dashed=op is None,
        )
    )
    for i, text in enumerate(lines):
        y = middle + (i - (len(lines) - 1) / 2) * 16
        items.append(Label(x=x_label + label_width / 2, y=y, text=text, size=_TEXT if i == 0 else 11, anchor="middle"))
    sources = ", ".join(map(state_name, place.input_ids))
    name = op.name if op else "copy"
    words = "a copy"
    if op:
        words = op_call(op, [state_name(state) for state in place.input_ids]) if op.children else op_text(op)
    detail = f"\ncandidates: {', '.join(candidates(op))}" if op and candidates(op) else ""
    return Group(
        items=tuple(items),
        kind="edge",
        data=(("op", name), ("inputs", sources), ("node", state_name(place.node + 2))),
        title=f"{state_name(place.node + 2)} reads {sources} through {words}{detail}",
    )


def _right_of(layout: CellLayout, columns: list[float], state: int) -> float:
    return columns[layout.layers[state]] + (_INPUT if state < 2 else _NODE)


def _wire(x: float, y: float, x_end: float, row: float, *, copied: bool = False) -> Path:
    """From a state across the gap into a row, then straight on."""
    bent = x + _GAP
    curve: list[tuple[str, tuple[float, ...]]] = [
        ("M", (x, y)),
        ("C", (x + _GAP * 0.5, y, bent - _GAP * 0.5, row, bent, row)),
    ]
    if x_end > bent:
        curve.append(("L", (x_end, row)))
    return Path(commands=tuple(curve), stroke="wire", dashed=copied)


def _merge_wires(cell: CellDesc, layout: CellLayout, columns: list[float], x_merge: float) -> list[Item]:
    middle = layout.height / 2
    merged = concat_ids(cell)
    spread = min(12.0, 36.0 / max(1, len(merged) - 1))
    ranks = sorted(merged, key=lambda state: layout.through.get(state, layout.state_y[state]))
    items: list[Item] = []
    for rank, state in enumerate(ranks):
        y = layout.through.get(state, layout.state_y[state])
        end = middle + (rank - (len(ranks) - 1) / 2) * spread
        x, bend = _right_of(layout, columns, state), x_merge - _GAP
        start: list[tuple[str, tuple[float, ...]]] = [("M", (x, layout.state_y[state]))]
        if state in layout.through:
            start.append(("C", (x + _GAP * 0.5, layout.state_y[state], x + _GAP * 0.5, y, x + _GAP, y)))
        if bend > x:
            start.append(("L", (bend, y)))
        start.append(("C", (bend + _GAP * 0.5, y, x_merge - _GAP * 0.5, end, x_merge - 2, end)))
        path = Path(commands=tuple(start), stroke="wire")
        items.append(
            Group(
                items=(path, arrow_head(x_merge, end, "wire")),
                kind="merged",
                data=(("inputs", state_name(state)),),
                title=f"{state_name(state)} is merged into the output",
            )
        )
    return items


def _input(cell: CellDesc, state: int, y: float) -> Group:
    box = Box(x=_MARGIN, y=y - 18, width=_INPUT, height=36, fill="state", stroke="state-line", radius=8, line=1.5)
    middle = _MARGIN + _INPUT / 2
    texts = (
        Label(x=middle, y=y - 6, text=state_name(state), anchor="middle", bold=True),
        Label(x=middle, y=y + 9, text=f"k−{2 - state}", anchor="middle", size=10, fill="muted"),
    )
    stem = f"{cell.stems[state].name}: {size_text(cell.stem_shapes[state])}"
    words = f"{state_name(state)}: {_SOURCES[state]}, through {stem}"
    return Group(items=(box, *texts), kind="input", data=(("state", state_name(state)),), title=words)


def _node(cell: CellDesc, node: int, x: float, y: float) -> Group:
    name = state_name(node + 2)
    circle = Box(
        x=x, y=y - _NODE / 2, width=_NODE, height=_NODE, fill="state", stroke="state-line", radius=_NODE / 2, line=1.5
    )
    label = Label(x=x + _NODE / 2, y=y, text=name, anchor="middle", bold=True)
    words = f"{name}: sum of its edges, {size_text(cell.node_shapes[node])}"
    return Group(items=(circle, label), kind="node", data=(("state", name),), title=words)


def _legend(cell: CellDesc, width: float) -> tuple[list[Item], float]:
    """The families that occur, wrapped to the width, and the height this takes."""
    ops = [edge.op_desc for node in cell.nodes() for edge in node.edges]
    entries = [(kind, words) for kind, words in FAMILIES.items() if kind in {family(op) for op in ops}]
    if any(part.stride != 1 for op in ops for _, part in op.all_ops()):
        entries.append(("", "/2 halves the map"))
    items: list[Item] = [line((_MARGIN, -8), (width - _MARGIN, -8), stroke="faint", width=1)]
    x, y = _MARGIN, 8.0
    for kind, words in entries:
        wide = text_width(words, 11) + (22 if kind else 0) + 14
        if x > _MARGIN and x + wide > width - _MARGIN:
            x, y = _MARGIN, y + 18
        if kind:
            items.append(Box(x=x, y=y - 5, width=15, height=10, fill=kind, stroke=f"{kind}-line", radius=3))
        items.append(Label(x=x + (22 if kind else 0), y=y, text=words, size=11, fill="muted"))
        x += wide
    return items, y + 8 if entries else 0.0
