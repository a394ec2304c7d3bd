"""What ``summary.json`` says of a run: its data, what a training gave, which phases were out of time."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gradnas.config import RetrainConf
from gradnas.costs import count_macs, count_params, measure_latency, measure_throughput
from gradnas.data import class_balance
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.evaluater import EvalResult
from gradnas.report.records.share_intervals import wilson_interval


@dataclass(frozen=True)
class RunSummary:
    """The facts that searches and trainings of a given network have in common.

    Args:
        context: Data, seed and folder of the run.
    """

    context: RunContext

    def known(self) -> dict[str, Any]:
        """What the folder's summary says already."""
        return (self.context.folder.read_json("summary.json") if self.context.folder is not None else None) or {}

    def of_data(self) -> dict[str, Any]:
        """What is true of the data and the seed."""
        data = self.context.data
        return {
            "dataset": data.name,
            "classes": list(data.train.classes),
            "class_balance": asdict(class_balance(data)),
            "n_train": len(data.train),
            "n_test": None if data.test is None else len(data.test),
            "image_shape": list(data.train.shape),
            "pixels": str(data.train.dtype).removeprefix("torch."),
            "normalization": asdict(data.normalization),
            "seed": self.context.seed,
        }

    def of_training(self, result: EvalResult, conf: RetrainConf, measured: Mapping[str, Any]) -> dict[str, Any]:
        """What a training of a network adds.

        Args:
            result: What it gave.
            conf: Its settings.
            measured: An earlier summary of the same network: the speed that it knows is not measured again.
        """
        metrics, test, report = result.train_metrics, result.train_metrics.test, result.test_report
        shape = self.context.data.train.shape
        n = 0 if result.confusion is None else int(result.confusion.sum())  # max_steps_per_epoch may shorten the test
        return {
            "test_accuracy": None if test is None else test.top1,
            "test_accuracy_ci95": None if test is None else [100 * end for end in wilson_interval(test.top1 / 100, n)],
            "test_loss": None if test is None else test.loss,
            "test_top5_accuracy": None if test is None else test.top5,
            "test_class_accuracies": None if report is None else list(report.class_accuracies),
            "test_calibration_error": None if report is None else report.calibration_error,
            "test_calibration_bins": None if report is None else [asdict(each) for each in report.bins],
            "n_test": n or None,
            "confusion": None if result.confusion is None else result.confusion.tolist(),
            "params": count_params(result.model),
            "macs": count_macs(result.model, shape),
            "latency": measured.get("latency") or asdict(measure_latency(result.model, shape)),
            "throughput": measured.get("throughput") or asdict(measure_throughput(result.model, shape)),
            "retrain_seconds": metrics.seconds(),
            "retrain_epochs": conf.epochs,
        }

    def out_of_time(self, known: dict[str, Any]) -> list[str]:
        """The phases that the limit of time has cut short or kept from beginning, those known before among them."""
        phases = {**dict.fromkeys(known.get("out_of_time", ()), True), **self.context.stop.cut_short}
        return [phase for phase, cut_short in phases.items() if cut_short]

    def write(self, summary: dict[str, Any]) -> None:
        """Write the summary and the report, where the run has a folder."""
        from gradnas.report import write_report  # draws; a search alone should not pay for importing it

        if self.context.folder is not None:
            summary["log_lines"] = self.context.folder.count_lines()
            self.context.folder.write_json("summary.json", summary)
            write_report(self.context.folder.path)
