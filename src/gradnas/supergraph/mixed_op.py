"""The one mixed operation: all candidates of an edge in parallel, summed with mixing weights.

Implements: Liu et al., DARTS (ICLR 2019), equation 2; the rule that makes the weights is separate, see ``mixing.py``.
Deviation: ``none`` contributes zero and is not computed; its weight stays in the normalization.
Reference test: ``tests/supergraph/test_mixed_op.py::test_equals_weighted_sum_of_candidates``.
"""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from gradnas.arch import DARTS_PRIMITIVES, OpDesc, Params
from gradnas.ops import OPS, ArchParams, CompositeFactory, Op, OpRegistry, register_op
from gradnas.supergraph.mixing import MixingRule, Softmax

NONE = "none"  # the candidate that is nothing; recognized by name, never by position
INITIAL_SCALE = 1e-3  # standard deviation of the first alphas, as in the released DARTS search


class MixedOp(Op):
    """``y = sum_k weights[k] * candidate_k(x)`` over the candidates other than ``none``.

    Args:
        op_desc: ``params['conv']`` and ``params['stride']`` for every candidate, and ``params['primitives']``, their
            names in order; absent means :data:`PRIMITIVES`.
        arch_params: Architecture parameters to share (entry ``alphas``, one number per candidate), or None for own
            ones, drawn from 1e-3 · N(0, 1).
        affine: Whether the candidates' batch norms have weights.
        registry: Where candidate names are looked up.

    Raises:
        ValueError: For fewer than two candidates, none but ``none``, a name twice, or shared parameters of another
            length.
        KeyError: For an unknown candidate.
    """

    PRIMITIVES: ClassVar[tuple[str, ...]] = DARTS_PRIMITIVES

    def __init__(
        self, op_desc: OpDesc, arch_params: ArchParams | None, affine: bool, *, registry: OpRegistry = OPS
    ) -> None:
        super().__init__()
        self.desc = op_desc
        self.names = candidate_names(op_desc, self.PRIMITIVES)
        shared = {name: value for name, value in op_desc.params.items() if name != "primitives"}
        self.candidates = nn.ModuleList(
            Op.create(OpDesc(name, Params(shared)), affine, registry=registry) for name in self.names
        )
        self.computed = tuple(k for k, name in enumerate(self.names) if name != NONE)
        self.rule: MixingRule = Softmax()
        if arch_params is None:
            alphas = Parameter(INITIAL_SCALE * torch.randn(len(self.names)))
            self.create_arch_params([("alphas", alphas)])
        else:
            self.set_arch_params(arch_params)
            if self.alphas.shape != (len(self.names),):
                raise ValueError(
                    f"shared alphas have shape {tuple(self.alphas.shape)}, but the edge has {len(self.names)} "
                    f"candidates {list(self.names)}. Cells of one type need the same candidates."
                )

    @property
    def alphas(self) -> Tensor:
        """The architecture parameters in use, shape (N,)."""
        value = self.arch_params()["alphas"]
        assert isinstance(value, Tensor)
        return value

    def probabilities(self) -> Tensor:
        """Probability of each candidate under the rule, ``none`` included, shape (N,), detached."""
        return self.rule.probabilities(self.alphas.detach()[None])[0]

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mix the candidates.

        Args:
            x: Input of shape (B, C, H, W).
            weights: One weight per candidate, shape (N,), as the cell computed them for all its edges at once; None
                applies the rule to this edge alone.

        Returns:
            Tensor of shape (B, C_out, ceil(H/S), ceil(W/S)).

        Raises:
            ValueError: For another number of weights.
        """
        if weights is None:
            weights = self.rule.weights(self.alphas[None])[0]
        elif weights.shape != (len(self.names),):
            raise ValueError(
                f"weights must have shape ({len(self.names)},), one entry for each of {list(self.names)}, "
                f"got {tuple(weights.shape)}. Pass the row of this edge, not the whole table."
            )
        first, *others = self.computed
        y = weights[first] * self.candidates[first](x)
        for k in others:
            y = torch.addcmul(y, weights[k], self.candidates[k](x))
        return y

    def ops(self) -> Iterator[tuple[Op, float]]:
        for op, weight in zip(self.candidates, self.probabilities().tolist(), strict=True):
            assert isinstance(op, Op)
            yield op, weight

    def finalize(self) -> tuple[OpDesc, float | None]:
        """The best candidate other than ``none`` with its weights; its rank is its probability, ``none`` included.

        Of equal candidates the earlier one wins. A rank that is not a number is passed on; the finalizer refuses it.
        """
        probabilities = self.probabilities().tolist()
        best = max(self.computed, key=lambda k: probabilities[k])
        op = self.candidates[best]
        assert isinstance(op, Op)
        desc, _ = op.finalize()
        nans = [p for p in probabilities if p != p]
        return desc, nans[0] if nans else probabilities[best]

    def can_drop_path(self) -> bool:
        return False


def candidate_names(op_desc: OpDesc, default: tuple[str, ...] = DARTS_PRIMITIVES) -> tuple[str, ...]:
    """The candidates of a mixed op in order. ValueError unless there is a choice, one of it other than ``none``."""
    listed = op_desc.params.get("primitives", default)
    names = tuple(str(name) for name in listed) if isinstance(listed, tuple) else ()
    if set(names) == {NONE}:
        raise ValueError(f"an edge needs a candidate other than 'none', got {listed!r}.")
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(f"an edge needs at least two different candidates to choose from, got {listed!r}.")
    return names


register_op(
    "mixed_op",
    CompositeFactory(lambda desc, affine, arch_params, registry: MixedOp(desc, arch_params, affine, registry=registry)),
)
