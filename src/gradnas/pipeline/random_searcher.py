"""Random search: train members of a space briefly, keep the best. The baseline at equal budget uses it too."""

from dataclasses import replace

from gradnas.arch import ModelDesc
from gradnas.config import SearchConf
from gradnas.costs import count_macs
from gradnas.finalizers import Finalizers, RandomFinalizers
from gradnas.foundation.seeds import derive_seed
from gradnas.ops import OpRegistry
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.searcher import ModelMetrics, Searcher, SearchResult
from gradnas.spaces import ModelDescBuilder
from gradnas.strategies import MetaOptimizer, RandomSearch
from gradnas.supergraph import Model
from gradnas.training import Metrics


class RandomSearcher:
    """Trains random members of a space briefly and keeps the best by validation.

    Args:
        context: Data, seed, device, folder, listener.
        strategy: How many members, and for how long.
        phase: Name of the phase; member i is ``<phase>_<i>`` in metrics and checkpoints.
    """

    def __init__(self, context: RunContext, strategy: RandomSearch, *, phase: str = "search") -> None:
        self.context, self.strategy, self.phase = context, strategy, phase
        self.seconds = 0.0  # wall-clock time of the members trained so far

    def search(
        self,
        conf_search: SearchConf,
        model_desc_builder: ModelDescBuilder,
        trainer_class: type[ArchTrainer] | None = None,
        finalizers: Finalizers | None = None,
    ) -> SearchResult:
        """As :meth:`find`; the best member is saved as ``arch.json``.

        Args:
            conf_search: Settings of the brief trainings.
            model_desc_builder: The space.
            trainer_class: None: there is no supergraph to train.
            finalizers: None or :class:`RandomFinalizers`: each member is drawn as these do, with a seed of its own.

        Raises:
            ValueError: For another trainer or other finalizers, which would have no effect, and as :meth:`find`.
        """
        if trainer_class is not None or not isinstance(finalizers, (RandomFinalizers, type(None))):
            raise ValueError(
                "random search trains no supergraph and draws members at random: give no trainer class, and "
                "RandomFinalizers or none."
            )
        return Searcher(self.context).clean_log_result(conf_search, self.find(conf_search, model_desc_builder))

    def find(
        self, conf_search: SearchConf, builder: ModelDescBuilder, model_desc: ModelDesc | None = None
    ) -> SearchResult:
        """The best member, the metrics of all members one after the other, and those of its own brief training.

        Args:
            conf_search: Settings of the brief trainings; each member gets its share of the epochs.
            builder: The space.
            model_desc: The supergraph whose members are drawn; None is that of the space.

        Raises:
            ValueError: When there is no validation data, or no member reached a finite score.
        """
        members = self.members(builder, model_desc)
        scores: list[float] = []
        trained: list[ModelMetrics] = []
        for i, member in enumerate(members):
            if i > 0 and not self.context.may_begin(f"{self.phase}_{i}"):
                break
            searcher = Searcher(self.context, phase=f"{self.phase}_{i}")
            searcher.registry = builder.registry
            epochs = self.strategy.epochs_each(conf_search.epochs)
            conf = replace(conf_search.for_epochs(epochs), validate_every_epochs=epochs)
            if searcher.get_data(conf).val is None:
                raise ValueError("random search compares members on validation data; set val_ratio above 0.")
            outcome = searcher.train_model_desc(member, conf)
            assert outcome is not None
            scores.append(outcome.metrics.best_val_top1())
            trained.append(outcome)
            self.seconds += outcome.metrics.seconds()
        best = self.strategy.best(scores)
        records = [record for outcome in trained for record in outcome.metrics]
        return SearchResult(members[best], Metrics(records), trained[best].metrics)

    def members(self, builder: ModelDescBuilder, model_desc: ModelDesc | None = None) -> list[ModelDesc]:
        """The random members of a supergraph, by default that of the space, drawn from the seed."""
        desc = model_desc if model_desc is not None else builder.build()
        supergraph = Model(desc, droppath=False, affine=False, registry=builder.registry)
        return [random_member(supergraph, self.context.seed, i) for i in range(self.strategy.samples)]


def random_member(supergraph: Model, seed: int, i: int) -> ModelDesc:
    """Random member number i of the space of a supergraph, without weights."""
    drawn = RandomFinalizers(derive_seed(seed, "random_member", i))
    return drawn.finalize_model(supergraph, to_cpu=False).clear_trainables()


def equal_budget_epochs(
    supergraph: Model,
    members: list[ModelDesc],
    strategy: MetaOptimizer,
    epochs: int,
    registry: OpRegistry,
    *,
    warmup_epochs: int = 0,
    extra: float = 0.0,
) -> int:
    """Epochs that each random member may train for, all of them together at the multiply-adds of a search.

    A forward pass counts 1, a backward pass for all weights 2, one for the mixing weights alone 1.

    Args:
        supergraph: What the search trains.
        members: The random members.
        strategy: Of the search; says how many passes a step takes.
        epochs: Of the search.
        registry: Where op names are looked up.
        warmup_epochs: Those of the epochs in which only weights learn.
        extra: Forward passes of a step that the method itself does not take, backward ones counted as above.
    """
    shape = supergraph.desc.conf_model_desc.dataset.image_shape
    step = strategy.forward_equivalents(_most_candidates(supergraph))
    waits = min(warmup_epochs, epochs)
    weights_alone = min(3.0, 0.6 * step) if strategy.bilevel else step
    passes = (step + extra) * (epochs - waits) + (weights_alone + extra) * waits
    search = count_macs(supergraph, shape) * passes
    one_epoch = sum(3.0 * count_macs(Model(desc, registry=registry), shape) for desc in members)
    return max(1, int(search / one_epoch))


def _most_candidates(supergraph: Model) -> int:
    return max((len(op.names) for op in supergraph.mixed_ops()), default=1)
