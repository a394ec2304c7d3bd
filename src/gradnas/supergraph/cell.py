"""A cell: two stems, nodes that sum their edges, and a merge."""

import torch
from torch import Tensor, nn

from gradnas.arch import CellDesc
from gradnas.ops import OPS, ArchModule, Op, OpRegistry
from gradnas.supergraph.dag_edge import DagEdge
from gradnas.supergraph.mixed_op import MixedOp


class Cell(ArchModule):
    """One cell of a model.

    Args:
        desc: Its description.
        affine: Whether batch norms have weights.
        droppath: Whether edges pass through drop path.
        trainables_from: The first cell of the type, already built, whose architecture parameters are used; None for
            that cell itself.
        registry: Where op names are looked up.

    Raises:
        ValueError: When ``trainables_from`` lacks an edge of this cell, or edges differ in the number of candidates.
    """

    def __init__(
        self,
        desc: CellDesc,
        affine: bool,
        droppath: bool,
        trainables_from: "Cell | None",
        *,
        registry: OpRegistry = OPS,
    ) -> None:
        super().__init__()
        self.desc = desc
        self.stems = nn.ModuleList(Op.create(stem, affine, registry=registry) for stem in desc.stems)
        self.nodes = nn.ModuleList()
        for n, node in enumerate(desc.nodes()):
            edges = nn.ModuleList()
            for e, edge in enumerate(node.edges):
                template = None if trainables_from is None else _counterpart(trainables_from, desc, n, e)
                edges.append(DagEdge(edge, affine, droppath, template, registry=registry))
            self.nodes.append(edges)
        self.post_op = Op.create(desc.post_op, affine, registry=registry)
        self._check_candidates()

    def _check_candidates(self) -> None:
        lengths = {len(op.names) for op in self.mixed_ops()}
        if len(lengths) > 1:
            raise ValueError(
                f"cells[{self.desc.id}] has edges with {sorted(lengths)} candidates; all edges of a cell need the same "
                "number, because a mixing rule acts on one table of shape (edges, candidates)."
            )

    def edges(self) -> list[DagEdge]:
        """All edges in (node, edge) order."""
        return [edge for node in self.nodes for edge in node]  # type: ignore[attr-defined]  # ModuleList of ModuleLists

    def mixed_ops(self) -> list[MixedOp]:
        """The ops that hold a choice, in (node, edge) order: the rows of the cell's mixing table."""
        return [edge.op for edge in self.edges() if isinstance(edge.op, MixedOp)]

    def alphas(self) -> Tensor | None:
        """Architecture parameters of the cell, shape (E, N); None when it holds no choice."""
        ops = self.mixed_ops()
        return torch.stack([op.alphas for op in ops]) if ops else None

    def mixing_weights(self) -> Tensor | None:
        """The mixing rule applied to :meth:`alphas`, shape (E, N); None when the cell holds no choice."""
        alphas = self.alphas()
        return None if alphas is None else self.mixed_ops()[0].rule.weights(alphas)

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor | None = None) -> Tensor:
        """Run the cell.

        Args:
            s0: Output of the cell before the previous one, (B, C, H, W).
            s1: Output of the previous cell.
            weights: Mixing weights, shape (E, N), as the model computed them once for all cells of the type; None
                computes them here.
        """
        if weights is None:
            weights = self.mixing_weights()
        rows = iter(() if weights is None else weights.unbind(0))
        states = [self.stems[0](s0), self.stems[1](s1)]
        for node in self.nodes:
            total: Tensor | None = None
            for edge in node:  # type: ignore[attr-defined]  # a ModuleList
                out = edge(states, next(rows) if isinstance(edge.op, MixedOp) else None)
                total = out if total is None else total + out
            states.append(states[-1].clone() if total is None else total)
        merged: Tensor = self.post_op(states)
        return merged


def _counterpart(owner: Cell, desc: CellDesc, n: int, e: int) -> DagEdge:
    if n >= len(owner.nodes) or e >= len(owner.nodes[n]):  # type: ignore[arg-type]  # a ModuleList
        raise ValueError(
            f"cells[{desc.id}].nodes[{n}].edges[{e}] has no counterpart in cells[{owner.desc.id}], from which it "
            "should take its architecture parameters."
        )
    edge = owner.nodes[n][e]  # type: ignore[index]  # a ModuleList
    assert isinstance(edge, DagEdge)
    return edge
