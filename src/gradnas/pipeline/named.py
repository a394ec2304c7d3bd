"""DARTS and DiDARTS under the names of the systems before: trainers and runners, thin over the general ones."""

from typing import ClassVar

from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.experiment_runner import ExperimentRunner
from gradnas.strategies import Darts, DiDarts, MetaOptimizer, Strategy


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
