"""An architecture as text that other programs draw: Mermaid and DOT (Graphviz).

Sources: the flowchart syntax of Mermaid 11, mermaid.js.org/syntax/flowchart.html; the DOT language and its escape
strings, graphviz.org/doc/info/lang.html. Deviations: none.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from gradnas.arch import (
    CellDesc,
    CellType,
    EdgeDesc,
    ModelDesc,
    OpDesc,
    candidates,
    concat_ids,
    distinct_cells,
    op_text,
    size_text,
    state_name,
)
from gradnas.report.drawing.network_drawing import channels_text, stems_text
from gradnas.report.drawing.palette import COLORS, family
from gradnas.report.drawing.svg import printable


@dataclass(frozen=True, kw_only=True)
class _Point:
    """Something wires join: ``name`` is unique in the text, ``lines`` stand on it, ``role`` is a color."""

    name: str
    lines: tuple[str, ...]
    round: bool = False
    role: str = "state"


@dataclass(frozen=True, kw_only=True)
class _Wire:
    """From ``start`` to ``end``; ``text`` stands on it, ``role`` is the family of its op, ``more`` a tooltip."""

    start: str
    end: str
    text: str = ""
    role: str = "wire"
    dashed: bool = False
    more: str = ""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A framed part of the drawing: one cell, or the network."""

    name: str
    title: str
    points: tuple[_Point, ...]
    wires: tuple[_Wire, ...]
    down: bool = False


What = Literal["all", "cells", "network"]
"""What to show of an architecture."""


def check_what(what: str) -> None:
    """ValueError unless it is one of :data:`What`."""
    if what not in get_args(What):
        raise ValueError(f"what to draw is one of {', '.join(get_args(What))}, got {what!r}.")


def to_mermaid(desc: ModelDesc, *, what: What = "all") -> str:
    """Each distinct cell and the network as a Mermaid flowchart, which GitHub and many editors draw.

    A wire is labeled with its op, ``/2`` where it halves the map and ``N candidates`` where it is undecided. An op of
    several inputs or parts is a box of its own, its parts on the wires into it; a copied state is a dotted wire.

    Args:
        desc: A found architecture or a supergraph; op names may hold anything, they are escaped.
        what: ``cells``, ``network`` or ``all``.

    Raises:
        ValueError: For another ``what``.
    """
    parts = _parts(desc, what)
    lines = ["flowchart LR"]
    for part in parts:
        lines.append(f"  subgraph {part.name}[{_mermaid_text((part.title,))}]")
        lines.append(f"    direction {'TB' if part.down else 'LR'}")
        lines += [f"    {_mermaid_point(point)}:::{point.role}" for point in part.points]
        for wire in part.wires:
            label = f"|{_mermaid_text((wire.text,))}|" if wire.text else ""
            lines.append(f"    {wire.start} {'-.->' if wire.dashed else '-->'}{label} {wire.end}")
        lines.append("  end")
    for role in sorted({point.role for part in parts for point in part.points}):
        lines.append(f"  classDef {role} fill:{_color(role)},stroke:{_color(f'{role}-line')},color:{_color('ink')}")
    wires = [wire for part in parts for wire in part.wires]  # linkStyle counts them in the order of the text
    for role in sorted({wire.role for wire in wires} - {"wire"}):
        numbers = ",".join(str(i) for i, wire in enumerate(wires) if wire.role == role)
        lines.append(f"  linkStyle {numbers} stroke:{_color(f'{role}-line')},stroke-width:2px")
    return "\n".join(lines) + "\n"


def to_dot(desc: ModelDesc, *, what: What = "all") -> str:
    """What :func:`to_mermaid` shows in the DOT language, for Graphviz and the programs that read it.

    The candidates of an undecided edge are its tooltip.

    Args:
        desc: A found architecture or a supergraph; op names may hold anything, they are escaped.
        what: ``cells``, ``network`` or ``all``.

    Raises:
        ValueError: For another ``what``.
    """
    lines = [
        "digraph architecture {",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica"];',
        '  edge [fontname="Helvetica", fontsize=11];',
    ]
    for part in _parts(desc, what):
        lines += [f"  subgraph cluster_{part.name} {{", f"    label={_dot_text((part.title,))};"]
        for point in part.points:
            shape = ", shape=circle" if point.round else ""
            colors = f'fillcolor="{_color(point.role)}", color="{_color(f"{point.role}-line")}"'
            lines.append(f"    {point.name} [label={_dot_text(point.lines)}, {colors}{shape}];")
        for wire in part.wires:
            color = _color("wire" if wire.role == "wire" else f"{wire.role}-line")
            given = [f"label={_dot_text((wire.text,))}"] if wire.text else []
            given += [f'color="{color}"', *(["style=dashed"] if wire.dashed else [])]
            given += [f"tooltip={_dot_text((wire.more,))}"] if wire.more else []
            lines.append(f"    {wire.start} -> {wire.end} [{', '.join(given)}];")
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def _parts(desc: ModelDesc, what: str) -> list[_Part]:
    check_what(what)
    cells = [] if what == "network" else [_cell(cell, title) for title, cell in distinct_cells(desc)]
    return [*cells, *([] if what == "cells" else [_network(desc)])]


