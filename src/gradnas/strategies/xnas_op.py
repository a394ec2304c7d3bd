"""One edge of XNAS that can be updated by itself.

Implements: Nayman et al., XNAS (NeurIPS 2019, arXiv 1906.08031), algorithm 1, for a single forecaster.
Deviations: those of ``xnas.py``. Reference test: ``tests/strategies/test_xnas_op.py``.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from gradnas.arch import OpDesc
from gradnas.ops import OPS, ArchParams, OpRegistry
from gradnas.strategies.expert_advice import bounded_rewards, expert_update
from gradnas.strategies.expert_weights import ExpertWeights, per_example
from gradnas.supergraph import MixedOp, MixingRule, fixed, untouched_statistics
from gradnas.supergraph.mixing import entry


class XnasOp(MixedOp):
    """The mixed op of XNAS: one forecaster that can be updated by itself.

    A search uses :class:`Xnas`, which does all edges of a cell type at once; this is the same for one edge.

    Args:
        op_desc: As for :class:`MixedOp`.
        arch_params: ``log_weights`` and ``survivors`` to share, or None for own ones, all weights equal.
        affine: Whether the candidates' batch norms have weights.
        registry: Where candidate names are looked up.
    """

    def __init__(
        self, op_desc: OpDesc, arch_params: ArchParams | None, affine: bool, *, registry: OpRegistry = OPS
    ) -> None:
        super().__init__(op_desc, arch_params, affine, registry=registry, rule=ExpertWeights())
        self._gathering = False
        self._mixtures: list[Tensor] = []

    @property
    def log_weights(self) -> Tensor:
        """Ln v of each expert up to a constant, shape (N,)."""
        return entry(self.arch_params(), "log_weights")

    @property
    def survivors(self) -> Tensor:
        """Experts that were not wiped out, bool of shape (N,)."""
        return entry(self.arch_params(), "survivors")

    def use_rule(self, rule: MixingRule, shared: ArchParams | None = None, *, afresh: bool = False) -> None:
        """As :meth:`MixedOp.use_rule`. ValueError for a rule of another method."""
        if not isinstance(rule, ExpertWeights):
            raise ValueError(
                f"xnas_op learns by expert advice and cannot mix by {type(rule).__name__}. Use the strategy Xnas, or a "
                "space with mixed_op."
            )
        super().use_rule(rule, shared, afresh=afresh)

    @contextmanager
    def reward_pass(self) -> Iterator[None]:
        """Around forward and backward of the *sum* of the examples' validation losses: gathers their rewards.

        The weights of this op get no gradient in it, and its statistics do not move.
        """
        self._mixtures, self._gathering = [], True
        try:
            with untouched_statistics(self), fixed(self.nonarch_params(recurse=True)):
                yield
        finally:
            self._gathering = False

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """As :meth:`MixedOp.forward`; in a reward pass, each example gets its own copy of the mixing weights."""
        if not self._gathering or (weights is not None and weights.dim() == 2):
            return super().forward(x, weights)
        if weights is None:
            weights = self.rule.weights(self.table())[0].to(x.dtype)
        leaf = per_example(weights[None], 1, len(x))
        self._mixtures.append(leaf)
        return super().forward(x, leaf[0, 0].T)

    def can_fuse(self) -> bool:
        return type(self).forward is XnasOp.forward and not self._gathering

    def update_alphas(
        self, eta: float, current_t: int, total_t: int, grad_clip: float, *, others: Sequence["XnasOp"] = ()
    ) -> None:
        """Update the experts with the rewards gathered by the last :meth:`reward_pass`, then wipe out.

        Args:
            eta: Learning rate.
            current_t: Rounds played, the gathered ones included.
            total_t: Rounds of the whole game.
            grad_clip: L, to which each reward is bounded.
            others: The same edge in the other cells of the type: their rewards are added before the wipe-out.

        Raises:
            RuntimeError: When an op has gathered no rewards.
            ValueError: As :func:`expert_update`, in which case nothing changes.
        """
        if not (math.isfinite(grad_clip) and grad_clip > 0):
            raise ValueError(f"grad_clip bounds the rewards and must be positive and finite, got {grad_clip}.")
        if not all(op._mixtures for op in (self, *others)):
            raise _no_rewards()
        gradients = [op._gradient(leaf) for op in (self, *others) for leaf in op._mixtures]
        for gradient in gradients:
            bad = (~gradient.isfinite()).nonzero()
            if len(bad):
                raise ValueError(
                    f"a reward of expert {self.names[bad[0, 2]]!r} is not finite; the update is refused and nothing "
                    "was changed. Look for a loss that is not finite."
                )
        rewards = torch.stack([bounded_rewards(gradient, grad_clip) for gradient in gradients]).sum(0)
        log_v, active = expert_update(
            self.log_weights[None],
            self.survivors[None],
            rewards.to(self.log_weights.dtype),
            eta=eta,
            bound=grad_clip,
            t=current_t,
            horizon=total_t,
        )
        self.log_weights.copy_(log_v[0])
        self.survivors.copy_(active[0])
        for op in (self, *others):
            op.compute_only(active[0].tolist())
            op._mixtures = []

    def _gradient(self, leaf: Tensor) -> Tensor:
        if leaf.grad is not None:
            return leaf.grad
        if self.computed:
            raise _no_rewards()
        return torch.zeros_like(leaf)  # none alone is left, and earns nothing


def _no_rewards() -> RuntimeError:
    return RuntimeError(
        "no rewards were gathered: run forward and backward of the validation loss inside reward_pass() first."
    )
