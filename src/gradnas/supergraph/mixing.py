"""Mixing rules: from the architecture parameters of a cell type to mixing weights.

Shape suffixes: E edges of a cell type that hold a choice, N candidates per edge.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from gradnas.ops import ArchParams
from gradnas.ops.arch_params import ArchParam

INITIAL_SCALE = 1e-3  # standard deviation of the first alphas, as in the released DARTS search


class MixingRule(ABC):
    """What the edges of a cell type learn, and how it becomes mixing weights; evaluated once per type and pass."""

    entries: ClassVar[tuple[str, ...]] = ("alphas",)
    """Names of the architecture parameters of an edge."""

    sparse: ClassVar[bool] = False
    """Whether a pass gives most candidates the weight exactly 0: these are not called, and get no gradient.

    The model then reads once per pass from the device which they are.
    """

    def shape(self, name: str, n_candidates: int) -> tuple[int, ...]:
        """Shape of an entry: here (N,), one value per candidate."""
        return (n_candidates,)

    def initial(self, n_candidates: int, device: torch.device | None = None) -> list[tuple[str, ArchParam]]:
        """Fresh architecture parameters of one edge: here ``alphas`` of shape (N,), drawn from 1e-3 · N(0, 1)."""
        return [("alphas", Parameter(INITIAL_SCALE * torch.randn(n_candidates, device=device)))]

    def table(self, edges: Sequence[ArchParams]) -> Tensor:
        """The table of shape (E, N) that the rule acts on, from the parameters of each edge: here their ``alphas``."""
        return torch.stack([entry(params, "alphas") for params in edges])

    def begin_pass(self) -> None:  # noqa: B027  # only a rule that samples cares
        """Told before the rule is applied to the cell types of a pass, one after the other."""

    @abstractmethod
    def weights(self, alphas_EN: Tensor) -> Tensor:
        """Mixing weights of shape (E, N) for one training pass; may be a sample. Differentiable in ``alphas_EN``."""

    def evaluation_weights(self, alphas_EN: Tensor) -> Tensor:
        """Those of a model in evaluation mode, without randomness: here the same."""
        return self.weights(alphas_EN)

    def edge_weights(self, edges: Sequence[ArchParams], nodes: Sequence[int]) -> Tensor | None:
        """A factor for each edge, shape (E,), on all its mixing weights and probabilities; None, here, for no factors.

        Args:
            edges: The parameters of each edge.
            nodes: The node that each edge leads to, in rising order.
        """
        return None

    @abstractmethod
    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        """How strong each candidate is, without randomness, shape (E, N): what ranks edges and fills the logs.

        Rows sum to 1, unless candidates do not compete.
        """

    def choose(self, edge: ArchParams, allowed: Sequence[int]) -> tuple[int, float]:
        """What one edge would keep.

        Args:
            edge: Its architecture parameters.
            allowed: Positions of the candidates that may be kept; the others count in the normalization only.

        Returns:
            Position of the most probable allowed candidate, of equal ones the earlier, and its probability, which
            ranks the edge. A probability that is not a number is passed on; the finalizer refuses it.
        """
        probabilities = self.probabilities(self.table([edge]).detach())[0].tolist()
        best = max(allowed, key=lambda k: probabilities[k])
        nans = [p for p in probabilities if p != p]
        return best, nans[0] if nans else probabilities[best]

    def record(self, edges: Sequence[ArchParams]) -> dict[str, list[list[float]]]:
        """The architecture parameters of a cell type for the logs, one row per edge; finite numbers wherever it can."""
        return {"alphas": self.table(edges).tolist()}


class Softmax(MixingRule):
    """Liu et al., DARTS (ICLR 2019), equation 2: softmax over the candidates of each edge, ``none`` included."""

    def weights(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)


def entry(params: ArchParams, name: str) -> Tensor:
    """A tensor among the architecture parameters of an edge."""
    value = params[name]
    assert isinstance(value, Tensor)
    return value
