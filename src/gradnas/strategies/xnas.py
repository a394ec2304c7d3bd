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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradnas.arch.shapes import check_count
from gradnas.strategies.base import Batch, BatchLoss, MetaOptimizer, SearchSchedule
from gradnas.strategies.expert_advice import bounded_rewards, exact_dtype, learning_rate, updated, wipe_out_margin
from gradnas.strategies.expert_advice import expert_update as expert_update
from gradnas.strategies.expert_weights import ExpertWeights, per_example
from gradnas.strategies.readout import Readout
from gradnas.supergraph import MixedOp, MixingRule, Model, batch_norms, fixed, untouched_statistics
from gradnas.supergraph.mixing import entry


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
            cells. None counts them from the schedule, which a loop of one's own may not have. A number larger than what
            is drawn makes the rates smaller and the wipe-out later.
        wipe_out: Whether experts that cannot win any more are removed.

    Raises:
        ValueError: For a setting outside its range.
    """

    bilevel = True

    def __init__(self, *, bound: float = 1.0, horizon: int | None = None, wipe_out: bool = True) -> None:
        if not (math.isfinite(bound) and bound > 0):
            raise ValueError(f"bound must be positive and finite, got {bound}.")
        if horizon is not None:
            check_count(horizon, "horizon in validation examples")
        self.bound, self.horizon, self.wipe_out = float(bound), horizon, wipe_out

    def forward_equivalents(self, n_candidates: int) -> float:
        """As first-order DARTS, before any expert falls: 2 forward, 1 full and 1 mixing-weight backward."""
        return 2.0 + 2.0 + 1.0

    @property
    def mixing_rule(self) -> MixingRule:
        return ExpertWeights()

    def __repr__(self) -> str:
        return f"Xnas(bound={self.bound}, horizon={self.horizon}, wipe_out={self.wipe_out})"

    def check_schedule(self, schedule: SearchSchedule) -> None:
        self._examples_announced(schedule)

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
        self._model, self._loss, self._chunks = model, loss, chunks
        self._weights, self._norms = list(model.weights()), batch_norms(model)
        self._total = self._examples_announced(schedule)
        model.set_mixing_rule(self.mixing_rule, afresh=True)
        self._types = self._forecasters(model)
        if not self._types:
            raise ValueError("the model has no edge with a choice, so there is nothing to search.")
        self.examples = 0  # validation examples seen
        self.steps = 0
        device = self._types[0].read("log_weights")[0].device
        self._cut = torch.zeros(len(self._types), 2, dtype=torch.int64, device=device)  # rewards cut, rewards in all
        self._readout = Readout(device)

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
        stored = self._types[0].read("log_weights")[0]
        if stored.dtype != exact_dtype(stored.device):
            raise ValueError(
                f"the log-weights became {stored.dtype}, which cannot resolve the increments of a long search. Change "
                "the precision of the model before the search, or use precision='bfloat16' (autocast)."
            )
        rewards, finite, cut = self._rewards(x, y)
        self.examples += len(y)
        self.steps += 1
        survivors = []
        for kind, gained, cut_here in zip(self._types, rewards, cut, strict=True):
            log_weights, active = kind.read("log_weights"), kind.read("survivors")
            before = torch.stack(log_weights), torch.stack(active)
            played = self.examples * len(kind.cells)
            dtype = before[0].dtype
            margin = wipe_out_margin(kind.eta, self.bound, played, kind.horizon, dtype) if self.wipe_out else math.inf
            after = updated(*before, gained, eta=kind.eta, margin=margin)
            for old, new, state in zip(before, after, (log_weights, active), strict=True):
                torch._foreach_copy_(state, list(torch.where(finite, new, old).unbind(0)))
            cut_here *= finite
            survivors.append(torch.stack(active))
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
        with untouched_statistics(self._norms), fixed(self._weights):
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

    def _drop_fallen(self, survivors: Sequence[Sequence[Sequence[bool]]]) -> None:
        """Leave fallen experts out of every pass from now on; per cell type a table of edges by experts."""
        for kind, masks in zip(self._types, survivors, strict=True):
            for ops, mask in zip(kind.sharers, masks, strict=True):
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
        return {
            "bound": self.bound,
            "horizon": self._total,  # with the bound and the model this gives the learning rates
            "examples": self.examples,
            "steps": self.steps,
            "cut": self._cut.cpu().clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore; the model's state, which holds the experts, must be restored already.

        Raises:
            ValueError: When the state is of a search with another horizon or bound.
        """
        if (state["horizon"], state["bound"]) != (self._total, self.bound):
            raise ValueError(
                f"the state is of a search of {state['horizon']} validation examples with bound {state['bound']}; this "
                f"one has {self._total} and {self.bound}. Rates and wipe-out depend on both: start anew."
            )
        self._readout = Readout(self._cut.device)
        self.examples, self.steps = int(state["examples"]), int(state["steps"])
        self._cut.copy_(state["cut"])
        self._drop_fallen([torch.stack(kind.read("survivors")).tolist() for kind in self._types])
