"""Random members of a search space: the honest baseline of every finalizer."""

import torch
from torch import nn

from gradnas.arch import EdgeDesc, NodeDesc
from gradnas.finalizers.finalizers import Finalizers
from gradnas.foundation.seeds import generator
from gradnas.ops import Op
from gradnas.supergraph import NONE, DagEdge, MixedOp


class RandomFinalizers(Finalizers):
    """Per node, distinct incoming edges uniformly; on each, a candidate other than ``none`` uniformly.

    Drawn once per cell type, so all cells of a type are equal. A node with fewer edges than the limit keeps them all;
    edges without a choice are required and kept.

    Args:
        seed: The same seed gives the same architecture.
        allow_same_edge: Draw (edge, candidate) pairs uniformly instead, as an older implementation did: two picks may
            fall on one edge.
    """

    def __init__(self, seed: int = 0, *, allow_same_edge: bool = False) -> None:
        self.seed = seed
        self.allow_same_edge = allow_same_edge

    def finalize_node(
        self,
        node: nn.ModuleList,
        node_index: int,
        node_desc: NodeDesc,
        max_final_edges: int,
        *args: object,
        **kwargs: object,
    ) -> NodeDesc:
        """Draw the edges of one node. The draw depends on seed, cell type and node only.

        Raises:
            ValueError: For a negative limit.
        """
        if max_final_edges < 0:
            raise ValueError(f"max_final_edges must be at least 0, got {max_final_edges}.")
        owner = kwargs.get("trainables_from", 0)
        assert isinstance(owner, int)
        draws = generator(self.seed, "random_finalizers", owner, node_index)
        required, optional = self.get_edge_ranks(node)
        edges = [edge for edge in node if isinstance(edge, DagEdge) and isinstance(edge.op, MixedOp)]
        assert len(edges) == len(optional)
        if self.allow_same_edge:
            pairs = [(edge, k) for edge in edges for k in _choices(edge)]
            chosen = [pairs[i] for i in torch.randperm(len(pairs), generator=draws)[:max_final_edges].tolist()]
        else:
            kept = sorted(torch.randperm(len(edges), generator=draws)[:max_final_edges].tolist())
            chosen = [(edges[i], _pick(_choices(edges[i]), draws)) for i in kept]
        return NodeDesc((*required, *(_discrete(edge, k) for edge, k in chosen)), node_desc.conv_params)


def _choices(edge: DagEdge) -> list[int]:
    assert isinstance(edge.op, MixedOp)
    return [k for k, name in enumerate(edge.op.names) if name != NONE]


def _pick(choices: list[int], draws: torch.Generator) -> int:
    return choices[int(torch.randint(len(choices), (), generator=draws))]


def _discrete(edge: DagEdge, candidate: int) -> EdgeDesc:
    assert isinstance(edge.op, MixedOp)
    op = edge.op.candidates[candidate]
    assert isinstance(op, Op)
    return EdgeDesc(op.finalize()[0], edge.desc.input_ids)
