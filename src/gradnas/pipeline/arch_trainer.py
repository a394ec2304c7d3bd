"""Training of a supergraph: the plain loop, with a strategy that moves the architecture parameters before each step."""

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import SGD

from gradnas.arch import ModelDesc
from gradnas.config import describe_strategy
from gradnas.data import BatchPlan, DataLoaders, EndlessBatches
from gradnas.finalizers import Finalizers
from gradnas.pipeline.diagnostics import changed_edges, describe_alphas, l1_norm, mean_entropy, would_be
from gradnas.strategies import Batch, Darts, MetaOptimizer, SearchSchedule
from gradnas.supergraph import Model, fixed
from gradnas.training import CheckPoint, Listener, Score, ScoreSums, StepGraph, TrainConf, Trainer, steps_per_epoch

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
        alpha_log: Told of the architecture parameters after each epoch.
        cuda_graph: Replay the step as a CUDA graph, recorded anew in each epoch.

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
        alpha_log: AlphaLog | None = None,
        cuda_graph: bool = False,
    ) -> None:
        self.strategy = strategy if strategy is not None else self.strategy_class()
        check_penalty(conf_train, self.strategy)
        if cuda_graph:
            check_graph(self.strategy, model.device_type())
            if type(self).pre_step is not ArchTrainer.pre_step:
                raise ValueError(
                    f"{type(self).__name__}.pre_step would not run in a recorded step. Set cuda_graph=False."
                )
        self._records = cuda_graph
        self._graph: StepGraph | None = None
        model.set_mixing_rule(self.strategy.mixing_rule)  # before anyone looks at the parameters: it may replace some
        super().__init__(conf_train, model, checkpoint, phase=phase, seed=seed, listener=listener)
        self.supergraph = model
        self.finalizers = finalizers if finalizers is not None else Finalizers()
        self.alpha_log = alpha_log
        self.alphas = list(model.all_owned().param_by_kind())
        self._outer_loss = nn.CrossEntropyLoss()
        self._alpha_batches: EndlessBatches | None = None
        self._last_found: ModelDesc | None = None

    def pre_fit(self, data_loaders: DataLoaders) -> None:
        """Bind the strategy.

        Raises:
            ValueError: When a bilevel strategy has no validation batches, or the strategy refuses the search.
        """
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
                self.conf, data_loaders.train, None if data_loaders.alpha is None else data_loaders.alpha.plan
            ),
        )

    def pre_epoch(self, data_loaders: DataLoaders) -> None:
        super().pre_epoch(data_loaders)
        self.strategy.new_epoch(self.epoch)
        self._graph = None  # rate and sums are those of one epoch

    def pre_step(self, x: Tensor, y: Tensor) -> None:
        self.strategy.step((x, y), self._val_batch())

    def _val_batch(self) -> Batch | None:
        return self._alpha_batches.next() if self._alpha_batches is not None and self.strategy.bilevel else None

    def train_step(self, x: Tensor, y: Tensor, sums: ScoreSums) -> None:
        if not self._records:
            super().train_step(x, y, sums)
            return
        if self._graph is None:

            def step(x: Tensor, y: Tensor, *val: Tensor) -> None:
                self.strategy.step((x, y), (val[0], val[1]) if val else None)
                self._weight_step(x, y, sums)

            if not all(part.sched_on_epoch and isinstance(part.optimizer, SGD) for part in self.multi_optim):
                raise ValueError("a recorded step needs SGD, and a rate that changes between epochs only.")
            self._graph = StepGraph(step)
        self._graph.run(x, y, *(self._val_batch() or ()))
        self.post_step(x, y)

    @contextmanager
    def weight_pass(self) -> Iterator[None]:
        with fixed(self.alphas):
            yield

    def compute_loss(
        self, lossfn: nn.Module, y: Tensor, logits: Tensor, aux_weight: float, aux_logits: Tensor | None
    ) -> Tensor:
        """The base loss plus ``l1_alphas`` times the sum of absolute architecture parameters, each shared one once."""
        loss = super().compute_loss(lossfn, y, logits, aux_weight, aux_logits)
        return loss + self.conf.l1_alphas * l1_norm(self.supergraph) if self.conf.l1_alphas > 0 else loss

    def _batch_loss(
        self, batch: Batch, *, full_precision: bool = False, mixing: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        logits, aux = self.forward(batch[0], full_precision=full_precision, mixing=mixing)
        return self.compute_loss(self._outer_loss, batch[1], logits, self.conf.aux_weight, aux)

    def read_progress(self, step: int, steps: int, sums: Any) -> None:
        self.strategy.check()
        super().read_progress(step, steps, sums)

    def post_epoch(self, data_loaders: DataLoaders, train: Score, lr: float, start: float) -> None:
        """Base, then the record of the architecture parameters and of the architecture they imply now."""
        self._graph = None  # and the memory it holds
        super().post_epoch(data_loaders, train, lr, start)
        found = would_be(self.supergraph, self.finalizers)
        if self.alpha_log is not None:
            state = describe_alphas(self.supergraph, found)
            said = self.strategy.describe()
            state |= {"strategy": said} if said else {}
            self.alpha_log({"epoch": self.epoch, **state, "changed_edges": changed_edges(self._last_found, found)})
        self._last_found = found

    def entropy(self) -> float | None:
        return mean_entropy(self.supergraph)

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "strategy": repr(describe_strategy(self.strategy))}

    def update_checkpoint(self, checkpoint: CheckPoint) -> None:
        super().update_checkpoint(checkpoint)
        checkpoint["strategy"] = self.strategy.state_dict()
        checkpoint["alpha_batches_drawn"] = 0 if self._alpha_batches is None else self._alpha_batches.drawn
        checkpoint["last_found"] = None if self._last_found is None else self._last_found.to_json()

    def restore_checkpoint(self) -> None:
        super().restore_checkpoint()
        assert self.checkpoint is not None
        self.strategy.load_state_dict(self.checkpoint["strategy"])
        if self._alpha_batches is not None:
            self._alpha_batches.drawn = self.checkpoint["alpha_batches_drawn"]
        found = self.checkpoint["last_found"]
        self._last_found = None if found is None else ModelDesc.from_json(found)


def search_schedule(conf: TrainConf, train: Sized, alpha: BatchPlan | None) -> SearchSchedule:
    """What a search will really run.

    Args:
        conf: Its settings.
        train: Batches of the weight steps; only their number counts.
        alpha: Batches of the architecture steps, or None.
    """
    steps = steps_per_epoch(conf, train)
    drawn = 0 if alpha is None else alpha.samples_in(conf.epochs * steps)
    return SearchSchedule(epochs=conf.epochs, steps_per_epoch=steps, val_samples=drawn)


def check_graph(strategy: MetaOptimizer, device: str) -> None:
    """Refuse to record a step that cannot be recorded. ValueError."""
    if device != "cuda":
        raise ValueError(f"cuda_graph needs an NVIDIA GPU, the search runs on {device!r}. Set search.cuda_graph=false.")
    if not strategy.capturable:
        raise ValueError(f"no CUDA graph can be made of the step of {strategy!r}. Set search.cuda_graph=false.")


def check_penalty(conf: TrainConf, strategy: MetaOptimizer) -> None:
    """Refuse a penalty on alphas that the strategy does not have. ValueError."""
    if conf.l1_alphas > 0 and "alphas" not in strategy.mixing_rule.entries:
        raise ValueError(f"l1_alphas acts on parameters that {type(strategy).__name__} does not have. Set it to 0.")
