"""Search and evaluation as two runs from one configuration file; a method overrides what differs."""

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from gradnas.arch import ModelDesc
from gradnas.config import (
    STRATEGIES,
    BaselineConf,
    RetrainConf,
    RunConf,
    build_space,
    build_strategy,
    load_config,
    same_run,
)
from gradnas.finalizers import Finalizers
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.evaluater import EvalResult, Evaluater
from gradnas.pipeline.experiment import (
    Experiment,
    dataset_conf,
    facts_of_search,
    load_source,
    make_finalizers,
    resolve_device,
)
from gradnas.pipeline.manual_experiment import ManualExperiment
from gradnas.pipeline.refusals import refuse_early
from gradnas.pipeline.run_folder import RunFolder
from gradnas.pipeline.running import retraining_has_begun, running
from gradnas.pipeline.searcher import SearchResult
from gradnas.pipeline.searching import Searching, searcher_for
from gradnas.spaces import ModelDescBuilder
from gradnas.strategies import MetaOptimizer, Strategy
from gradnas.training import Listener, Silence

_NO_BASELINE = BaselineConf(samples=0)


class ExperimentRunner:
    """Runs the search of a configuration in ``<out>/<base_name>_search`` and its evaluation in ``…_eval``.

    A configuration that names a model has an evaluation alone, which trains the model.

    Each folder is a finished run of its own: the first asks for a search alone; the second holds the architecture found
    in the first, its retraining, and the facts of that search. Neither trains a random baseline. The ``max_time`` of
    the configuration is a limit of each folder, so both together may take twice as long.

    Args:
        config_filename: YAML configuration, as ``gradnas`` writes it.
        base_name: Name of the two folders.
        clean_expdir: Remove folders of earlier runs first; only those that gradnas made.
        out: Where the folders go.
        listener: Told of progress.

    Raises:
        FileNotFoundError: When there is no configuration.
        ValueError: For a bad configuration, or one of another strategy than :attr:`method`.
    """

    method: ClassVar[type[Strategy] | None] = None
    """The strategy that a runner is named after and takes alone; None, here, takes any."""

    manual: ClassVar[bool] = False
    """Whether a runner takes configurations that name a model alone."""

    def __init__(
        self,
        config_filename: str | os.PathLike[str],
        base_name: str,
        clean_expdir: bool = False,
        *,
        out: str | os.PathLike[str] = "runs",
        listener: Listener | None = None,
    ) -> None:
        self.conf = load_config(Path(config_filename))
        model = self.conf.model.name
        if self.manual and model is None:
            raise ValueError(
                f"{type(self).__name__} trains a given model, the configuration names none. Set model.name, or use "
                "ExperimentRunner."
            )
        if self.method is not None and model is not None:
            raise ValueError(
                f"{type(self).__name__} searches, the configuration names the model {model!r}. Leave it out, or use "
                "ExperimentRunner."
            )
        if self.method is not None and not isinstance(build_strategy(self.conf.strategy), self.method):
            name = next(name for name, kind in STRATEGIES.items() if kind is self.method)
            raise ValueError(
                f"{type(self).__name__} searches by {self.method.__name__}, the configuration says "
                f"{self.conf.strategy.name!r}. Set strategy.name to {name!r}, or use ExperimentRunner."
            )
        self.base_name, self.clean_expdir, self.out = base_name, clean_expdir, Path(out)
        self.listener: Listener = listener if listener is not None else Silence()
        self._data = None if self.conf.data.source is None else load_source(self.conf)
        self._context: RunContext | None = None

    def run(self, search: bool = True, eval: bool = True) -> tuple[SearchResult | None, EvalResult | None]:
        """Search, evaluate, or both. An unfinished run of the same configuration is continued.

        Raises:
            FileExistsError: When a folder holds another run or other files.
            FileNotFoundError: When evaluating what was never found.
            ValueError: For settings that do not fit, before anything is removed or written; and when the evaluation has
                begun with another architecture than the search has found since, as with more time.
        """
        self._refuse(search, eval)
        if self.conf.model.name is not None:
            return None, self._train_model() if eval else None
        found: SearchResult | None = None
        evaluated: EvalResult | None = None
        if search:
            conf = replace(self.conf, retrain=RetrainConf(epochs=0), baseline=_NO_BASELINE)
            with self._entered("search", conf) as experiment:
                found = self.run_search(self.conf)
                experiment.record_search(found)
        if eval:
            self._refuse_another_architecture()
            with self._entered("eval", replace(self.conf, baseline=_NO_BASELINE)) as experiment:
                evaluated = self._evaluate_found(experiment)
        return found, evaluated

    def _train_model(self) -> EvalResult:
        """The evaluation of a configuration that names a model: there is nothing to search."""
        with self._folder("eval", self.conf) as context:
            experiment = ManualExperiment(conf=self.conf, context=context)
            trained = experiment.train()
            experiment.record(trained)
        return trained

    def _refuse_another_architecture(self) -> None:
        """An evaluation goes on with what it has begun with. ValueError before anything in its folder is written."""
        found, begun = self._folder_path("search") / "arch.json", RunFolder(self._folder_path("eval"))
        if self.clean_expdir or not (found.is_file() and (begun / "arch.json").is_file()):
            return
        if retraining_has_begun(begun) and ModelDesc.load(found) != ModelDesc.load(begun / "arch.json"):
            raise ValueError(
                f"{begun.path} evaluates another architecture than {found.parent} holds now. Go on with it by "
                f"`gradnas resume {shlex.quote(str(begun.path))}`; or move that folder away, and the present one is "
                "evaluated. Nothing in it was overwritten."
            )

    def _evaluate_found(self, experiment: Experiment) -> EvalResult:
        searched = RunFolder(self._folder_path("search"))
        if not (searched / "arch.json").is_file():
            raise FileNotFoundError(f"no found architecture at {searched / 'arch.json'}; run the search first.")
        RunFolder(self._folder_path("eval")).take_arch(searched.path, weights=self.conf.retrain.inherit_weights)
        evaluated = self.run_eval(self.conf)
        facts = facts_of_search(searched.read_json("summary.json") or {})
        experiment.record_retraining(evaluated, facts, experiment.known())
        return evaluated

    def run_search(self, conf: RunConf) -> SearchResult:
        """The search in the folder just prepared."""
        return self.searcher().search(conf.search, self.model_desc_builder(), self.trainer_class(), self.finalizers())

    def run_eval(self, conf: RunConf) -> EvalResult:
        """The evaluation in the folder just prepared."""
        return self.evaluater().evaluate(conf.retrain, self.model_desc_builder())

    def model_desc_builder(self) -> ModelDescBuilder:
        """The space."""
        return build_space(self.conf.space, dataset_conf(self.context.data))

    def trainer_class(self) -> type[ArchTrainer] | None:
        """What trains the supergraph; None where the search has nothing to train."""
        return ArchTrainer if isinstance(build_strategy(self.conf.strategy), MetaOptimizer) else None

    def finalizers(self) -> Finalizers:
        """What makes the discrete description; random where nothing is trained."""
        name = self.conf.search.finalizers if self.trainer_class() is not None else "random"
        return make_finalizers(name, self.conf.seed)

    def searcher(self) -> Searching:
        """What searches in the run in progress."""
        return searcher_for(self.context, build_strategy(self.conf.strategy), self.conf.grid)

    def evaluater(self) -> Evaluater:
        """The evaluater of the run in progress."""
        return Evaluater(self.context)

    @property
    def context(self) -> RunContext:
        """Data, seed, device and folder of the run in progress. RuntimeError before :meth:`run`."""
        if self._context is None:
            raise RuntimeError("no run is in progress; call run() first.")
        return self._context

    def _folder_path(self, phase: str) -> Path:
        return self.out / f"{self.base_name}_{phase}"

    def _refuse(self, search: bool, evaluation: bool) -> None:
        if self._data is None:
            raise ValueError("the configuration names no data set; set data.source.")
        if evaluation and self.conf.retrain.epochs < 1:
            raise ValueError("an evaluation needs at least one epoch: set retrain.epochs.")
        conf = self.conf
        self._context = RunContext(data=self._data, seed=conf.seed, device=resolve_device(conf.device))
        if conf.model.name is not None:
            refuse_early(ManualExperiment(conf=conf, context=self._context))
            return
        conf = conf if evaluation else replace(conf, retrain=RetrainConf(epochs=0))
        refuse_early(self._experiment(conf), search=search)

    def _experiment(self, conf: RunConf) -> Experiment:
        strategy = build_strategy(conf.strategy)
        return Experiment(conf=conf, context=self.context, space=self.model_desc_builder(), strategy=strategy)

    @contextmanager
    def _entered(self, phase: str, conf: RunConf) -> Iterator[Experiment]:
        with self._folder(phase, conf):
            yield self._experiment(conf)

    @contextmanager
    def _folder(self, phase: str, conf: RunConf) -> Iterator[RunContext]:
        assert self._data is not None
        path = self._folder_path(phase)
        if self.clean_expdir and RunFolder(path).is_run():
            with RunFolder(path).locked():
                shutil.rmtree(path)
        resume = RunFolder(path).is_run() and same_run(RunFolder(path).read_config(), conf)
        context = RunContext(
            data=self._data,
            seed=conf.seed,
            device=resolve_device(conf.device),
            listener=self.listener,
            resume=resume,
            tensorboard=conf.tensorboard,
        )
        with running(context, RunFolder.entered(path, conf, resume=resume), conf, goes_on=resume) as self._context:
            yield self._context
