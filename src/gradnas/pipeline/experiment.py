"""A whole run in one folder: search, retrain, random baseline, summary, report. Running it again continues it."""

import math
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradnas.arch import DatasetConf, ModelDesc
from gradnas.config import RunConf, build_space, build_strategy
from gradnas.costs import count_macs, count_params
from gradnas.data import DataSource, load_with
from gradnas.finalizers import Finalizers, RandomFinalizers
from gradnas.foundation.seeds import derive_seed
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.diagnostics import genotype_text
from gradnas.pipeline.evaluater import EvalResult, Evaluater
from gradnas.pipeline.given_architecture import given_desc
from gradnas.pipeline.random_searcher import RandomSearcher, equal_budget_epochs
from gradnas.pipeline.run_summary import RunSummary
from gradnas.pipeline.running import is_settled, restore_search_log, search_seconds
from gradnas.pipeline.search_combinations import grid_facts
from gradnas.pipeline.search_plan import warmup_epochs
from gradnas.pipeline.searcher import SearchResult
from gradnas.pipeline.searching import searcher_for
from gradnas.spaces import ModelDescBuilder
from gradnas.strategies import MetaOptimizer, RandomSearch, Strategy
from gradnas.supergraph import Model
from gradnas.training import Metrics


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The phases of a run.

    Args:
        conf: The resolved configuration.
        context: Data, seed, device, folder, listener; the folder must exist.
        space: The search space.
        strategy: How the architecture is learnt.
    """

    conf: RunConf
    context: RunContext
    space: ModelDescBuilder
    strategy: Strategy

    def run(self) -> dict[str, Any]:
        """Run every phase that the configuration asks for; finished ones are taken from their checkpoints.

        A search whose retraining has begun is not entered again, also where the limit of time had ended it early.

        Returns:
            The summary, also written as ``summary.json``.
        """
        known, context = self.known(), self.context
        if context.resume and context.folder is not None and is_settled(context.folder):
            self._take_up_search()
            summary = known
        elif self.conf.arch is not None:
            summary = self.record_given(given_desc(self.conf.arch, self.space))
        else:
            summary = self.record_search(self.search())
        if self.conf.retrain.epochs > 0 and self.context.may_begin("retrain"):
            summary = self.record_retraining(self.retrain(), summary, known)
        if self.conf.baseline.samples > 0 and self.context.may_begin("baseline_search_0"):
            summary |= self.baseline(summary["search_epochs"])
        if summary.get("out_of_time") != self._summary.out_of_time(summary) or "random_baseline_samples" in summary:
            summary["out_of_time"] = self._summary.out_of_time(summary)
            self._summary.write(summary)
        return summary

    def retrain_only(self) -> dict[str, Any]:
        """Retrain the architecture that the folder holds; the summary keeps what it knew."""
        known = self.known()
        self._take_up_search()
        return self.record_retraining(self.retrain(), known, known)

    def _take_up_search(self) -> None:
        """A search that is not entered: its time counts, as the limit is one of all phases, and its log stays whole."""
        if self.context.folder is None:
            return
        if self.conf.max_time is not None:  # checkpoints are large to read
            self.context.stop.account_for(search_seconds(self.context.folder))
        restore_search_log(self.context.folder)

    def search(self) -> SearchResult:
        """Find an architecture; it is saved as ``arch.json``."""
        conf = self.conf.search
        with self._explained("search"):
            learns = isinstance(self.strategy, MetaOptimizer)
            finalizers = make_finalizers(conf.finalizers if learns else "random", self.context.seed)
            searcher = searcher_for(self.context, self.strategy, self.conf.grid)
            return searcher.search(conf, self.space, ArchTrainer if learns else None, finalizers)

    def retrain(self) -> EvalResult:
        """Train and test the found architecture."""
        with self._explained("retrain"):
            return Evaluater(self.context).evaluate(self.conf.retrain, self.space)

    def baseline(self, search_epochs: int) -> dict[str, Any]:
        """Random search at the multiply-adds of the search; its winner is retrained and tested like the found one.

        Args:
            search_epochs: How many the search has run.
        """
        with self._explained("baseline"):
            return self._baseline(search_epochs)

    def _baseline(self, search_epochs: int) -> dict[str, Any]:
        strategy = RandomSearch(samples=self.conf.baseline.samples)
        searcher = RandomSearcher(self.context, strategy, phase="baseline_search")
        if isinstance(self.strategy, MetaOptimizer):
            registry = self.space.registry
            desc = self.strategy.supergraph(self.space.build())
            supergraph = Model(desc, droppath=False, affine=False, registry=registry)
            waits = warmup_epochs(self.conf.search.stabilize, self.strategy, self.conf.search.epochs)
            adversary = self.conf.search.stabilize.perturb == "adversarial"
            epochs = equal_budget_epochs(
                supergraph,
                searcher.members(self.space),
                self.strategy,
                search_epochs,
                registry,
                warmup_epochs=waits,
                extra=2.0 * self.conf.search.stabilize.perturb_steps if adversary else 0.0,
            )
            searcher.strategy = replace(strategy, epochs=epochs)
        found = searcher.find(self.conf.search, self.space)
        folder = self.context.folder
        assert folder is not None and found.model_desc is not None and found.search_metrics is not None
        (folder / "baseline").mkdir(exist_ok=True)
        found.model_desc.save(folder / "baseline" / "arch.json")
        facts = {
            "random_baseline_samples": strategy.samples,
            "random_baseline_epochs_each": searcher.strategy.epochs_each(self.conf.search.epochs),
            "random_baseline_genotype": genotype_text(found.model_desc),
            "random_baseline_search_seconds": searcher.seconds,
        }
        if self.conf.retrain.epochs > 0 and self.context.may_begin("baseline_retrain"):
            evaluater = Evaluater(self.context, phase="baseline_retrain", subfolder="baseline")
            result = evaluater.evaluate(self.conf.retrain, self.space)
            test = result.train_metrics.test
            facts |= {
                "random_baseline_accuracy": None if test is None else test.top1,
                "random_baseline_params": count_params(result.model),
                "random_baseline_macs": count_macs(result.model, self.context.data.train.shape),
            }
        return facts

    def _explained(self, phase: str) -> AbstractContextManager[None]:
        from gradnas.pipeline.out_of_memory import explained  # which plans experiments

        return explained(self, phase)

    def known(self) -> dict[str, Any]:
        """What the folder's summary says already."""
        return self._summary.known()

    def record_given(self, desc: ModelDesc) -> dict[str, Any]:
        """Save an architecture that was given in place of a found one, and write the summary of it; returns that."""
        if self.context.folder is not None:
            desc.save(self.context.folder / "arch.json")
        summary = {**self._facts(), **self._arch_facts(desc)}
        self._summary.write(summary)
        return summary

    def record_search(self, search: SearchResult) -> dict[str, Any]:
        """Write summary and report of a search that is done; returns the summary."""
        assert search.model_desc is not None
        summary = {**self._facts(), **self._search_facts(search.model_desc, search)}
        summary["out_of_time"] = self._summary.out_of_time({})
        self._summary.write(summary)
        return summary

    def record_retraining(
        self, result: EvalResult, known: dict[str, Any], measured: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write summary and report of a retraining that is done.

        Args:
            result: What it gave.
            known: The summary before it, which is kept as far as the retraining does not say otherwise.
            measured: An earlier summary of the same network: the speed that it knows is not measured again.

        Returns:
            The summary.
        """
        found = {} if "arch_hash" in known else self._found_again()
        summary = {**known, **found, **self._facts(), **self._summary.of_training(result, self.conf.retrain, measured)}
        summary["out_of_time"] = self._summary.out_of_time(known)
        self._summary.write(summary)
        return summary

    def _found_again(self) -> dict[str, Any]:
        """What ``arch.json`` says where the summary has lost it, with a warning of what it cannot say of a search."""
        folder = self.context.folder
        if folder is None:
            return {}
        if self.conf.arch is None:
            warnings.warn(
                f"{folder / 'summary.json'} says nothing of the search: the architecture is told from arch.json. The "
                "figures of the search itself (accuracy, seconds, epochs) cannot be made again in this folder; the "
                "summary of the search has them.",
                stacklevel=3,
            )
        return self._arch_facts(folder.read_desc())

    @property
    def _summary(self) -> RunSummary:
        return RunSummary(self.context)

    def _facts(self) -> dict[str, Any]:
        facts = {**self._summary.of_data(), "space": self.conf.space.name}
        if self.conf.arch is not None:
            return {**facts, "arch": self.conf.arch}
        return {**facts, "strategy": self.conf.strategy.name, "strategy_options": self.conf.strategy.options}

    def _search_facts(self, found: ModelDesc, search: SearchResult) -> dict[str, Any]:
        metrics = search.search_metrics
        best = None if metrics is None else metrics.best_val_top1()
        return {
            **self._arch_facts(found),
            "search_seconds": None if metrics is None else metrics.seconds(),
            "search_val_accuracy": None if best is None or math.isnan(best) else best,
            "search_epochs": self._search_epochs(metrics),
            **(grid_facts(self.context.folder) if self.conf.grid.enabled and self.context.folder is not None else {}),
        }

    def _arch_facts(self, found: ModelDesc) -> dict[str, Any]:
        """What follows from a found architecture alone."""
        model = Model(found, registry=self.space.registry)
        return {
            "arch_hash": found.hash(),
            "genotype": genotype_text(found),
            "params": count_params(model),
            "macs": count_macs(model, self.context.data.train.shape),
        }

    def _search_epochs(self, metrics: Metrics | None) -> int:
        """How many the search has run, which an early stop shortens; of random architectures those of each budget."""
        if metrics is None:
            return 0
        return len(metrics) if isinstance(self.strategy, MetaOptimizer) else self.conf.search.epochs


def facts_of_search(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without what a retraining and a baseline have added, for the folder of another retraining.

    What was out of time is left out too: it says which phases of its own folder more time would go on with.
    """
    added = ("test_", "retrain_", "random_baseline_")
    return {
        key: value
        for key, value in summary.items()
        if not key.startswith(added) and key not in ("confusion", "latency", "throughput", "log_lines", "out_of_time")
    }


def make_finalizers(name: str, seed: int) -> Finalizers:
    """Finalizers by name: "" and ``default``, or ``random``. ValueError for another."""
    if name in ("", "default"):
        return Finalizers()
    if name == "random":
        return RandomFinalizers(derive_seed(seed, "finalizers"))
    raise ValueError(f"finalizers must be 'default' or 'random', got {name!r}.")


def resolve_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is the GPU if there is one. ValueError for an unknown or absent device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def load_source(conf: RunConf, *, download: bool = True) -> DataSource:
    """The data set of a configuration, with its augmentation settings applied.

    Args:
        conf: The configuration.
        download: Whether a named set that is not on this machine is fetched.

    Raises:
        ValueError: When the run was made with a data set object, which only Python can give again.
    """
    if conf.data.source is None:
        raise ValueError(
            "this run used a data set object given in Python, which its configuration cannot name. Call "
            "gradnas.search, gradnas.retrain or gradnas.train with the data set again."
        )
    data = load_with(conf.data.source, conf.data.load_options, root=conf.data.root, download=download)
    return with_augmentation(data, conf)


def with_augmentation(data: DataSource, conf: RunConf) -> DataSource:
    """The data set with the configured crop and flip where they are set."""
    crop, flip, window = conf.data.crop_padding, conf.data.flip, conf.data.resized_crop
    augmentation = data.augmentation.changed(crop_padding=crop, flip=flip, resized_crop=window)
    return replace(data, augmentation=augmentation)


def prepare(
    conf: RunConf,
    context: RunContext,
    space: ModelDescBuilder | None = None,
    strategy: Strategy | None = None,
) -> Experiment:
    """The experiment of a configuration; a space or strategy object wins over its name."""
    return Experiment(
        conf=conf,
        context=context,
        space=space if space is not None else build_space(conf.space, dataset_conf(context.data)),
        strategy=strategy if strategy is not None else build_strategy(conf.strategy),
    )


def dataset_conf(data: DataSource) -> DatasetConf:
    """What a network must know of a data set."""
    channels, height, width = data.train.shape
    return DatasetConf(channels=channels, image_size=(height, width), n_classes=data.train.n_classes)
