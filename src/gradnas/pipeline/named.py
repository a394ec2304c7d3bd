"""Trainers and runners under the names of the systems before, thin over the general ones."""

from typing import ClassVar

from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.experiment_runner import ExperimentRunner
from gradnas.strategies import Darts, DiDarts, MetaOptimizer, RandomSearch, Strategy


class BilevelArchTrainer(ArchTrainer):
    """:class:`ArchTrainer` for DARTS, of first order unless told ``strategy=Darts(order=2)``."""

    strategy_class: ClassVar[type[MetaOptimizer]] = Darts


class DidartsArchTrainer(ArchTrainer):
    """:class:`ArchTrainer` for DiDARTS, by default with its published settings."""

    strategy_class: ClassVar[type[MetaOptimizer]] = DiDarts


class DartsExperimentRunner(ExperimentRunner):
    """:class:`ExperimentRunner` for configurations whose strategy is ``darts``. ValueError for another strategy."""

    method: ClassVar[type[Strategy] | None] = Darts

    def trainer_class(self) -> type[ArchTrainer]:
        """:class:`BilevelArchTrainer`."""
        return BilevelArchTrainer


class DidartsExperimentRunner(ExperimentRunner):
    """:class:`ExperimentRunner` for configurations whose strategy is ``didarts``. ValueError for another strategy."""

    method: ClassVar[type[Strategy] | None] = DiDarts

    def trainer_class(self) -> type[ArchTrainer]:
        """:class:`DidartsArchTrainer`."""
        return DidartsArchTrainer


class RandomExperimentRunner(ExperimentRunner):
    """:class:`ExperimentRunner` for configurations whose strategy is ``random``. ValueError for another strategy."""

    method: ClassVar[type[Strategy] | None] = RandomSearch


class ManualExperimentRunner(ExperimentRunner):
    """:class:`ExperimentRunner` for configurations that name a model. ValueError for one that searches."""

    manual: ClassVar[bool] = True
