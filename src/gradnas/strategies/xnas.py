"""XNAS: neural architecture search with expert advice.

Implements: Nayman et al., XNAS (NeurIPS 2019, arXiv 1906.08031), algorithm 1. Every edge of a cell type is a forecaster
whose experts are its candidates. Per step, with a training and a validation batch, for each example b in each cell c of
the type (a *round*), p being the edge's output and f_i that of expert i:

    R_i  = -<d loss_b / d p, f_i>, bounded to [-L, L]
    ln v_i <- ln v_i + eta * sum over b and c of R_i,  then wipe-out (expert_advice.py)
    p    = sum of v_i f_i / sum of v_i over the experts that are left

All rewards of a batch come from one forward and backward pass: each example has its own copy of the mixing weights, and
the derivative with respect to them is -R. In batch-norm layers, which couple the examples of a batch, it is the
derivative of the whole batch's loss.

Deviations: one update per batch and type instead of per example, so the mixture of a batch is that of its start; log
domain; the update comes before the weight step instead of after it, which is the same alternation; running statistics
of batch norm do not move in the reward pass. ``docs/xnas.md`` gives the reasons, and what the paper leaves open.
Reference tests: ``tests/strategies/test_xnas.py``, ``tests/strategies/test_expert_advice.py``.
Shape suffixes: E edges of a cell type, N experts per edge, C cells of the type, B examples.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Buffer
from torch.optim import Optimizer

from gradnas.arch import OpDesc
from gradnas.ops import OPS, ArchParams, OpRegistry
from gradnas.ops.arch_params import ArchParam
from gradnas.strategies.base import Batch, BatchLoss, MetaOptimizer, SearchSchedule
from gradnas.strategies.expert_advice import (
    bounded_rewards,
    exact_dtype,
    learning_rate,
    updated,
    wipe_out_margin,
)
from gradnas.strategies.expert_advice import expert_update as expert_update
from gradnas.supergraph import MixedOp, MixingRule, Model, Softmax, fixed, untouched_statistics
from gradnas.supergraph.mixing import entry

# Weight of the tie-break in the rank of an edge: far below any difference that means something, far above rounding.
_TIE = 1e-9


class ExpertWeights(Softmax):
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

    def choose(self, edge: ArchParams, allowed: Sequence[int]) -> tuple[int, float]:
        """The best allowed survivor; its normalized weight among the survivors ranks the edge.

        After the last round one expert is left on almost every edge and all these weights are 1. Such ties are decided
        by the share among all experts, each fallen one counted with the weight at which it fell. An edge on which no
        allowed expert has survived ranks last, with 0, and gives the best allowed one by that weight.
        """
        stored = entry(edge, "log_weights")
        values, survivors = stored.tolist(), entry(edge, "survivors").tolist()
        alive = [k for k in allowed if survivors[k]]
        best = max(alive or allowed, key=lambda k: values[k])
        if not alive:
            return best, 0.0
        weight, share = float(self.probabilities(self.table([edge]))[0, best]), float(stored.softmax(0)[best])
        return best, weight - _TIE * (weight - share)

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


@dataclass(frozen=True, eq=False)
class _Forecasters:
    """The edges of a cell type: their state, and the cells and ops that use it."""

    name: str
    cells: list[int]
    ops: list[MixedOp]
    """Those of the first cell, which own the state."""
    sharers: list[list[MixedOp]]
    """Per edge, the ops of all cells."""
    horizon: int
    eta: float

    def read(self, name: str) -> list[Tensor]:
        return [entry(op.arch_params(), name) for op in self.ops]


class Xnas(MetaOptimizer):
    """Prediction with expert advice on every edge: candidates earn rewards, and those that cannot win any more fall.

    Weights of the network are trained by the search's own optimizer: the paper's is SGD with momentum 0.9 and weight
    decay 3e-4.

    Args:
        bound: L, the largest absolute reward of a round; larger ones are cut. It scales the learning rate and the
            wipe-out: too large and no expert ever falls, too small and the best one may be hurt. The log shows how
            many rewards are cut.
        horizon: Validation examples that the whole search will draw; a cell type has that many rounds for each of its
            cells. None counts them from the schedule. A larger number keeps room for a longer search.
        wipe_out: Whether experts that cannot win any more are removed.

    Raises:
        ValueError: For a setting outside its range.
    """

    bilevel: ClassVar[bool] = True

    def __init__(self, *, bound: float = 1.0, horizon: int | None = None, wipe_out: bool = True) -> None:
        if not (math.isfinite(bound) and bound > 0):
            raise ValueError(f"bound must be positive and finite, got {bound}.")
        if horizon is not None and horizon < 1:
            raise ValueError(f"horizon must be at least 1 validation example, or None to count them, got {horizon}.")
        self.bound, self.horizon, self.wipe_out = float(bound), horizon, wipe_out

    @property
    def forward_equivalents(self) -> float:
        """As first-order DARTS, before any expert falls: 2 forward, 1 full and 1 mixing-weight backward."""
        return 2.0 + 2.0 + 1.0

    @property
    def mixing_rule(self) -> MixingRule:
        return ExpertWeights()

    def __repr__(self) -> str:
        return f"Xnas(bound={self.bound}, horizon={self.horizon}, wipe_out={self.wipe_out})"

    def prepare(
        self,
        model: Model,
        loss: BatchLoss,
        weight_optimizer: Optimizer,
        *,
        chunks: int = 1,
        schedule: SearchSchedule | None = None,
    ) -> None:
        self._model, self._loss, self._chunks = model, loss, chunks
        self._weights = list(model.weights())
        self._total = self._examples_announced(schedule)
        self._types = self._forecasters(model)
        if not self._types:
            raise ValueError("the model has no edge with a choice, so there is nothing to search.")
        self.examples = 0  # validation examples seen
        self.steps = 0
        device = self._types[0].read("log_weights")[0].device
        self._cut = torch.zeros(len(self._types), 2, dtype=torch.int64, device=device)  # rewards cut, rewards in all
        self._readout = _Readout(device)
        for kind in self._types:
            for op in kind.ops:
                entry(op.arch_params(), "log_weights").zero_()
                entry(op.arch_params(), "survivors").fill_(True)
        self._drop_fallen([kind.read("survivors") for kind in self._types])

    def _examples_announced(self, schedule: SearchSchedule | None) -> int:
        if schedule is None:
            if self.horizon is None:
                raise ValueError("XNAS must know how many validation examples the search will draw: set horizon.")
            return self.horizon
        if self.horizon is not None and self.horizon < schedule.val_samples:
            raise ValueError(
                f"horizon={self.horizon} is shorter than the search, which will draw {schedule.val_samples} validation "
                f"examples in {schedule.epochs} epochs of {schedule.steps_per_epoch} steps. Give at least that many, "
                "or None to count them."
            )
        examples = self.horizon if self.horizon is not None else schedule.val_samples
        if examples < 1:
            raise ValueError("XNAS is bilevel: it needs validation examples. Give the search a validation set.")
        return examples

    def _forecasters(self, model: Model) -> list[_Forecasters]:
        cells = model.typed_cells()
        kinds = []
        for owner in model.owner_cells():
            ops = owner.mixed_ops()
            if not ops:
                continue
            if not isinstance(ops[0].rule, ExpertWeights):
                raise ValueError(
                    f"the model mixes by {type(ops[0].rule).__name__}, not by expert weights; call "
                    "model.set_mixing_rule(strategy.mixing_rule) first."
                )
            stored = entry(ops[0].arch_params(), "log_weights")
            if stored.dtype != exact_dtype(stored.device):
                raise ValueError(
                    f"the log-weights are {stored.dtype}, which cannot resolve the increments of a long search. Change "
                    "the precision of the model before its mixing rule is set."
                )
            of_type = [i for i, cell in enumerate(cells) if cell.desc.trainables_from == owner.desc.id]
            rounds = self._total * len(of_type)
            kinds.append(
                _Forecasters(
                    name=owner.desc.cell_type.value,
                    cells=of_type,
                    ops=ops,
                    sharers=[list(edge) for edge in zip(*(cells[i].mixed_ops() for i in of_type), strict=True)],
                    horizon=rounds,
                    eta=learning_rate(len(ops[0].names), rounds, self.bound),
                )
            )
        return kinds

    def step(self, train_batch: Batch, val_batch: Batch | None) -> None:
        """Reward the experts for the validation batch, and wipe out those that cannot win any more.

        Raises:
            FloatingPointError: For rewards that are not finite, naming the step, which is refused: the experts stay as
                they were. On a GPU at the next step or check, so that the host need not wait for it.
            ValueError: Without a validation batch, or when more examples come than were announced.
        """
        if val_batch is None:
            raise ValueError("XNAS is bilevel: each step needs a validation batch. Give the search a validation set.")
        self._take_readout()
        x, y = val_batch
        if self.examples + len(y) > self._total:
            raise ValueError(
                f"step {self.steps} would be example {self.examples + len(y)} of {self._total}: the search is longer "
                "than it was announced, and the wipe-out would not be safe. Give the horizon of the whole search."
            )
        rewards, finite, cut = self._rewards(x, y)
        self.examples += len(y)
        self.steps += 1
        survivors = []
        for kind, gained, cut_here in zip(self._types, rewards, cut, strict=True):
            log_weights, active = kind.read("log_weights"), kind.read("survivors")
            before = torch.stack(log_weights), torch.stack(active)
            played = self.examples * len(kind.cells)
            margin = wipe_out_margin(kind.eta, self.bound, played, kind.horizon) if self.wipe_out else math.inf
            after = updated(*before, gained, eta=kind.eta, margin=margin)
            for old, new, state in zip(before, after, (log_weights, active), strict=True):
                torch._foreach_copy_(state, list(torch.where(finite, new, old).unbind(0)))
            cut_here *= finite
            survivors.append(active)
        self._cut += cut
        self._readout.post(finite, survivors, len(y))
        if not self._readout.lags:
            self._take_readout()

    def _rewards(self, x: Tensor, y: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Summed bounded rewards (E, N) of each type, whether all are finite, and how many were cut, of how many."""
        device = x.device
        rewards: list[Tensor] = []
        finite = torch.ones((), dtype=torch.bool, device=device)
        cut = torch.zeros_like(self._cut)
        with untouched_statistics(self._model), fixed(self._weights):
            for part_x, part_y in zip(x.chunk(self._chunks), y.chunk(self._chunks), strict=True):
                gradients = self._gradients(part_x, part_y)
                for i, (kind, gradient) in enumerate(zip(self._types, gradients, strict=True)):
                    finite = finite & gradient.isfinite().all()
                    part = bounded_rewards(gradient, self.bound)
                    if len(rewards) == i:
                        rewards.append(part)
                    else:
                        rewards[i] += part
                    cut[i, 0] += (gradient.abs() > self.bound).sum()
                    judged = sum(len(op.computed) for op in kind.ops)  # none earns nothing and is never cut
                    cut[i, 1] += judged * len(kind.cells) * len(part_y)
        return rewards, finite, cut

    def _gradients(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Derivatives of the sum of losses in each example's own mixing weights, (C, E, N, B) per type."""
        tables = self._model.mixing_weights()
        mixing: list[Tensor | None] = [None] * len(tables)
        leaves = []
        for kind in self._types:
            table = tables[kind.cells[0]]
            assert table is not None
            leaves.append(per_example(table, len(kind.cells), len(y)))
            for cell, own in zip(kind.cells, leaves[-1].unbind(0), strict=True):
                mixing[cell] = own.transpose(1, 2)
        loss = self._loss((x, y), mixing=mixing) * len(y)  # the loss is a mean; a reward is that of one example
        if not loss.requires_grad:  # nothing but none is left anywhere
            return [torch.zeros_like(leaf) for leaf in leaves]
        return list(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))

    def _take_readout(self) -> None:
        posted = self._readout.take()
        if posted is None:
            return
        finite, survivors, examples = posted
        if not finite:
            self.examples -= examples
            self.steps -= 1
            raise FloatingPointError(
                f"a reward was not finite at step {self.steps} of this search (counted from 0); the step is refused. "
                "Lower the learning rate of the weights, or look for NaNs in the data."
            )
        self._drop_fallen(survivors)

    def _drop_fallen(self, survivors: Sequence[Sequence[Tensor]]) -> None:
        """Leave fallen experts out of every pass from now on; reads the masks, which lie on the host."""
        for kind, masks in zip(self._types, survivors, strict=True):
            for ops, mask in zip(kind.sharers, torch.stack(list(masks)).tolist(), strict=True):
                for op in ops:
                    op.compute_only(mask)

    def check(self) -> None:
        self._take_readout()

    def describe(self) -> dict[str, Any]:
        """Per cell type: the share of rewards cut so far, rounds played and of how many, and the learning rate."""
        cut = self._cut.tolist()
        return {
            "bound_hits": {k.name: n / total if total else 0.0 for k, (n, total) in zip(self._types, cut, strict=True)},
            "rounds": {k.name: [self.examples * len(k.cells), k.horizon] for k in self._types},
            "eta": {k.name: k.eta for k in self._types},
        }

    def state_dict(self) -> dict[str, Any]:
        self._take_readout()
        return {"examples": self.examples, "steps": self.steps, "horizon": self._total, "cut": self._cut.cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore; the model's state, which holds the experts, must be restored already.

        Raises:
            ValueError: When the state is of a search with another horizon.
        """
        if state["horizon"] != self._total:
            raise ValueError(
                f"the state is of a search of {state['horizon']} validation examples, this one has {self._total}. A "
                "longer search needs its horizon from the start."
            )
        self.examples, self.steps = int(state["examples"]), int(state["steps"])
        self._cut.copy_(state["cut"])
        self._drop_fallen([kind.read("survivors") for kind in self._types])


class _Readout:
    """What the host must know of a step: which experts survived, and whether the rewards were finite.

    On a GPU it is copied while the weight step runs and read before the next one, so that the host never waits. Fallen
    experts have the weight 0 from the moment they fall; that they are still computed for one pass changes nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self.lags = device.type == "cuda"
        self._posted: tuple[Tensor, list[list[Tensor]], int] | None = None
        self._copied = torch.cuda.Event() if self.lags else None

    def post(self, finite: Tensor, survivors: list[list[Tensor]], examples: int) -> None:
        """Hand over the outcome of a step with that many examples."""
        if self._copied is None:
            self._posted = finite, survivors, examples
            return
        flat = torch.cat([finite.view(1), *(mask for masks in survivors for mask in masks)])
        host = torch.empty(flat.shape, dtype=torch.bool, pin_memory=True).copy_(flat, non_blocking=True)
        self._copied.record()
        finite, *masks = host.split([1, *(len(mask) for masks in survivors for mask in masks)])
        in_order = iter(masks)
        self._posted = finite, [[next(in_order) for _ in masks] for masks in survivors], examples

    def take(self) -> tuple[bool, list[list[Tensor]], int] | None:
        """The outcome posted last, once; None when there is none."""
        if self._posted is None:
            return None
        if self._copied is not None:
            self._copied.synchronize()
        finite, survivors, examples = self._posted
        self._posted = None
        return bool(finite), survivors, examples


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

    def use_rule(self, rule: MixingRule, shared: ArchParams | None = None) -> None:
        """As :meth:`MixedOp.use_rule`. ValueError for a rule of another method."""
        if not isinstance(rule, ExpertWeights):
            raise ValueError(
                f"xnas_op learns by expert advice and cannot mix by {type(rule).__name__}. Use the strategy Xnas, or a "
                "space with mixed_op."
            )
        super().use_rule(rule, shared)

    @contextmanager
    def reward_pass(self) -> Iterator[None]:
        """Around forward and backward of the *sum* of the examples' validation losses: gathers their rewards."""
        self._mixtures, self._gathering = [], True
        try:
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
        if not all(gradient.isfinite().all() for gradient in gradients):
            raise ValueError("a reward is not finite; the update is refused. Look for a loss that is not finite.")
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
