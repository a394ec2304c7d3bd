"""Training of a supergraph: the plain loop, with a strategy that moves the architecture parameters before each step."""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import SGD

from gradnas.arch import ModelDesc
from gradnas.config import SearchConf, describe_strategy
from gradnas.data import DataLoaders, EndlessBatches
from gradnas.finalizers import Finalizers
from gradnas.foundation.seeds import derive_seed, seeded_initialization
from gradnas.pipeline.diagnostics import (
    changed_edges,
    describe_alphas,
    diagnosis,
    in_words,
    l1_norm,
    mean_entropy,
    would_be,
)
from gradnas.pipeline.discretized import Discretized
from gradnas.pipeline.search_plan import check_graph, check_monitor, check_penalty, search_schedule, warmup_epochs
from gradnas.pipeline.stabilizer import EarlyStop, MixingNoise, put_back
from gradnas.strategies import Batch, Darts, MetaOptimizer, StabilizeConf
from gradnas.strategies.eigenvalue import largest_eigenvalue
from gradnas.strategies.perturbation import Tables
from gradnas.supergraph import Model, batch_norms, fixed, untouched_statistics
from gradnas.training import (
    CheckPoint,
    Listener,
    NotFiniteError,
    Score,
    ScoreSums,
    StepGraph,
    Stop,
    Tester,
    TrainConf,
    Trainer,
    steps_per_epoch,
)

_LOG = logging.getLogger(__name__)

AlphaLog = Callable[[dict[str, Any]], None]
"""Receives one record per epoch: what ``alphas.jsonl`` holds."""


