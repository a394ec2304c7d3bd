"""What the suites compare with: the supergraph computed naively, and what makes a description legal."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gradnas.arch import CellDesc, ConvMacroParams, EdgeDesc, ModelDesc
from gradnas.ops import OPS, OpRegistry
from gradnas.supergraph import NONE, Cell, DagEdge, MixedOp, Model


def naive_logits(model: Model, x: Tensor, mixing: Sequence[Tensor | None]) -> Tensor:
    """The logits of a supergraph by the definition: every edge is the sum of all its candidates times their weights.

    Args:
        model: The supergraph.
        x: Images (B, C, H, W).
        mixing: Mixing weights of each cell, (E, N), or (E, N + 1) where channels pass by.
    """
    s0: Tensor = model.model_stems[0](x)
    s1 = s0 if model.stems_equal else model.model_stems[1](s0 if model.stems_chained else x)
    for cell, table in zip(model.typed_cells(), mixing, strict=True):
        s0, s1 = s1, _cell(cell, s0, s1, table)
    logits: Tensor = model.logits_op(model.pool_op(s1))
    return logits


def _cell(cell: Cell, s0: Tensor, s1: Tensor, table: Tensor | None) -> Tensor:
    states: list[Tensor] = [cell.stems[0](s0), cell.stems[1](s1)]
    row = 0
    for edges in cell.node_edges():
        outputs = []
        for edge in edges:
            assert isinstance(edge, DagEdge)
            if isinstance(edge.op, MixedOp):
                assert table is not None
                outputs.append(_edge(edge.op, states[edge.input_ids[0]], table[row]))
                row += 1
            else:
                inputs = [states[i] for i in edge.input_ids]
                outputs.append(edge.op(inputs[0] if len(inputs) == 1 else inputs))
        states.append(torch.stack(outputs).sum(0) if outputs else states[-1])
    merged: Tensor = cell.post_op(states)
    return merged


def _edge(op: MixedOp, x: Tensor, weights: Tensor) -> Tensor:
    if op.partial == 1:
        return torch.stack([weights[k] * op.candidates[k](x) for k in range(len(op.names))]).sum(0)
    seen = x.shape[1] // op.partial
    mixed = torch.stack([weights[k] * op.candidates[k](x[:, :seen]) for k in range(len(op.names))]).sum(0)
    passed = x[:, seen:]
    if op.desc.stride == 2:
        passed = F.max_pool2d(passed, 2, ceil_mode=True)
    passed = weights[-1] * passed
    parts = [mixed, *(passed[:, i * seen : (i + 1) * seen] for i in range(op.partial - 1))]
    return torch.stack([part[:, c] for c in range(seen) for part in parts], dim=1)


def assert_legal(found: ModelDesc, model: Model, *, registry: OpRegistry = OPS, distinct_inputs: bool = True) -> None:
    """Check that a description is a discrete member of what a supergraph holds, and that it can be built and run.

    Args:
        found: The discrete description.
        model: The supergraph.
        registry: Where op names are looked up.
        distinct_inputs: Whether a node may keep one candidate of an edge only.
    """
    assert len(found.cell_descs) == len(model.desc.cell_descs)
    for desc, cell in zip(found.cell_descs, model.typed_cells(), strict=True):
        place = f"cells[{desc.id}]"
        assert (desc.cell_type, desc.node_shapes, desc.out_shape) == (
            cell.desc.cell_type,
            cell.desc.node_shapes,
            cell.desc.out_shape,
        ), f"{place} has another type or shape than in the supergraph"
        for n, (node, edges) in enumerate(zip(desc.nodes(), cell.node_edges(), strict=True)):
            assert node.conv_params == cell.desc.nodes()[n].conv_params, f"{place}.nodes[{n}] has other channels"
            offer = [edge for edge in edges if isinstance(edge, DagEdge)]
            _assert_legal_node(f"{place}.nodes[{n}]", node.edges, offer, found.max_final_edges, distinct_inputs)
        first = found.cell_descs[desc.trainables_from]
        assert choices(desc) == choices(first), f"{place} and cells[{first.id}] are of one type but differ"
    assert_runs(found, registry=registry)


def _assert_legal_node(
    place: str, edges: Sequence[EdgeDesc], offer: Sequence[DagEdge], limit: int, distinct_inputs: bool
) -> None:
    required = [edge.desc for edge in offer if not isinstance(edge.op, MixedOp)]
    for edge in required:
        assert edge in edges, f"{place} lost the edge {edge}, which is no choice"
    names = {edge.input_ids: edge.op.names for edge in offer if isinstance(edge.op, MixedOp)}
    optional = [edge for edge in edges if edge not in required]
    inputs = [edge.input_ids for edge in optional]
    assert len(optional) <= limit, f"{place} keeps {len(optional)} of its choices, the limit is {limit}"
    if distinct_inputs:
        assert len(optional) == min(limit, len(names)), f"{place} keeps {len(optional)} of {len(names)} choices"
        assert len(set(inputs)) == len(inputs), f"{place} reads a state twice: {inputs}"
    for edge in optional:
        name = edge.op_desc.name
        assert edge.input_ids in names, f"{place} reads {edge.input_ids}, which no choice of the supergraph does"
        assert name != NONE, f"{place} keeps {NONE!r} from {edge.input_ids}"
        assert name in names[edge.input_ids], f"{place} keeps {name!r}, none of {names[edge.input_ids]}"


def choices(cell: CellDesc) -> list[list[EdgeDesc]]:
    """The edges of each node without channels and weights: what cells of one type have in common."""
    conv = ConvMacroParams(1, 1)
    return [[edge.clone(conv, clear_trainables=True) for edge in node.edges] for node in cell.nodes()]


def assert_runs(desc: ModelDesc, *, registry: OpRegistry = OPS) -> Model:
    """Build a description and run it on two images."""
    model = Model(desc, droppath=False, affine=True, registry=registry)
    logits, _ = model(torch.zeros(2, *desc.conf_model_desc.dataset.image_shape))
    assert logits.shape == (2, desc.conf_model_desc.dataset.n_classes), f"logits have the shape {tuple(logits.shape)}"
    assert logits.isfinite().all(), "logits are not finite"
    return model
