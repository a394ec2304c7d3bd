"""Mixing rules: from the architecture parameters of a cell type to mixing weights.

Shape suffixes: E edges of a cell type that hold a choice, N candidates per edge.
"""

from abc import ABC, abstractmethod

from torch import Tensor


class MixingRule(ABC):
    """How the architecture parameters of all edges of a cell type become mixing weights; evaluated once per pass."""

    @abstractmethod
    def weights(self, alphas_EN: Tensor) -> Tensor:
        """Mixing weights of shape (E, N) for one pass; may be a sample. Differentiable in ``alphas_EN``."""

    @abstractmethod
    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        """Deterministic probabilities of shape (E, N), rows summing to 1: what ranks edges and fills the logs."""


class Softmax(MixingRule):
    """Liu et al., DARTS (ICLR 2019), equation 2: softmax over the candidates of each edge, ``none`` included."""

    def weights(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN.softmax(dim=1)
