"""What the architecture parameters say: entropy, the would-be cell, how it changes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradnas.arch import CellDesc, CellType, ModelDesc, OpDesc, concat_ids
from gradnas.finalizers import Finalizers
from gradnas.ops import ArchParams
from gradnas.report.records.entropy import most_entropy
from gradnas.supergraph import NONE, Cell, MixedOp, Model

COLLAPSED = 0.5  # share of parameter-free operations in a regular cell; that of published cells is lower
LEANING = 1.1  # their share of the mixing weights, as a multiple of that of equal weights
PARAMETER_FREE = frozenset({"max_pool_3x3", "avg_pool_3x3", "skip_connect", "identity", "none"})


def entropies(model: Model) -> list[Tensor]:
    """Entropy in nats of the mixing probabilities, one tensor (edges,) per cell type."""
    return [_entropy(_probabilities(cell)) for cell in model.owner_cells() if cell.mixed_ops()]


def mean_entropy(model: Model) -> float:
    """Mean entropy over all edges with a choice, in nats; reads the device once. NaN when there is none."""
    per_edge = [value for row in entropies(model) for value in row.tolist()]
    return sum(per_edge) / len(per_edge) if per_edge else math.nan


def describe_alphas(model: Model, found: ModelDesc) -> dict[str, Any]:
    """The state of the search as plain values: a line of ``alphas.jsonl`` without its epoch.

    Args:
        model: The supergraph.
        found: What :class:`Finalizers` would make of it now.
    """
    cells = {cell.desc.cell_type.value: _describe_cell(cell) for cell in model.owner_cells() if cell.mixed_ops()}
    ops = [e.op_desc.name for c in found.cell_descs if c.trainables_from == c.id for n in c.nodes() for e in n.edges]
    first = next((c for c in found.cell_descs if c.cell_type is CellType.Regular), found.cell_descs[0])
    regular = [e.op_desc.name for n in first.nodes() for e in n.edges]
    gaps = [gap for cell in cells.values() for gap in cell["gap"]]
    return {
        "cells": cells,
        "would_be": {kind.value: wired(cell) for kind in CellType if (cell := found.first_cell(kind)) is not None},
        "genotype": genotype_text(found),
        "entropy": mean_entropy(model),
        "gap": sum(gaps) / len(gaps) if gaps else math.nan,
        "skips": regular.count("skip_connect"),
        "parameter_free": sum(op in PARAMETER_FREE for op in ops) / max(1, len(ops)),
        "free_regular": sum(op in PARAMETER_FREE for op in regular),
        "kept_regular": len(regular),
    }


def would_be(model: Model, finalizers: Finalizers) -> ModelDesc:
    """The architecture that the supergraph implies now, without weights."""
    return finalizers.finalize_model(model, to_cpu=False).clear_trainables()


def changed_edges(old: ModelDesc | None, new: ModelDesc) -> int:
    """How many edges of the first cell of each type only the new description has; 0 without an old one."""
    if old is None:
        return 0
    return len(_edges(new) - _edges(old))


def wired(cell: CellDesc) -> dict[str, Any]:
    """A cell as plain values: what one needs to draw it, for any space.

    Returns:
        ``nodes``: for each node its edges as [operation, [state ids it reads]], a composite operation with a third
        entry, its parts as edges; ``stems``: the operations through which the two inputs come; ``merge`` and
        ``merged``: the operation behind the nodes and the state ids it reads; ``shapes``: (channels, height, width) of
        each state, the two inputs first, and of the output.
    """
    return {
        "nodes": [[_edge(edge.op_desc, edge.input_ids) for edge in node.edges] for node in cell.nodes()],
        "stems": [stem.name for stem in cell.stems],
        "merge": cell.post_op.name,
        "merged": list(concat_ids(cell)),
        "shapes": [list(shape) for shape in (*cell.stem_shapes, *cell.node_shapes, cell.out_shape)],
    }


def _edge(op: OpDesc, input_ids: Sequence[int]) -> list[Any]:
    parts = [
        _edge(part, (input_ids[port],) * part.in_len)
        for part, port in zip(op.children or (), op.children_ins or (), strict=True)
    ]
    return [op.name, list(input_ids), *([parts] if parts else [])]


def genotype_text(desc: ModelDesc) -> str | None:
    """The genotype as text; None for an architecture that the format cannot hold."""
    try:
        return str(desc.genotype())
    except ValueError:
        return None


def _edges(desc: ModelDesc) -> set[tuple[int, int, str, tuple[int, ...]]]:
    owners = [cell for cell in desc.cell_descs if cell.trainables_from == cell.id]
    return {
        (cell.id, n, edge.op_desc.name, edge.input_ids)
        for cell in owners
        for n, node in enumerate(cell.nodes())
        for edge in node.edges
    }


def _probabilities(cell: Cell) -> Tensor:
    probabilities = cell.probabilities()
    assert probabilities is not None
    return probabilities.detach()


def _shares(probabilities_EN: Tensor) -> Tensor:
    """Rows that sum to 1: those of gates, and of edges with factors, do not. All 0 where all gates are closed."""
    return probabilities_EN / probabilities_EN.sum(1, keepdim=True).clamp_min(torch.finfo(probabilities_EN.dtype).tiny)


def _entropy(probabilities_EN: Tensor) -> Tensor:
    shares = _shares(probabilities_EN)
    return -(shares * shares.clamp_min(1e-38).log()).sum(1)


def _describe_cell(cell: Cell) -> dict[str, Any]:
    edges = [
        [n, edge.input_ids[0]]
        for n, node in enumerate(cell.nodes)
        for edge in node  # type: ignore[attr-defined]  # a ModuleList
        if isinstance(edge.op, MixedOp)
    ]
    probabilities, ops = _probabilities(cell), cell.mixed_ops()
    return {
        "edges": edges,
        "ops": list(ops[0].names),
        **({"edge_ops": [list(op.names) for op in ops]} if len({op.names for op in ops}) > 1 else {}),
        **ops[0].rule.record([op.arch_params() for op in ops]),
        "weights": probabilities.tolist(),
        "entropy": _entropy(probabilities).tolist(),
        "gap": _gap(probabilities, [op.names for op in ops]),
    }


def _gap(probabilities_EN: Tensor, names: Sequence[Sequence[str]]) -> list[float]:
    """By how much the strongest candidate but ``none`` leads the second on each edge, in shares of the edge."""
    nothing = torch.tensor([[name == NONE for name in row] for row in names], device=probabilities_EN.device)
    best = _shares(probabilities_EN).masked_fill(nothing, 0.0).topk(2, dim=1).values
    return (best[:, 0] - best[:, 1]).tolist()


def in_words(record: Mapping[str, Any]) -> str:
    """The state of a search in a sentence.

    Args:
        record: What :func:`describe_alphas` gives, with ``discretization_drop`` in points of accuracy, or None.
    """
    most = most_entropy(cell["weights"] for cell in record["cells"].values())
    bound = "" if most is None else f" of at most {most:.2f}"
    drop = record["discretization_drop"]
    lost = "" if drop is None else f"; discretization costs {drop:.1f} points of validation accuracy"
    return (
        f"Entropy {record['entropy']:.2f}{bound} nats; the first candidate leads the second by "
        f"{record['gap']:.1%}; {record['parameter_free']:.0%} of the operations of the would-be cells have no "
        f"parameters{lost}."
    )


def diagnosis(record: Mapping[str, Any]) -> list[str]:
    """What looks wrong in an epoch of the search, in sentences; none when nothing does.

    Args:
        record: What :func:`describe_alphas` gives.
    """
    said: list[str] = []
    free, kept = record["free_regular"], record["kept_regular"]
    if kept and free / kept > COLLAPSED and _leans_to_free(record["cells"].get(CellType.Regular.value)):
        said.append(
            f"{free} of the {kept} operations of the would-be regular cell have no parameters, a sign of collapse: "
            "shortcuts learn faster than convolutions. Remedies: the settings of search.stabilize."
        )
    return said


def _leans_to_free(cell: Mapping[str, Any] | None) -> bool:
    """Whether a cell weighs candidates without parameters more than at the start: else they are there by chance."""
    if cell is None:
        return True
    leanings, uniform = [], []
    for names, row in zip(cell.get("edge_ops", [cell["ops"]] * len(cell["weights"])), cell["weights"], strict=True):
        choices = [(name in PARAMETER_FREE, weight) for name, weight in zip(names, row, strict=True) if name != NONE]
        total = sum(weight for _, weight in choices)
        if total > 0:  # else none has taken everything
            leanings.append(sum(weight for free, weight in choices if free) / total)
            uniform.append(sum(free for free, _ in choices) / len(choices))
    return not leanings or sum(leanings) > LEANING * sum(uniform)


def l1_norm(model: Model) -> Tensor:
    """Sum of absolute architecture parameters of kind ``alphas``, each shared one once (0-dim, differentiable)."""
    owned: ArchParams = model.all_owned()
    total = None
    for alpha in owned.param_by_kind("alphas"):
        total = alpha.abs().sum() if total is None else total + alpha.abs().sum()
    assert total is not None
    return total
