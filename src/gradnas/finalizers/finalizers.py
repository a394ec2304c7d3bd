"""From a learnt supergraph to one discrete description.

Source: Liu et al., DARTS (ICLR 2019), section 2.4 and the released ``genotype()``: per node the strongest edges, per
edge the best candidate other than ``none``; strength is the probability with ``none`` in the normalization.
Deviations: none. Reference test: ``tests/finalizers/test_finalizers.py``.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from gradnas.arch import CellDesc, CellType, EdgeDesc, ModelDesc, NodeDesc, OpDesc
from gradnas.ops import Op
from gradnas.supergraph import Cell, DagEdge, Model

RankedEdge = tuple[EdgeDesc, float]


class Finalizers:
    """The rule of DARTS. To make another rule, override one level: cell, node or edge; signatures do not change."""

    def finalize_model(self, model: Model, to_cpu: bool = True, restore_device: bool = True) -> ModelDesc:
        """The discrete description, with copies of the weights on the CPU.

        The model is left as it was: parameters, buffers, architecture parameters, mode, and (also after an error) its
        device.

        Args:
            model: A learnt supergraph.
            to_cpu: Move the model to the CPU for the duration.
            restore_device: Move it back afterwards.

        Raises:
            ValueError: When a rank is not a number, naming node and edge.
        """
        with _on_cpu(model, to_cpu, restore_device):
            cells = self.finalize_cells(model)
            _warn_of_different_cells(cells)
            stems = [_finalized(stem) for stem in model.model_stems]
            # of one stem for both inputs the weights are those of the first
            second = replace(model.desc.model_stems[1], trainables=stems[-1].trainables)
            return replace(
                model.desc,
                model_stems=(stems[0], second),
                cell_descs=tuple(cells),
                pool_op=_finalized(model.pool_op),
                logits_op=_finalized(model.logits_op),
            )

    def finalize_cells(self, model: Model) -> list[CellDesc]:
        """All cells in order."""
        return [self.finalize_cell(cell, i, model.desc) for i, cell in enumerate(model.typed_cells())]

    def finalize_cell(
        self, cell: Cell, cell_index: int, model_desc: ModelDesc, *args: object, **kwargs: object
    ) -> CellDesc:
        """One cell: stems, each node with ``model_desc.max_final_edges``, merge."""
        nodes = [
            self.finalize_node(
                node,
                n,
                cell.desc.nodes()[n],
                model_desc.max_final_edges,
                cell_index=cell_index,
                trainables_from=cell.desc.trainables_from,
            )
            for n, node in enumerate(cell.node_edges())
        ]
        stems = (_finalized(cell.stems[0]), _finalized(cell.stems[1]))
        finalized = replace(cell.desc, stems=stems)
        return finalized.reset_nodes(nodes, cell.desc.node_shapes, _finalized(cell.post_op), cell.desc.out_shape)

    def finalize_node(
        self,
        node: nn.ModuleList,
        node_index: int,
        node_desc: NodeDesc,
        max_final_edges: int,
        *args: object,
        **kwargs: object,
    ) -> NodeDesc:
        """One node: its required edges in input order, not counted, then the selected optional ones.

        ``kwargs`` holds ``cell_index`` and ``trainables_from``, the index of the first cell of the same type.
        """
        required, ranked = self.get_edge_ranks(node)
        for e, (edge, rank) in enumerate(ranked):
            if math.isnan(rank):
                raise ValueError(
                    f"cells[{kwargs.get('cell_index', '?')}].nodes[{node_index}]: the rank of optional edge {e} (reads "
                    f"{edge.input_ids}) is not a number. The architecture parameters have diverged; lower their rate."
                )
        return NodeDesc((*required, *self.select_edges(ranked, max_final_edges)), node_desc.conv_params)

    def get_edge_ranks(self, node: nn.ModuleList) -> tuple[list[EdgeDesc], list[RankedEdge]]:
        """The required edges (rank None), and the optional ones with their rank."""
        required: list[EdgeDesc] = []
        ranked: list[RankedEdge] = []
        for edge in node:
            assert isinstance(edge, DagEdge)
            desc, rank = self.finalize_edge(edge)
            if rank is None:
                required.append(desc)
            else:
                ranked.append((desc, rank))
        return required, ranked

    def finalize_edge(self, edge: DagEdge) -> tuple[EdgeDesc, float | None]:
        """The op's own choice with the edge's input ids, and its rank."""
        op_desc, rank = edge.op.finalize()
        return EdgeDesc(op_desc, edge.desc.input_ids), rank

    def select_edges(self, ranked: Sequence[RankedEdge], max_final_edges: int) -> list[EdgeDesc]:
        """The edges to keep.

        Args:
            ranked: Optional edges with their rank, in input order; not modified.
            max_final_edges: How many; 0 keeps none.

        Returns:
            All of them in their order when they are few enough, else the highest ranks first; of equal ranks the lower
            input id wins.

        Raises:
            ValueError: For a negative limit, or a rank that is not a number.
        """
        if max_final_edges < 0:
            raise ValueError(f"max_final_edges must be at least 0, got {max_final_edges}.")
        if any(math.isnan(rank) for _, rank in ranked):
            raise ValueError(f"ranks must be numbers, got {[rank for _, rank in ranked]}.")
        if len(ranked) <= max_final_edges:
            return [edge for edge, _ in ranked]
        strongest = sorted(ranked, key=lambda pair: (-pair[1], pair[0].input_ids))
        return [edge for edge, _ in strongest[:max_final_edges]]


def _finalized(op: nn.Module) -> OpDesc:
    assert isinstance(op, Op)
    return op.finalize()[0]


@contextmanager
def _on_cpu(model: Model, to_cpu: bool, restore_device: bool) -> Iterator[None]:
    device = next(model.parameters()).device
    if to_cpu:
        model.to("cpu")
    try:
        yield
    finally:
        if to_cpu and restore_device:
            model.to(device)


def _warn_of_different_cells(cells: Sequence[CellDesc]) -> None:
    for cell_type in CellType:
        of_type = [cell for cell in cells if cell.cell_type is cell_type]
        different = [cell.id for cell in of_type if _choice(cell) != _choice(of_type[0])]
        if different:
            warnings.warn(
                f"cells {different} chose other edges than cell {of_type[0].id}, although both are {cell_type.value}; "
                "only the first of a type is used for the final network. The strategy should share its parameters.",
                stacklevel=3,
            )


def _choice(cell: CellDesc) -> list[list[tuple[str, tuple[int, ...]]]]:
    return [[(edge.op_desc.name, edge.input_ids) for edge in node.edges] for node in cell.nodes()]
