"""A description as readable text.

Names of ops may come from a file of a stranger: they are shown on one line, without characters that act on a terminal.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gradnas.arch.cell_desc import AuxTowerDesc, CellDesc, CellType
from gradnas.arch.convert import concat_ids
from gradnas.arch.model_desc import ModelDesc
from gradnas.arch.op_desc import OpDesc
from gradnas.arch.op_names import DARTS_PRIMITIVES
from gradnas.arch.shapes import Shape
from gradnas.foundation.plain_text import one_line

_WIDTH = 80  # of a terminal


def describe(desc: ModelDesc) -> str:
    """What ``print(desc)`` shows: each distinct cell once, then the column of cells with their shapes.

    Cells that follow each other and are alike in type and shape share a line, so that a deep network fits a screen;
    lines are at most 80 characters long unless a single name is longer. ``/2`` marks an op that halves the map.
    """
    data = desc.conf_model_desc.dataset
    lines = [
        f"image {size_text(data.image_shape)}, {data.n_classes} classes",
        f"stems {', '.join(_op(stem) for stem in desc.model_stems)}",
    ]
    offers = _offers(desc)
    for heading, cell in distinct_cells(desc):
        lines += ["", f"{heading} (s0, s1 = inputs)"]
        for start, edges in _wiring(cell, offers):
            lines += _filled(f"  {start} = ", " + ".join(edges))
        merged = ", ".join(map(state_name, concat_ids(cell)))
        lines += _filled("  output = ", f"{one_line(cell.post_op.name)}({merged})")
    if offers:
        lines.append("")
    for names, mark in offers.items():
        lines += _filled(f"{len(names)} candidates{mark}: ", ", ".join(map(one_line, names)))
    lines += ["", "cells", *_column(desc), f"head {_op(desc.pool_op)}, {_op(desc.logits_op)}"]
    return "\n".join(lines)


def state_name(state: int) -> str:
    """s0, s1 for the inputs of a cell, n0, n1, … for its nodes."""
    return f"s{state}" if state < 2 else f"n{state - 2}"


def size_text(shape: Shape) -> str:
    """Channels, height and width as ``64×32×32``."""
    return "×".join(map(str, shape))


def candidates(op: OpDesc) -> tuple[str, ...]:
    """Names of the candidates of a mixed op; empty for an op that is decided."""
    names = op.params.get("primitives", DARTS_PRIMITIVES if op.name == "mixed_op" else ())
    return tuple(str(name) for name in names) if isinstance(names, tuple) else ()


def op_text(op: OpDesc) -> str:
    """The op in words without its inputs: ``max_pool_3x3 /2``, ``8 candidates``."""
    names = candidates(op)
    return f"{f'{len(names)} candidates' if names else one_line(op.name)}{f' /{op.stride}' if op.stride != 1 else ''}"


def wiring(cell: CellDesc) -> tuple[str, ...]:
    """The nodes of a cell in words, one line each: ``n0 = sep_conv_3x3(s0) + skip_connect(s1)``.

    A composite holds its parts with the inputs they read: ``multi_op(sep_conv_3x3(s0), skip_connect(n0))``.
    """
    return tuple(f"{node} = {' + '.join(edges)}" for node, edges in _wiring(cell, {}))


def _wiring(cell: CellDesc, offers: Mapping[tuple[str, ...], str]) -> list[tuple[str, list[str]]]:
    """Each node with what it sums."""
    nodes = []
    for k, node in enumerate(cell.nodes()):
        edges = [op_call(edge.op_desc, list(map(state_name, edge.input_ids)), offers) for edge in node.edges]
        nodes.append((f"n{k}", edges or [f"copy of {state_name(k + 1)}"]))
    return nodes


def op_call(op: OpDesc, inputs: Sequence[str], offers: Mapping[tuple[str, ...], str] = MappingProxyType({})) -> str:
    """``name(inputs)``, the parts of a composite in its place: ``multi_op(sep_conv_3x3(s0), skip_connect(n0))``.

    Args:
        op: The op.
        inputs: Names of the states it reads.
        offers: What to write behind ``N candidates``, by the names of the candidates.
    """
    read = [
        op_call(child, [inputs[port]] * child.in_len, offers)
        for child, port in zip(op.children or (), op.children_ins or (), strict=True)
    ]
    return f"{op_text(op)}{offers.get(candidates(op), '')}({', '.join(read or inputs)})"


def _offers(desc: ModelDesc) -> dict[tuple[str, ...], str]:
    """Each set of candidates that occurs, with the mark that tells it from the others; none where there is one set."""
    ops = [op for cell in desc.cell_descs for _, top in cell.top_ops() for _, op in top.all_ops()]
    sets = [names for names in dict.fromkeys(map(candidates, ops)) if names]
    return {names: f" #{i + 1}" if len(sets) > 1 else "" for i, names in enumerate(sets)}


def distinct_cells(desc: ModelDesc) -> list[tuple[str, CellDesc]]:
    """(heading, first cell) of each wiring that occurs, regular cells first.

    The heading is ``regular cell``, or ``regular cells 0–2, 4`` where cells of one type differ. Shapes do not count.
    """
    groups: dict[tuple[CellType, str], list[CellDesc]] = {}
    offers = _offers(desc)
    for cell in desc.cell_descs:
        wired = repr((_wiring(cell, offers), cell.post_op.name, concat_ids(cell)))
        groups.setdefault((cell.cell_type, wired), []).append(cell)
    types = [cell_type for cell_type, _ in groups]
    ordered = sorted(groups.items(), key=lambda item: (list(CellType).index(item[0][0]), item[1][0].id))
    headings = []
    for (cell_type, _), cells in ordered:
        ids = [cell.id for cell in cells]
        heading = f"{cell_type.value} cell"
        if types.count(cell_type) > 1:
            heading += f"{'s' if len(ids) > 1 else ''} {_ranges(ids)}"
        headings.append((heading, cells[0]))
    return headings


def _column(desc: ModelDesc) -> list[str]:
    """The cells in order; neighbors that are alike on one line."""
    runs: list[list[CellDesc]] = []
    towers: list[AuxTowerDesc | None] = []
    for cell, tower in zip(desc.cell_descs, desc.aux_tower_descs, strict=True):
        before = runs[-1][-1] if runs else None
        alike = before is not None and (before.cell_type, before.out_shape) == (cell.cell_type, cell.out_shape)
        if alike and tower is None and towers[-1] is None:
            runs[-1].append(cell)
        else:
            runs.append([cell])
            towers.append(tower)
    labels = [_ranges([cell.id for cell in run]) for run in runs]
    width = max(map(len, labels), default=0)
    return [
        f"  {label.rjust(width)} {run[0].cell_type.value:9s} -> {size_text(run[0].out_shape)}"
        f"{'  + auxiliary tower' if tower is not None else ''}"
        for label, run, tower in zip(labels, runs, towers, strict=True)
    ]


def _ranges(ids: Sequence[int]) -> str:
    """``0–5, 7`` for 0, 1, 2, 3, 4, 5, 7."""
    parts: list[list[int]] = []
    for i in ids:
        if parts and parts[-1][-1] == i - 1:
            parts[-1].append(i)
        else:
            parts.append([i])
    return ", ".join(f"{part[0]}–{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def _filled(start: str, text: str) -> list[str]:
    """The text behind ``start``, broken behind commas and plus signs to lines of at most 80 characters."""
    lines = [start]
    for part in re.split(r"(?<=[,+]) ", text):
        if len(f"{lines[-1]} {part}") > _WIDTH and lines[-1].strip():
            lines.append(" " * len(start))
        lines[-1] += part if lines[-1] in (start, " " * len(start)) else f" {part}"
    return lines


def _op(op: OpDesc) -> str:
    name = one_line(op.name)
    return f"{name} {op.conv.ch_in}→{op.conv.ch_out}" if "conv" in op.params else name
