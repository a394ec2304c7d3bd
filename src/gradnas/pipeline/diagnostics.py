"""What the architecture parameters say: entropy, the would-be cell, how it changes."""

import math
from typing import Any

from torch import Tensor

from gradnas.arch import ModelDesc
from gradnas.finalizers import Finalizers
from gradnas.ops import ArchParams
from gradnas.supergraph import Cell, MixedOp, Model

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
    first = found.cell_descs[0]
    return {
        "cells": cells,
        "genotype": genotype_text(found),
        "entropy": mean_entropy(model),
        "skips": sum(e.op_desc.name == "skip_connect" for n in first.nodes() for e in n.edges),
        "parameter_free": sum(op in PARAMETER_FREE for op in ops) / max(1, len(ops)),
    }


def would_be(model: Model, finalizers: Finalizers) -> ModelDesc:
    """The architecture that the supergraph implies now, without weights."""
    return finalizers.finalize_model(model, to_cpu=False).clear_trainables()


def changed_edges(old: ModelDesc | None, new: ModelDesc) -> int:
    """How many edges of the first cell of each type only the new description has; 0 without an old one."""
    if old is None:
        return 0
    return len(_edges(new) - _edges(old))


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
    alphas = cell.alphas()
    assert alphas is not None
    return cell.mixed_ops()[0].rule.probabilities(alphas.detach())


def _entropy(probabilities_EN: Tensor) -> Tensor:
    return -(probabilities_EN * probabilities_EN.clamp_min(1e-38).log()).sum(1)


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
        **ops[0].rule.record([op.arch_params() for op in ops]),
        "weights": probabilities.tolist(),
        "entropy": _entropy(probabilities).tolist(),
    }


def l1_norm(model: Model) -> Tensor:
    """Sum of absolute architecture parameters of kind ``alphas``, each shared one once (0-dim, differentiable)."""
    owned: ArchParams = model.all_owned()
    total = None
    for alpha in owned.param_by_kind("alphas"):
        total = alpha.abs().sum() if total is None else total + alpha.abs().sum()
    assert total is not None
    return total