def _cell(cell: CellDesc, title: str) -> _Part:
    kind = f"{cell.cell_type.value}_{cell.id}"
    points = [_Point(name=f"{kind}_{state_name(i)}", lines=(state_name(i), f"k-{2 - i}")) for i in (0, 1)]
    wires: list[_Wire] = []
    for k, node in enumerate(cell.nodes()):
        here = f"{kind}_n{k}"
        points.append(_Point(name=here, lines=(f"n{k}",), round=True))
        for e, edge in enumerate(node.edges):
            sources = [f"{kind}_{state_name(state)}" for state in edge.input_ids]
            if edge.op_desc.children or len(sources) > 1:
                joint = f"{here}_e{e}"
                points.append(_Point(name=joint, lines=(op_text(edge.op_desc),), role=family(edge.op_desc)))
                wires += [*_joined(edge, sources, joint), _wire(joint, here)]
            else:
                wires.append(_wire(sources[0], here, edge.op_desc))
        if not node.edges:
            wires.append(_Wire(start=f"{kind}_{state_name(k + 1)}", end=here, text="copy", dashed=True))
    out = f"{kind}_out"
    points.append(_Point(name=out, lines=(cell.post_op.name, size_text(cell.out_shape))))
    wires += [_wire(f"{kind}_{state_name(state)}", out) for state in concat_ids(cell)]
    return _Part(name=kind, title=title, points=tuple(points), wires=tuple(wires))


def _joined(edge: EdgeDesc, sources: Sequence[str], joint: str) -> list[_Wire]:
    """The wires into an op of several inputs or parts; an input that no part reads has none of its own words."""
    ports = edge.op_desc.children_ins or ()
    parts = [_wire(sources[port], joint, child) for child, port in zip(edge.op_desc.children or (), ports, strict=True)]
    return parts + [_wire(source, joint) for port, source in enumerate(sources) if port not in ports]


def _wire(start: str, end: str, op: OpDesc | None = None) -> _Wire:
    if op is None:
        return _Wire(start=start, end=end)
    return _Wire(start=start, end=end, text=op_text(op), role=family(op), more=", ".join(candidates(op)))


def _network(desc: ModelDesc) -> _Part:
    image = size_text(desc.conf_model_desc.dataset.image_shape)
    classes = f"{desc.conf_model_desc.dataset.n_classes} classes"
    points = [
        _Point(name="image", lines=("image", image)),
        _Point(name="stems", lines=_filled(stems_text(desc), channels_text(desc.model_stems[1]))),
    ]
    for cell in desc.cell_descs:
        lines = (f"{cell.id} {cell.cell_type.value} cell", size_text(cell.out_shape))
        role = "reduction" if cell.cell_type is CellType.Reduction else "sep"
        points.append(_Point(name=f"cell_{cell.id}", lines=lines, role=role))
    points.append(_Point(name="pool", lines=_filled(desc.pool_op.name, channels_text(desc.pool_op))))
    points.append(_Point(name="logits", lines=(desc.logits_op.name, classes)))
    wires = [_wire(a.name, b.name) for a, b in pairwise(points)]
    # Cell k reads the output of cell k - 2 as s0; the first two read the stems, point 1.
    seconds = [(points[i - 2].name, points[i].name) for i in range(3, 2 + len(desc.cell_descs))]
    wires += [_Wire(start=start, end=end, text="s0", dashed=True) for start, end in seconds]
    for cell, tower in zip(desc.cell_descs, desc.aux_tower_descs, strict=True):
        if tower is not None:
            name, words = f"tower_{cell.id}", f"{tower.n_classes} classes"
            points.append(_Point(name=name, lines=("auxiliary tower", words), role="mixed"))
            wires.append(_wire(f"cell_{cell.id}", name))
    return _Part(name="network", title="network", points=tuple(points), wires=tuple(wires), down=True)


def _filled(*lines: str) -> tuple[str, ...]:
    return tuple(text for text in lines if text)


def _mermaid_point(point: _Point) -> str:
    text = _mermaid_text(point.lines)
    return f"{point.name}(({text}))" if point.round else f"{point.name}[{text}]"


def _mermaid_text(lines: Iterable[str]) -> str:
    """A quoted label. Mermaid reads markup, lists and ``#…;`` in it, so what is no plain word is written as ``#N;``."""
    return _quoted(lines, "<br>", lambda text: re.sub(r"[^\w ×,/()-]|^-", lambda m: f"#{ord(m[0])};", text))


def _dot_text(lines: Iterable[str]) -> str:
    """A quoted label, in which Graphviz reads backslashes and entities."""
    marks = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "&": "&amp;"}
    return _quoted(lines, "\\n", lambda text: "".join(marks.get(c, c) for c in text))


def _quoted(lines: Iterable[str], line_break: str, escaped: Callable[[str], str]) -> str:
    return f'"{line_break.join(escaped(printable(text)) for text in lines)}"'


def _color(role: str) -> str:
    return COLORS[role][0]
