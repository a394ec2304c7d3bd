"""The search phase: from a space to one found description."""

from dataclasses import dataclass, replace

from gradnas.arch import ModelDesc, ModelDescConf
from gradnas.config import PhaseConf, SearchConf
from gradnas.data import DataLoaders
from gradnas.finalizers import Finalizers
from gradnas.ops import OPS, OpRegistry
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.run_folder import ARCH_WEIGHTS
from gradnas.pipeline.search_plan import check_aux_tower
from gradnas.spaces import ModelDescBuilder, with_changes
from gradnas.strategies import MetaOptimizer
from gradnas.supergraph import Model
from gradnas.training import Metrics, Trainer


@dataclass(frozen=True)
class SearchResult:
    """The found description (without weights), metrics of the search, and of the training after it, if any."""

    model_desc: ModelDesc | None
    search_metrics: Metrics | None
    train_metrics: Metrics | None


@dataclass(frozen=True)
class ModelMetrics:
    """A trained network and the metrics of its training."""

    model: Model
    metrics: Metrics


class Searcher:
    """Builds the supergraph, lets a strategy learn on it, and finalizes.

    Args:
        context: Data, seed, device, folder, listener.
        strategy: Used by the trainer class; ignored when there is none.
        phase: Name of the phase in metrics and checkpoints.
        alphas: Name of the log of its architecture parameters in the run folder.
    """

    def __init__(
        self,
        context: RunContext,
        strategy: MetaOptimizer | None = None,
        *,
        phase: str = "search",
        alphas: str = "alphas.jsonl",
    ) -> None:
        self.context, self.strategy, self.phase, self.alphas = context, strategy, phase, alphas
        self.registry: OpRegistry = OPS
        self._loaders: list[tuple[PhaseConf, DataLoaders]] = []  # settings hold dictionaries

    def search(
        self,
        conf_search: SearchConf,
        model_desc_builder: ModelDescBuilder,
        trainer_class: type[ArchTrainer] | None,
        finalizers: Finalizers,
    ) -> SearchResult:
        """Build, search, finalize.

        Args:
            conf_search: Settings of the search.
            model_desc_builder: The space; its own settings say how large the supergraph is.
            trainer_class: Trains the supergraph; None where there is nothing to train (random, manual).
            finalizers: Makes the discrete description.
        """
        conf = model_desc_builder.settings
        self.registry = model_desc_builder.registry
        desc = self.build_model_desc(model_desc_builder, conf, conf.n_reductions, conf.n_cells, conf.cell.n_nodes)
        found, metrics = self.search_model_desc(conf_search, desc, trainer_class, finalizers)
        result = SearchResult(found, metrics, None)
        return self.clean_log_result(conf_search, result)

    def build_model_desc(
        self, builder: ModelDescBuilder, conf_model_desc: ModelDescConf, reductions: int, cells: int, nodes: int
    ) -> ModelDesc:
        """The description of the supergraph with these three numbers, built without a template."""
        return builder.build(with_changes(conf_model_desc, reductions=reductions, cells=cells, nodes=nodes))

    def search_model_desc(
        self,
        conf_search: SearchConf,
        model_desc: ModelDesc,
        trainer_class: type[ArchTrainer] | None,
        finalizers: Finalizers,
    ) -> tuple[ModelDesc, Metrics | None]:
        """Learn on the supergraph and finalize; without a trainer the description is only finalized."""
        if trainer_class is not None and conf_search.drop_path > 0:
            raise ValueError("drop_path acts on discrete networks; a supergraph has none. Set search.drop_path to 0.")
        if trainer_class is not None:
            check_aux_tower(conf_search, model_desc)
        if self.strategy is not None:
            model_desc = self.strategy.supergraph(model_desc)
        model = self.context.model(lambda: self._supergraph(model_desc, conf_search.fused), f"{self.phase}.weights")
        if trainer_class is None:
            return self.finalize_model(model, finalizers), None
        listener, alpha_log = self.context.log_search_to(self.phase, self.alphas)
        trainer = trainer_class(
            conf_search,
            model,
            self.context.checkpoint(self.phase, conf_search),
            strategy=self.strategy,
            finalizers=finalizers,
            phase=self.phase,
            seed=self.context.seed,
            listener=listener,
            stop=self.context.stop,
            alpha_log=alpha_log,
            cuda_graph=conf_search.cuda_graph,
        )
        metrics = trainer.fit(self.get_data(conf_search))
        return self.finalize_model(model, finalizers), metrics

    def _supergraph(self, desc: ModelDesc, fused: bool) -> Model:
        return Model(desc, droppath=False, affine=False, fused=fused, registry=self.registry)

    def finalize_model(self, model: Model, finalizers: Finalizers) -> ModelDesc:
        """The discrete description; the model is dropped afterwards, so it need not return to its device."""
        return finalizers.finalize_model(model, restore_device=False)

    def train_model_desc(self, model_desc: ModelDesc, conf_train: PhaseConf) -> ModelMetrics | None:
        """Train a discrete description by the plain trainer, from the weights it holds if any; None for no epochs."""
        if conf_train.epochs <= 0:
            return None

        def build() -> Model:
            return Model(model_desc, droppath=conf_train.drop_path > 0, affine=True, registry=self.registry)

        model = self.context.model(build, f"{self.phase}.weights")
        trainer = Trainer(
            conf_train,
            model,
            self.context.checkpoint(self.phase, conf_train),
            phase=self.phase,
            seed=self.context.seed,
            listener=self.context.log_to(self.phase),
            stop=self.context.stop,
        )
        return ModelMetrics(model, trainer.fit(self.get_data(conf_train)))

    def clean_log_result(self, conf_search: SearchConf, search_result: SearchResult) -> SearchResult:
        """The result without weights; the description is saved as ``arch.json``, also when there are no metrics.

        Weights that it has are saved beside it, for a retraining that inherits them.
        """
        if search_result.model_desc is None:
            return search_result
        if self.context.folder is not None:
            found, learnt = search_result.model_desc, search_result.search_metrics is not None
            with_weights = learnt and found.has_trainables()
            if not with_weights:  # those of an earlier part of the search may be of another architecture
                (self.context.folder / ARCH_WEIGHTS).unlink(missing_ok=True)
            found.save(self.context.folder / "arch.json", save_trainables=with_weights)
        return replace(search_result, model_desc=search_result.model_desc.clear_trainables())

    def get_data(self, conf_loader: PhaseConf) -> DataLoaders:
        """Loaders without a test set; the same settings, by value, give the same object."""
        known = next((loaders for conf, loaders in self._loaders if conf == conf_loader), None)
        if known is not None:
            return known
        made = self.context.loaders(conf_loader, self.phase, test=False)
        self._loaders.append((conf_loader, made))
        return made
