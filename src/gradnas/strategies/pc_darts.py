"""PC-DARTS: partial channel connections and edge normalization.

Implements: Xu et al., PC-DARTS (ICLR 2020), equations 2 and 3. The candidates of an edge see 1/K of the channels
(``supergraph/partial.py``), and a node is a weighted sum of its edges:

    node_j = sum_i gamma_ij edge_ij(x_i),   gamma_ij = softmax of beta over the edges that lead to node j

Strength of a candidate: softmax(alpha) · gamma. First-order DARTS otherwise; the architecture waits for 3 epochs in 10
(15 of 50, as published). The found network uses all channels.
Deviations: those of ``supergraph/partial.py``. Reference test: ``tests/strategies/test_pc_darts.py``.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from gradnas.arch import ModelDesc, OpDesc
from gradnas.arch.shapes import check_count
from gradnas.ops import ArchParams
from gradnas.ops.arch_params import ArchParam
from gradnas.strategies.base import BatchLoss, SearchSchedule
from gradnas.strategies.gradient import AdamStrategy
from gradnas.supergraph import Model, Softmax
from gradnas.supergraph.mixing import INITIAL_SCALE, entry
from gradnas.supergraph.partial import partial_of


class EdgeNormalized(Softmax):
    """The softmax of ``alphas`` on each edge, times that of ``betas``, one per edge, over the edges of each node."""

    entries: ClassVar[tuple[str, ...]] = ("alphas", "betas")

    def shape(self, name: str, n_candidates: int) -> tuple[int, ...]:
        return () if name == "betas" else (n_candidates,)

    def initial(self, n_candidates: int, device: torch.device | None = None) -> list[tuple[str, ArchParam]]:
        """``alphas`` of shape (N,) and ``betas`` of shape (), drawn from 1e-3 · N(0, 1)."""
        beta = Parameter(INITIAL_SCALE * torch.randn((), device=device))
        return [*super().initial(n_candidates, device), ("betas", beta)]

    def edge_weights(self, edges: Sequence[ArchParams], nodes: Sequence[int]) -> Tensor:
        betas = torch.stack([entry(params, "betas") for params in edges])
        sizes = [nodes.count(node) for node in dict.fromkeys(nodes)]
        return torch.cat([of_node.softmax(dim=0) for of_node in betas.split(sizes)])

    def choose(self, edge: ArchParams, allowed: Sequence[int]) -> tuple[int, float]:
        """As the softmax; the rank is ln softmax(alpha) + beta, which orders the edges of a node as gamma does."""
        best, _ = super().choose(edge, allowed)
        log_strengths = self.table([edge]).detach()[0].log_softmax(dim=0) + entry(edge, "betas").detach()
        return best, float(log_strengths[best])

    def record(self, edges: Sequence[ArchParams]) -> dict[str, list[list[float]]]:
        betas = [[float(entry(params, "betas").detach())] for params in edges]
        return {**super().record(edges), "betas": betas}


class PcDarts(AdamStrategy):
    """PC-DARTS: candidates see a part of the channels, and the edges of a node are weighed.

    Args:
        partial: K; candidates see 1/K of the channels, which it must divide.
        lr: Adam rate of alphas and betas.
        betas: Adam's decay rates (not those of the edges).
        weight_decay: L2 factor added to their gradient.

    Raises:
        ValueError: For a setting outside its range.
    """

    bilevel = True

    def __init__(
        self,
        *,
        partial: int = 4,
        lr: float = 6e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
    ) -> None:
        super().__init__(EdgeNormalized(), lr, betas, weight_decay)
        self.partial = check_count(partial, "partial (channels are divided by it)")

    def supergraph(self, desc: ModelDesc) -> ModelDesc:
        """The description with partial channels on every edge that holds a choice.

        Raises:
            ValueError: For channels that ``partial`` does not divide.
        """

        def partly(place: str, op: OpDesc) -> OpDesc:
            if op.name != "mixed_op" and "primitives" not in op.params:
                return op
            narrow = OpDesc(op.name, op.params.replace(partial=self.partial))
            partial_of(narrow)
            return narrow

        return desc if self.partial == 1 else desc.map_ops(partly)

    def warmup_epochs(self, epochs: int) -> int:
        """Three epochs in ten: 15 of 50, as published."""
        return epochs * 3 // 10

    def prepare(
        self,
        model: Model,
        loss: BatchLoss,
        weight_optimizer: Optimizer,
        *,
        chunks: int = 1,
        schedule: SearchSchedule | None = None,
        seed: int = 0,
    ) -> None:
        others = {op.partial for op in model.mixed_ops()} - {self.partial}
        if others:
            raise ValueError(
                f"PC-DARTS with partial={self.partial} needs edges whose candidates see 1/{self.partial} of the "
                f"channels, the model has 1/{max(others)}. Build it from strategy.supergraph(desc)."
            )
        super().prepare(model, loss, weight_optimizer, chunks=chunks, schedule=schedule, seed=seed)
