"""The one mixed operation: all candidates of an edge in parallel, summed with mixing weights.

Implements: Liu et al., DARTS (ICLR 2019), equation 2; the rule that makes the weights is separate, see ``mixing.py``.
Deviation: ``none`` contributes zero and is not computed; its weight stays in the normalization.
Reference test: ``tests/supergraph/test_mixed_op.py::test_equals_weighted_sum_of_candidates``.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gradnas.arch import DARTS_PRIMITIVES, OpDesc, Params
from gradnas.ops import OPS, ArchParams, CompositeFactory, Op, OpRegistry, Zero, register_op
from gradnas.supergraph.mixing import MixingRule, Softmax, entry
from gradnas.supergraph.partial import narrowed, partial_of, passed_by, shuffled, split, with_passing

NONE = "none"  # the candidate that is nothing; recognized by name, never by position


class MixedOp(Op):
    """``y = sum_k weights[k] * candidate_k(x)`` over the candidates other than ``none``.

    With ``params['partial']`` K > 1 the candidates see the first 1/K of the channels (see ``partial.py``).

    Args:
        op_desc: ``params['conv']`` and ``params['stride']`` for every candidate, and ``params['primitives']``, their
            names in order; absent means :data:`PRIMITIVES`.
        arch_params: Architecture parameters to share, of the shapes that the rule says, or None for own ones as the
            rule makes them.
        affine: Whether the candidates' batch norms have weights.
        registry: Where candidate names are looked up.
        rule: How the parameters become mixing weights; by default the softmax of ``alphas``.

    Raises:
        ValueError: For fewer than two candidates, none but ``none``, a name twice, shared parameters of another
            length, or channels that ``partial`` does not divide.
        KeyError: For an unknown candidate.
    """

    PRIMITIVES: ClassVar[tuple[str, ...]] = DARTS_PRIMITIVES

    def __init__(
        self,
        op_desc: OpDesc,
        arch_params: ArchParams | None,
        affine: bool,
        *,
        registry: OpRegistry = OPS,
        rule: MixingRule | None = None,
    ) -> None:
        super().__init__()
        self.desc = op_desc
        self.names = candidate_names(op_desc, self.PRIMITIVES)
        self.partial = partial_of(op_desc)
        self._shared = Params({k: v for k, v in op_desc.params.items() if k not in ("primitives", "partial")})
        narrow = narrowed(self._shared, self.partial)
        self.candidates = nn.ModuleList(
            Op.create(OpDesc(name, narrow), affine, registry=registry) for name in self.names
        )
        self._nothing = Zero(OpDesc(NONE, narrow))
        self._choices = tuple(k for k, name in enumerate(self.names) if name != NONE)
        self.computed = self._choices
        self.rule: MixingRule = rule if rule is not None else Softmax()
        self._take(arch_params)

    def _take(self, arch_params: ArchParams | None) -> None:
        if arch_params is None:
            self.create_arch_params(self.rule.initial(len(self.names)))
            return
        self.set_arch_params(arch_params)
        for name in arch_params:
            if (shape := tuple(entry(arch_params, name).shape)) != self.rule.shape(name, len(self.names)):
                raise ValueError(
                    f"shared {name} have shape {shape}, but the edge has {len(self.names)} candidates "
                    f"{list(self.names)}. Cells of one type need the same candidates."
                )

    def use_rule(self, rule: MixingRule, shared: ArchParams | None = None, *, afresh: bool = False) -> None:
        """Mix by this rule from now on, and compute all candidates again.

        Args:
            rule: The rule. Parameters of other kinds than it learns, or that a rule with another start has made, are
                replaced by fresh ones of its own.
            shared: Parameters of the edge that owns them, when that is another one.
            afresh: Replace parameters in any case.
        """
        alike = type(self.rule).initial is type(rule).initial  # else they would not start where the rule starts
        self.rule, self.computed = rule, self._choices
        if shared is not None:
            self.release_arch_params()
            self._take(shared)
            return
        held = self.arch_params()
        if afresh or not alike or tuple(held) != rule.entries:
            device = entry(held, next(iter(held))).device
            self.release_arch_params()
            self.create_arch_params(rule.initial(len(self.names), device))

    def compute_only(self, wanted: Sequence[bool]) -> None:
        """Call these candidates only; the mixing weights of the others must be exactly 0.

        A loaded state or another rule ends it.

        Args:
            wanted: One truth value per candidate. With none of them the edge gives zeros.

        Raises:
            ValueError: For another number of them.
        """
        if len(wanted) != len(self.names):
            raise ValueError(f"expected {len(self.names)} truth values, one per candidate, got {list(wanted)}.")
        self.computed = tuple(k for k in self._choices if wanted[k])

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.computed = self._choices  # who may be left out follows from the state that is replaced now
        super()._load_from_state_dict(*args, **kwargs)

    @property
    def row_length(self) -> int:
        """Entries of a row of mixing weights: one per candidate, one more for channels that pass by."""
        return len(self.names) + (self.partial > 1)

    @property
    def alphas(self) -> Tensor:
        """The entry ``alphas`` of the architecture parameters in use, shape (N,). KeyError under a rule without it."""
        return entry(self.arch_params(), "alphas")

    def table(self) -> Tensor:
        """What the rule acts on, shape (1, N)."""
        return self.rule.table([self.arch_params()])

    def probabilities(self) -> Tensor:
        """Probability of each candidate under the rule, ``none`` included, shape (N,), detached."""
        return self.rule.probabilities(self.table().detach())[0]

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mix the candidates.

        Args:
            x: Input of shape (B, C, H, W).
            weights: One weight per candidate, shape (N,), as the cell computed them for all its edges at once, or one
                row per example, shape (B, N); None applies the rule to this edge alone.

        Returns:
            Tensor of shape (B, C_out, ceil(H/S), ceil(W/S)).

        Raises:
            ValueError: For another number of weights.
        """
        if weights is None:
            table = self.rule.weights(self.table())
            weights = (table if self.partial == 1 else with_passing(table, None))[0].to(x.dtype)
        elif weights.shape not in ((self.row_length,), (len(x), self.row_length)):
            raise ValueError(
                f"weights must have shape ({self.row_length},), one entry for each of {list(self.names)}"
                f"{'' if self.partial == 1 else ' and one for the channels that pass by'}, or ({len(x)}, "
                f"{self.row_length}), one row per example, got {tuple(weights.shape)}. Pass the row of this edge, not "
                "the whole table."
            )
        if self.partial == 1:
            return self._mixture(x, weights)
        seen, rest = split(x, self.partial)
        passed = _times(weights[..., -1], passed_by(rest, self._nothing.stride))
        mixture = self._mixture(seen, weights)
        return shuffled(mixture, passed.to(mixture.dtype), self.partial)

    def _mixture(self, x: Tensor, weights: Tensor) -> Tensor:
        columns = weights.unbind(-1)
        y: Tensor | None = None
        for k in self.computed:
            y = _times(columns[k], self.candidates[k](x), y)
        return self._nothing(x) if y is None else y

    def can_fuse(self) -> bool:
        """Whether a weighted sum of the candidates is all that :meth:`forward` does, so that it need not be called."""
        return type(self).forward is MixedOp.forward

    def ops(self) -> Iterator[tuple[Op, float]]:
        for op, weight in zip(self.candidates, self.probabilities().tolist(), strict=True):
            assert isinstance(op, Op)
            yield op, weight

    def finalize(self) -> tuple[OpDesc, float | None]:
        """The candidate other than ``none`` that the rule chooses, with its weights, and the rank of the edge.

        A candidate that saw a part of the channels comes for all of them, without weights.
        """
        best, rank = self.rule.choose(self.arch_params(), self._choices)
        if self.partial > 1:
            return OpDesc(self.names[best], self._shared), rank
        op = self.candidates[best]
        assert isinstance(op, Op)
        return op.finalize()[0], rank

    def can_drop_path(self) -> bool:
        return False


def _times(weight: Tensor, x: Tensor, total: Tensor | None = None) -> Tensor:
    """Weight · x, added to the total: weight is 0-dim, or (B,) with one number per example."""
    # A number leaves the precision of the outputs as autocast chose it; one per example would raise it.
    factor = weight if weight.dim() == 0 else weight.view(-1, 1, 1, 1).to(x.dtype)
    return factor * x if total is None else torch.addcmul(total, factor, x)


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
