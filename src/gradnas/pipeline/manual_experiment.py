"""A run that searches nothing: a network as it is, trained, tested and summarized."""

from dataclasses import dataclass
from typing import Any

from gradnas.config import RunConf, build_model
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.evaluater import EvalResult, Evaluater
from gradnas.pipeline.experiment import Experiment, dataset_conf, prepare
from gradnas.pipeline.run_summary import RunSummary


@dataclass(frozen=True, kw_only=True)
class ManualExperiment:
    """A run that trains a network as it is, in the phase ``retrain``, as a found one would be.

    Args:
        conf: The resolved configuration; it names a model.
        context: Data, seed, device, folder, listener; the folder must exist.
    """

    conf: RunConf
    context: RunContext

    def run(self) -> dict[str, Any]:
        """Train and test the network, or go on; a finished run gives its summary again.

        Returns:
            The summary, also written as ``summary.json``.
        """
        return self.record(self.train())

    def record(self, trained: EvalResult) -> dict[str, Any]:
        """Write summary and report of a training that is done; returns the summary."""
        summary = RunSummary(self.context)
        known = summary.known()
        facts = {"model": self.conf.model.name, "model_options": self.conf.model.options}
        training = summary.of_training(trained, self.conf.retrain, known)
        told = {**known, **summary.of_data(), **facts, **training}
        told["out_of_time"] = summary.out_of_time({})
        summary.write(told)
        return told

    def train(self) -> EvalResult:
        """Train the network and test it once."""
        from gradnas.pipeline.out_of_memory import explained  # which plans experiments

        data, model = dataset_conf(self.context.data), self.conf.model
        with explained(self, "retrain"):
            return Evaluater(self.context).evaluate_network(
                self.conf.retrain, lambda: build_model(model, data), model.identity
            )


AnyExperiment = Experiment | ManualExperiment
"""What a configuration asks for: a search and what follows it, or a network that is trained as it is."""


def prepare_run(conf: RunConf, context: RunContext) -> AnyExperiment:
    """The experiment of a configuration, whether it searches or names a model."""
    return prepare(conf, context) if conf.model.name is None else ManualExperiment(conf=conf, context=context)
