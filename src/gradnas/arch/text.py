"""A description as readable text."""

from gradnas.arch.cell_desc import CellDesc, CellType
from gradnas.arch.model_desc import ModelDesc
from gradnas.arch.op_desc import OpDesc
from gradnas.arch.shapes import Shape


def describe(desc: ModelDesc) -> str:
    """What ``print(desc)`` shows: each distinct cell once, then the column of cells with their shapes."""
    data = desc.conf_model_desc.dataset
    lines = [
        f"image {_size(data.image_shape)}, {data.n_classes} classes",
        f"stems {', '.join(_op(stem) for stem in desc.model_stems)}",
    ]
    for cell_type in CellType:
        cell = desc.first_cell(cell_type)
        if cell is not None:
            lines += ["", f"{cell_type.value} cell (s0, s1 = inputs)", *_wiring(cell)]
    lines += ["", "cells"]
    for cell, tower in zip(desc.cell_descs, desc.aux_tower_descs, strict=True):
        mark = "  + auxiliary tower" if tower is not None else ""
        lines.append(f"  {cell.id:2d} {cell.cell_type.value:9s} -> {_size(cell.out_shape)}{mark}")
    lines.append(f"head {_op(desc.pool_op)}, {_op(desc.logits_op)}")
    return "\n".join(lines)


def state_name(state: int) -> str:
    """s0, s1 for the inputs of a cell, n0, n1, … for its nodes."""
    return f"s{state}" if state < 2 else f"n{state - 2}"


def _wiring(cell: CellDesc) -> list[str]:
    lines = []
    for n, node in enumerate(cell.nodes()):
        edges = [f"{edge.op_desc.name}({', '.join(map(state_name, edge.input_ids))})" for edge in node.edges]
        lines.append(f"  n{n} = {' + '.join(edges) if edges else 'copy of the previous state'}")
    return lines


def _op(op: OpDesc) -> str:
    return f"{op.name} {op.conv.ch_in}→{op.conv.ch_out}" if "conv" in op.params else op.name


def _size(shape: Shape) -> str:
    return "×".join(map(str, shape))
