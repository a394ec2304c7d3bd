"""The mixing rule of XNAS: normalized weights of the experts that were not wiped out.

Implements: Nayman et al., XNAS (NeurIPS 2019, arXiv 1906.08031), algorithm 1, the prediction p. How edges are ranked is
left open there; see :meth:`ExpertWeights.choose` and ``docs/xnas.md``.
Reference test: ``tests/strategies/test_expert_weights.py``.
Shape suffixes: E edges of a cell type, N experts per edge, C cells of the type, B examples.
"""

import math
import sys
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import Buffer

from gradnas.ops import ArchParams
from gradnas.ops.arch_params import ArchParam
from gradnas.strategies.expert_advice import exact_dtype
from gradnas.supergraph import MixingRule
from gradnas.supergraph.mixing import entry

# Weight of the tie-break in the rank of an edge: below any difference that means something, above rounding.
_TIE = 1e-7


class ExpertWeights(MixingRule):
    """v_i / sum of v over the experts that were not wiped out; exactly 0 for the others.

    An edge holds ``log_weights``, ln v up to a constant, and ``survivors``, both buffers: they move with the model and
    are in its state, and no optimizer can hold them.
    """

    entries: ClassVar[tuple[str, ...]] = ("log_weights", "survivors")

    def initial(self, n_candidates: int, device: torch.device | None = None) -> list[tuple[str, ArchParam]]:
        dtype = exact_dtype(torch.device("cpu") if device is None else device)
        log_weights = torch.zeros(n_candidates, dtype=dtype, device=device)
        return [
            ("log_weights", Buffer(log_weights)),
            ("survivors", Buffer(torch.ones_like(log_weights, dtype=torch.bool))),
        ]

    def table(self, edges: Sequence[ArchParams]) -> Tensor:
        """Log-weights of shape (E, N), -inf for the fallen."""
        log_weights, survivors = _stacked(edges, "log_weights"), _stacked(edges, "survivors")
        return torch.where(survivors, log_weights, -math.inf)

    def weights(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)

    def choose(self, edge: ArchParams, allowed: Sequence[int]) -> tuple[int, float]:
        """The best allowed survivor; its normalized weight among the survivors ranks the edge, to a relative 1e-7.

        After the last round one expert is left on almost every edge and all these weights are 1. Such ties are decided
        by the log-odds of the chosen expert against all others, each fallen one counted with the weight with which it
        fell. An edge on which no allowed expert has survived ranks last, with 0, and gives the best allowed one by that
        weight.
        """
        stored = entry(edge, "log_weights")
        values, survivors = stored.tolist(), entry(edge, "survivors").tolist()
        alive = [k for k in allowed if survivors[k]]
        best = max(alive or allowed, key=lambda k: values[k])
        if not alive:
            return best, 0.0
        weight = float(self.probabilities(self.table([edge]))[0, best])
        others = torch.cat([stored[:best], stored[best + 1 :]])
        log_odds = values[best] - float(others.logsumexp(0))
        # Rises with the odds and tells large ones apart, too.
        share = 1.0 if log_odds == math.inf else 0.5 * (1.0 + log_odds / (1.0 + abs(log_odds)))
        rank = weight * (1.0 - _TIE * (1.0 - share))
        return best, max(rank, sys.float_info.min) if rank == rank else rank

    def record(self, edges: Sequence[ArchParams]) -> dict[str, list[list[float]]]:
        return {
            "alphas": _stacked(edges, "log_weights").tolist(),
            "survivors": _stacked(edges, "survivors").tolist(),
        }


def _stacked(edges: Sequence[ArchParams], name: str) -> Tensor:
    return torch.stack([entry(params, name) for params in edges])


def per_example(weights_EN: Tensor, cells: int, batch: int) -> Tensor:
    """A leaf of shape (C, E, N, B): a copy of the mixing weights for every cell and example, to differentiate in."""
    return weights_EN.detach()[None, :, :, None].repeat(cells, 1, 1, batch).requires_grad_()
