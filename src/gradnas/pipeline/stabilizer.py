"""Carries out what :class:`gradnas.strategies.StabilizeConf` asks for, in an :class:`ArchTrainer`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradnas.foundation.seeds import generator
from gradnas.strategies.early_stop import eigenvalue_rise, last_within, too_many_skips
from gradnas.strategies.perturbation import (
    SKIP,
    Tables,
    adversarially_perturbed,
    radius_at,
    randomly_perturbed,
    skip_rate_at,
    skips_dropped,
)
from gradnas.strategies.stabilize import StabilizeConf
from gradnas.supergraph import Cell, Model

NO_SKIPS = "no edge that keeps the map has the candidate 'skip_connect': skip_dropout has no effect. Set it to 0."


class MixingNoise:
    """Perturbs the mixing weights of a pass. Numbers are a function of the seed, the step and the purpose.

    Args:
        conf: What to do.
        model: The supergraph.
        seed: Of the noise.
        epochs: Of the search.
        warmup_epochs: Those of them in which only weights learn.

    Raises:
        ValueError: For dropout on skips in a model without any.
    """

    def __init__(self, conf: StabilizeConf, model: Model, seed: int, epochs: int, warmup_epochs: int = 0) -> None:
        self._conf, self._model, self._seed = conf, model, seed
        self._epochs, self._warmup = epochs, warmup_epochs
        self._skips = [_skips(cell) for cell in model.typed_cells()]
        if conf.skip_dropout > 0 and not any(places is not None and bool(places.any()) for places in self._skips):
            raise ValueError(NO_SKIPS)
        self._epoch = self._step = 0

    def at(self, epoch: int, step: int) -> None:
        """Told before each step."""
        self._epoch, self._step = epoch, step

    def without_skips(self, mixing: Tables | None, purpose: str) -> Tables | None:
        """These mixing weights (None: the rule's own) with skips dropped; as they are where none is."""
        if self._conf.skip_dropout == 0:
            return mixing
        tables = self._model.mixing_weights() if mixing is None else mixing
        rate = skip_rate_at(self._conf.skip_dropout, self._epoch, self._epochs, self._warmup)
        return skips_dropped(tables, self._skips, rate, generator(self._seed, f"skips.{purpose}", self._step))

    def for_weights(self, loss: Callable[[Tables], Tensor]) -> Tables | None:
        """Mixing weights of a weight step; None where they are the rule's own.

        Args:
            loss: The training loss at given mixing weights, for the adversary.
        """
        mixing: Tables | None = None
        if self._conf.perturb != "none":
            mixing = self._perturbed(self._model.mixing_weights(), loss)
        return self.without_skips(mixing, "weights")

    def _perturbed(self, mixing: Tables, loss: Callable[[Tables], Tensor]) -> Tables:
        """Candidates against each other on each edge; factors of edges, and what passes by, stay as they are."""
        own = _each_once(self._model, mixing, _of_edges)

        def complete(tables: Tables) -> Tables:
            return _each_once(self._model, tables, lambda cell, table: cell.complete(table))

        radius = radius_at(self._conf.perturb_radius, self._epoch, self._epochs)
        draws = generator(self._seed, "perturbation", self._step)
        if self._conf.perturb == "random":
            return complete(randomly_perturbed(own, radius, draws))
        steps = self._conf.perturb_steps
        return complete(adversarially_perturbed(own, radius, draws, lambda tables: loss(complete(tables)), steps=steps))


def _of_edges(cell: Cell, table: Tensor) -> Tensor:
    """The weights of the candidates of each edge by itself: what :meth:`Cell.complete` starts from."""
    factors = cell.edge_factors()
    own = table[:, : len(cell.mixed_ops()[0].names)]
    return own if factors is None else own / factors.unsqueeze(1)


def _each_once(model: Model, tables: Tables, change: Callable[[Cell, Tensor], Tensor]) -> Tables:
    """Tables changed, each once: cells of one type still share theirs."""
    known: dict[int, Tensor] = {}
    for cell, table in zip(model.typed_cells(), tables, strict=True):
        if table is not None and id(table) not in known:
            known[id(table)] = change(cell, table)
    return [None if table is None else known[id(table)] for table in tables]


def _skips(cell: Cell) -> Tensor | None:
    """Where the skips are that keep the map, (E, N); those that halve it have weights of their own."""
    ops = cell.mixed_ops()
    if not ops:
        return None
    return torch.tensor([[name == SKIP and op.desc.stride == 1 for name in op.names] for op in ops])


@dataclass(frozen=True)
class Verdict:
    """What the record of a search says after an epoch.

    Args:
        reason: In words.
        back_to: The epoch whose architecture should be returned; None when there is none.
        stop: Whether to stop there, or to warn only.
    """

    reason: str
    back_to: int | None
    stop: bool


class EarlyStop:
    """Keeps the record of eigenvalues and skips, and the architecture parameters one might go back to.

    Args:
        conf: The rules.
        warmup_epochs: Epochs in which only weights learn; they do not count.
    """

    def __init__(self, conf: StabilizeConf, warmup_epochs: int) -> None:
        self._conf, self._warmup = conf, warmup_epochs
        self._eigenvalues: list[float | None] = []
        self._skips: list[int] = []
        self._snapshots: dict[int, dict[str, Tensor]] = {}

    def after(self, epoch: int, eigenvalue: float | None, skips: int, learnt: Mapping[str, Tensor]) -> list[Verdict]:
        """Record an epoch, and say what follows from all of them: at most one verdict of each rule, eigenvalue first.

        Args:
            epoch: Counted from 0.
            eigenvalue: Of the Hessian, None where it is not computed.
            skips: Skip connections in the discretized regular cell.
            learnt: The architecture parameters; copied.
        """
        if epoch < self._warmup or (self._conf.eigenvalue, self._conf.skip_limit) == ("none", "none"):
            return []
        self._eigenvalues.append(eigenvalue)
        self._skips.append(skips)
        self._snapshots[epoch] = {name: value.detach().cpu().clone() for name, value in learnt.items()}
        conf, first = self._conf, self._warmup
        verdicts = []
        risen = None
        if conf.eigenvalue != "none":
            risen = eigenvalue_rise(
                self._eigenvalues,
                window=conf.eigenvalue_window,
                lag=conf.eigenvalue_lag,
                ratio=conf.eigenvalue_ratio,
            )
        if risen is not None:
            reason = (
                f"the dominant Hessian eigenvalue of the validation loss has risen to {self._eigenvalues[-1]:.3g}, its "
                f"mean by more than a factor {1 / conf.eigenvalue_ratio:.2f} in {conf.eigenvalue_lag} epochs"
            )
            verdicts.append(Verdict(reason, first + self._within_limit(risen), conf.eigenvalue == "stop"))
        if conf.skip_limit != "none" and too_many_skips(
            self._skips, most=conf.max_skips, earliest=conf.skip_limit_from
        ):
            within = last_within(self._skips, conf.max_skips)
            reason = f"the regular cell has {skips} skip connections, more than {conf.max_skips}"
            if within is None:
                reason += ", as in every epoch before: there is no architecture within the limit to go back to"
            back_to = None if within is None else first + within
            verdicts.append(Verdict(reason, back_to, conf.skip_limit == "stop" and within is not None))
        self._forget(epoch)
        return verdicts

    def _within_limit(self, index: int) -> int:
        """This entry of the record, or the last one within the limit of skips where that limit would stop."""
        within = last_within(self._skips, self._conf.max_skips) if self._conf.skip_limit == "stop" else None
        return index if within is None or self._skips[index] <= self._conf.max_skips else within

    def _forget(self, epoch: int) -> None:
        """Drop what no rule can go back to."""
        kept = [i for i, count in enumerate(self._skips) if count <= self._conf.max_skips]
        needed = {self._warmup + kept[-1]} if kept and self._conf.skip_limit != "none" else set()
        recent = epoch - self._conf.eigenvalue_lag if self._conf.eigenvalue != "none" else epoch
        self._snapshots = {e: s for e, s in self._snapshots.items() if e >= recent or e in needed}

    def snapshot(self, epoch: int) -> dict[str, Tensor]:
        """The architecture parameters after an epoch that :meth:`after` named."""
        return self._snapshots[epoch]

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {
            "eigenvalues": list(self._eigenvalues),
            "skips": list(self._skips),
            "epochs": list(self._snapshots),
            "snapshots": list(self._snapshots.values()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._eigenvalues, self._skips = list(state["eigenvalues"]), list(state["skips"])
        self._snapshots = dict(zip(state["epochs"], state["snapshots"], strict=True))


@torch.no_grad()
def put_back(model: Model, learnt: Mapping[str, Tensor]) -> None:
    """Give the architecture parameters of a model these values; all candidates compute again."""
    for name, value in model.all_owned().items():
        assert isinstance(value, Tensor)
        value.copy_(learnt[name])
    for op in model.mixed_ops():
        op.compute_only([True] * len(op.names))