class ArchTrainer(Trainer):
    """Alternates an architecture step of the strategy (before) and the ordinary weight step, on each training batch.

    Args:
        conf_train: Settings of the weight training.
        model: The supergraph, on its device.
        checkpoint: Where to save and from where to go on; None does neither.
        strategy: How the architecture learns; by default :attr:`strategy_class` with its own defaults, here first-order
            DARTS.
        finalizers: Which architecture the logs call the present one.
        phase: Name of this run in the metrics.
        seed: Of the run.
        listener: Told of progress.
        stop: Asked between two steps whether to go on.
        alpha_log: Told of the architecture parameters after each epoch.
        cuda_graph: Replay the step as a CUDA graph, recorded anew in each epoch.
        stabilize: Remedies against collapse; None takes those of the settings, if they are a :class:`SearchConf`.

    Raises:
        ValueError: For settings that do not fit the strategy, and for a graph of what none can be made of.
    """

    strategy_class: ClassVar[type[MetaOptimizer]] = Darts

    def __init__(
        self,
        conf_train: TrainConf,
        model: Model,
        checkpoint: CheckPoint | None = None,
        *,
        strategy: MetaOptimizer | None = None,
        finalizers: Finalizers | None = None,
        phase: str = "search",
        seed: int = 0,
        listener: Listener | None = None,
        stop: Stop | None = None,
        alpha_log: AlphaLog | None = None,
        cuda_graph: bool = False,
        stabilize: StabilizeConf | None = None,
    ) -> None:
        self.strategy = strategy if strategy is not None else self.strategy_class()
        conf_train.check_search()
        check_penalty(conf_train, self.strategy)
        if stabilize is None:
            stabilize = conf_train.stabilize if isinstance(conf_train, SearchConf) else StabilizeConf()
        self.stabilize = stabilize
        if cuda_graph:
            check_graph(self.strategy, model.device_type(), self.stabilize)
            if type(self).pre_step is not ArchTrainer.pre_step:
                raise ValueError(
                    f"{type(self).__name__}.pre_step would not run in a recorded step. Set cuda_graph=False."
                )
        self._records = cuda_graph
        self._graph: StepGraph | None = None
        with seeded_initialization(seed, f"{phase}.alphas"):  # it may replace parameters: before anyone looks at them
            model.set_mixing_rule(self.strategy.mixing_rule)
        super().__init__(conf_train, model, checkpoint, phase=phase, seed=seed, listener=listener, stop=stop)
        self.supergraph = model
        self.finalizers = finalizers if finalizers is not None else Finalizers()
        self.alpha_log = alpha_log
        self.alphas = list(model.all_owned().param_by_kind())
        self._weights, self._norms = self.ordinary_params(), batch_norms(model)
        self._outer_loss = nn.CrossEntropyLoss()
        self._alpha_batches: EndlessBatches | None = None
        self._last_found: ModelDesc | None = None
        self._warmup = warmup_epochs(self.stabilize, self.strategy, conf_train.epochs)
        self._learning = self._warmup == 0
        self._noise = MixingNoise(
            self.stabilize, model, derive_seed(seed, f"{phase}.noise"), conf_train.epochs, self._warmup
        )
        self._early_stop = EarlyStop(self.stabilize, self._warmup)
        self._diagnosed = 0  # sentences in the epoch before: what stays is told once

    def pre_fit(self, data_loaders: DataLoaders) -> None:
        """Bind the strategy.

        Raises:
            ValueError: When a bilevel strategy has no validation batches, or the strategy refuses the search.
        """
        check_monitor(self.stabilize, self.strategy, data_loaders.alpha is not None)
        if data_loaders.alpha is not None:
            self._alpha_batches = EndlessBatches(data_loaders.alpha)
        elif self.strategy.bilevel:
            raise ValueError(
                f"{type(self.strategy).__name__} learns the architecture on held-out data, but there is none. "
                "Set val_ratio above 0 or give a validation set."
            )
        self.strategy.prepare(
            self.supergraph,
            self._batch_loss,
            self.multi_optim[0].optimizer,
            chunks=self.conf.batch_chunks,
            schedule=search_schedule(
                self.conf,
                data_loaders.train,
                None if data_loaders.alpha is None else data_loaders.alpha.plan,
                self._warmup,
            ),
            seed=derive_seed(self.seed, f"{self.phase}.mixing"),
        )

    def pre_epoch(self, data_loaders: DataLoaders) -> None:
        super().pre_epoch(data_loaders)
        self._learning = self.epoch >= self._warmup
        self.strategy.new_epoch(self.epoch)
        self._graph = None  # rate and sums are those of one epoch

    def pre_step(self, x: Tensor, y: Tensor) -> None:
        self._architecture_step((x, y), self._val_batch())

    def _architecture_step(self, train_batch: Batch, val_batch: Batch | None) -> None:
        if not self._learning:
            return
        try:
            self.strategy.step(train_batch, val_batch)
        except NotFiniteError:
            raise
        except FloatingPointError as error:
            what = "rewards or gradients of the architecture step"
            raise NotFiniteError(what, "not finite", self.global_step) from error
        self._see_alphas()

    def _see_alphas(self) -> None:
        if self.alphas:
            self.finite.see(get_total_norm(self.alphas), "norm of the architecture parameters")

    def _val_batch(self) -> Batch | None:
        wanted = self._learning and self.strategy.bilevel
        return self._alpha_batches.next() if self._alpha_batches is not None and wanted else None

    def train_step(self, x: Tensor, y: Tensor, sums: ScoreSums) -> None:
        self._noise.at(self.epoch, self.global_step)
        if not self._records:
            super().train_step(x, y, sums)
            return
        if self._graph is None:

            def step(x: Tensor, y: Tensor, *val: Tensor) -> None:
                self._architecture_step((x, y), (val[0], val[1]) if val else None)
                self._weight_step(x, y, sums)

            if not all(part.sched_on_epoch and isinstance(part.optimizer, SGD) for part in self.multi_optim):
                raise ValueError("a recorded step needs SGD, and a rate that changes between epochs only.")
            self._graph = StepGraph(step)
        self._graph.run(x, y, *(self._val_batch() or ()))
        self.post_step(x, y)

    @contextmanager
    def weight_pass(self) -> Iterator[None]:
        with self.strategy.weight_pass(self.alphas, learning=self._learning):
            yield
        if not self.strategy.bilevel and self._learning:  # it has learnt in this pass
            self._see_alphas()

    def compute_loss(
        self, lossfn: nn.Module, y: Tensor, logits: Tensor, aux_weight: float, aux_logits: Tensor | None
    ) -> Tensor:
        """The base loss plus ``l1_alphas`` times the sum of absolute architecture parameters, each shared one once."""
        loss = super().compute_loss(lossfn, y, logits, aux_weight, aux_logits)
        return loss + self.conf.l1_alphas * l1_norm(self.supergraph) if self.conf.l1_alphas > 0 else loss

    def _batch_loss(
        self, batch: Batch, *, full_precision: bool = False, mixing: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        mixing = self._noise.without_skips(mixing, "architecture")
        logits, aux = self.forward(batch[0], full_precision=full_precision, mixing=mixing)
        loss = self.compute_loss(self._outer_loss, batch[1], logits, self.conf.aux_weight, aux)
        self.finite.see(loss, "loss of the architecture step")
        return loss

    def train_mixing(self, x: Tensor, y: Tensor) -> Tables | None:
        def loss(mixing: Tables) -> Tensor:
            with untouched_statistics(self._norms), fixed(self._weights):
                logits, aux = self.forward(x, mixing=mixing)
                return super(ArchTrainer, self).compute_loss(self.train_loss, y, logits, self.conf.aux_weight, aux)

        return self._noise.for_weights(loss)

    def remember_step(self) -> Callable[[], None]:
        undo_weights = super().remember_step()
        alphas = [(alpha, alpha.detach().clone()) for alpha in self.alphas]
        strategy = copy.deepcopy(self.strategy.state_dict())

        def undo() -> None:
            undo_weights()
            for alpha, before in alphas:
                alpha.data.copy_(before)
            self.strategy.load_state_dict(strategy)

        return undo

    def batch_numbers(self, data_loaders: DataLoaders, epoch: int, step: int) -> dict[str, list[int]]:
        numbers = super().batch_numbers(data_loaders, epoch, step)
        drawn = (epoch - self._warmup) * steps_per_epoch(self.conf, data_loaders.train) + step
        if data_loaders.alpha is not None and self.strategy.bilevel and drawn >= 0:
            numbers["validation images"] = data_loaders.alpha.sample_numbers(*divmod(drawn, len(data_loaders.alpha)))
        return numbers

    def check_numbers(self) -> None:
        super().check_numbers()
        self.strategy.check()

    @property
    def skips(self) -> bool:
        return not self._records

    def post_epoch(self, data_loaders: DataLoaders, train: Score, lr: float, start: float) -> None:
        """Base, then the record of the architecture parameters and of the architecture they imply now."""
        self._graph = None  # and the memory it holds
        super().post_epoch(data_loaders, train, lr, start)
        found = would_be(self.supergraph, self.finalizers)
        record = {"epoch": self.epoch, **describe_alphas(self.supergraph, found)}
        if said := self.strategy.describe():
            record["strategy"] = said
        record["changed_edges"] = changed_edges(self._last_found, found)
        record["discretization_drop"] = self._discretization_drop(found, data_loaders)
        record["eigenvalue"] = self._eigenvalue(data_loaders)
        record["words"] = in_words(record)
        record["diagnosis"] = diagnosis(record)
        self._last_found = found
        self._stop_or_warn(record)
        if len(record["diagnosis"]) > self._diagnosed or self.stopped:
            _LOG.warning("epoch %d of the search: %s", self.epoch, " ".join(record["diagnosis"]))
        self._diagnosed = len(record["diagnosis"])
        if self.alpha_log is not None:
            self.alpha_log(record)
            if self.stopped:
                self.alpha_log(self._returned(record))

    def _discretization_drop(self, found: ModelDesc, data_loaders: DataLoaders) -> float | None:
        """Points of validation accuracy that are lost when only the would-be cell computes; None without validation."""
        last = self.metrics.last
        if last is None or last.val is None or data_loaders.val is None:
            return None
        child = Discretized.of(self.supergraph, found)
        if child is None:
            return None
        tester = Tester(child, precision=self.conf.precision)
        return last.val.top1 - tester.test(data_loaders.val, max_steps=self.conf.max_steps_per_epoch).top1

    def _eigenvalue(self, data_loaders: DataLoaders) -> float | None:
        """The dominant Hessian eigenvalue on a fixed validation batch, with the mixture free of randomness."""
        if self.stabilize.eigenvalue == "none" or not self._learning:
            return None
        assert data_loaders.alpha is not None
        x, y = data_loaders.alpha.batch(0, 0)
        self.model.train()
        with untouched_statistics(self._norms), fixed(self._weights):
            logits, aux = self.forward(x, full_precision=True, mixing=self.supergraph.probabilities())
            loss = self.compute_loss(self._outer_loss, y, logits, self.conf.aux_weight, aux)
            return largest_eigenvalue(loss, self.alphas)

    def _stop_or_warn(self, record: dict[str, Any]) -> None:
        """Let the rules look at the epoch; on a stop, the architecture they return is put back."""
        learnt = {name: value for name, value in self.supergraph.all_owned().items() if isinstance(value, Tensor)}
        verdicts = self._early_stop.after(self.epoch, record["eigenvalue"], record["skips"], learnt)
        if not verdicts:
            return
        final = next((verdict for verdict in reversed(verdicts) if verdict.stop), None)  # the limit of skips is a limit
        for verdict in verdicts:
            outcome = f" The search stops with the architecture of epoch {verdict.back_to}." if verdict is final else ""
            record["diagnosis"].append(f"{verdict.reason}.{outcome}")
        record["stop"] = None if final is None else {"reason": final.reason, "returned_epoch": final.back_to}
        if final is not None:
            assert final.back_to is not None
            put_back(self.supergraph, self._early_stop.snapshot(final.back_to))
            self.stopped = True

    def _returned(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What an early stop returns, as a record of its own after that of the last epoch."""
        found = would_be(self.supergraph, self.finalizers)
        returned = {
            "epoch": self.epoch,
            "returned_epoch": record["stop"]["returned_epoch"],
            **describe_alphas(self.supergraph, found),
            "changed_edges": changed_edges(self._last_found, found),
            "discretization_drop": None,  # weights are those of the last epoch
            "eigenvalue": None,
        }
        return {**returned, "words": in_words(returned), "diagnosis": diagnosis(returned), "stop": record["stop"]}

    def entropy(self) -> float | None:
        return mean_entropy(self.supergraph)

    def _identity(self) -> dict[str, Any]:
        return {
            **super()._identity(),
            "strategy": repr(describe_strategy(self.strategy)),
            "stabilize": repr(self.stabilize),
        }

    def update_checkpoint(self, checkpoint: CheckPoint) -> None:
        super().update_checkpoint(checkpoint)
        checkpoint["strategy"] = self.strategy.state_dict()
        checkpoint["early_stop"] = self._early_stop.state_dict()
        checkpoint["diagnosed"] = self._diagnosed
        checkpoint["alpha_batches_drawn"] = 0 if self._alpha_batches is None else self._alpha_batches.drawn
        checkpoint["last_found"] = None if self._last_found is None else self._last_found.to_json()

    def restore_checkpoint(self) -> None:
        super().restore_checkpoint()
        assert self.checkpoint is not None
        self.strategy.load_state_dict(self.checkpoint["strategy"])
        self._early_stop.load_state_dict(self.checkpoint["early_stop"])
        self._diagnosed = self.checkpoint["diagnosed"]
        if self._alpha_batches is not None:
            self._alpha_batches.drawn = self.checkpoint["alpha_batches_drawn"]
        found = self.checkpoint["last_found"]
        self._last_found = None if found is None else ModelDesc.from_json(found)
