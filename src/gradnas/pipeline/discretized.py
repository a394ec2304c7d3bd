"""A supergraph of which only the would-be cell computes: what discretization costs, without training anything."""

import torch
from torch import Tensor, nn

from gradnas.arch import CellDesc, ModelDesc
from gradnas.supergraph import Cell, DagEdge, MixedOp, Model


class Discretized(nn.Module):
    """A supergraph with the mixing weight 1 for each chosen candidate and 0 for all others.

    It is the function of the found network with inherited weights, built as the supergraph is: pools keep their norms,
    and candidates see a part of the channels where they do.

    Args:
        model: The supergraph.
        mixing: Mixing weights of each cell, (E, N); None for a cell without a choice.
    """

    def __init__(self, model: Model, mixing: list[Tensor | None]) -> None:
        super().__init__()
        self.model, self._mixing = model, mixing

    @staticmethod
    def of(model: Model, found: ModelDesc) -> "Discretized | None":
        """The supergraph restricted to what was found; None when that is not a choice among its candidates."""
        mixing: list[Tensor | None] = []
        like = next(model.parameters())
        for cell, chosen in zip(model.typed_cells(), found.cell_descs, strict=True):
            rows = _rows(cell, chosen)
            if rows is None:
                return None
            mixing.append(torch.tensor(rows, dtype=like.dtype, device=like.device) if rows else None)
        return Discretized(model, mixing)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """As :meth:`Model.forward`."""
        with self.model.only_weighted(self._mixing):
            out: tuple[Tensor, Tensor | None] = self.model(x, self._mixing)
        return out


def _rows(cell: Cell, chosen: CellDesc) -> list[list[float]] | None:
    rows, passing = [], any(op.partial > 1 for op in cell.mixed_ops())
    for edges, node in zip(cell.node_edges(), chosen.nodes(), strict=True):
        left = [(edge.op_desc.name, edge.input_ids) for edge in node.edges]
        for edge in edges:
            assert isinstance(edge, DagEdge)
            if not isinstance(edge.op, MixedOp):
                fixed = (edge.op.desc.name, edge.input_ids)
                if fixed not in left:
                    return None
                left.remove(fixed)
                continue
            kept = [name for name, inputs in left if inputs == edge.input_ids and name in edge.op.names]
            left = [pair for pair in left if not (pair[1] == edge.input_ids and pair[0] in kept)]
            row = [float(name in kept) for name in edge.op.names]
            rows.append([*row, float(bool(kept))] if passing else row)
        if left:
            return None
    return rows
