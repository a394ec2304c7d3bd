"""A run folder as something to compare: its settings, its data set, its numbers, and how far it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath

from gradnas.arch import CellDesc, CellType, ModelDesc
from gradnas.config import RunConf, from_stored
from gradnas.foundation.plain_text import one_line
from gradnas.report.comparison.rules import Settings, settings_of
from gradnas.report.records.plain_values import member, names, number, numbers, words
from gradnas.report.records.run_folder import RunFolder, read_run_folder
from gradnas.report.records.run_status import how_to_go_on

RUN_FILES = ("config.yaml", "environment.json")  # what every run folder has from its first second on


class State(StrEnum):
    """How far a run is."""

    TESTED = "tested"
    SEARCH_ONLY = "search only"
    NO_TEST_SET = "retrained, no test set"
    UNFINISHED = "not finished"
    DAMAGED = "summary.json damaged"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one training of one found network gave.

    Args:
        folder: The run folder, as it was given.
        seed: Its seed.
        state: How far it is; only what is tested has an accuracy.
        accuracy: Test accuracy in percent.
        interval: Its 95 % interval over test images, in percent.
        params: Parameters of the network that was tested, or of the found one at the size of the search.
        macs: Its multiply-adds for one image; 1 MAC = 2 FLOPs.
        search_s: Seconds of the search.
        retrain_s: Seconds of the retraining.
        machine: What computed it.
        arch: What tells the found architecture from others.
        cell: Its first cell of regular type.
    """

    folder: Path
    seed: int
    state: State
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    params: float | None = None
    macs: float | None = None
    search_s: float | None = None
    retrain_s: float | None = None
    machine: str = ""
    arch: str | None = None
    cell: CellDesc | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A run that is to be compared.

    Args:
        folder: The folder, as it was given.
        conf: Its configuration.
        settings: All settings by their dotted names, defaults filled in.
        dataset: What is known of the data set: fact to value as text.
        n_test: Test images that the accuracy is of.
        result: Its own network.
        baseline: Random search at the same budget, where it was trained.
        version: The gradnas that made it.
        to_go_on: What continues it, as a sentence; None when nothing is missing.
        problems: Sentences about files that could not be read.
    """

    folder: Path
    conf: RunConf = field(repr=False)
    settings: Settings = field(repr=False)
    dataset: Mapping[str, str]
    n_test: int | None
    result: Measurement
    baseline: Measurement | None
    version: str
    to_go_on: str | None
    problems: tuple[str, ...]

    @property
    def retrained(self) -> bool:
        """True when the run asks for a retraining, finished or not."""
        return self.conf.retrain.epochs > 0


def read_compared_run(folder: Path) -> ComparedRun:
    """Read a run folder, finished or not.

    Raises:
        FileNotFoundError: When there is no such folder, or it is no run.
        ValueError: When its configuration cannot be read: nobody could say what it may be compared with.
    """
    missing = [name for name in RUN_FILES if not (folder / name).is_file()]
    if missing and folder.is_dir():
        raise FileNotFoundError(
            f"{one_line(folder)} is not a run folder: it has no {' and no '.join(missing)}. Give folders that gradnas "
            "run, search or retrain wrote."
        )
    run = read_run_folder(folder)
    assert run.config is not None
    conf = from_stored(run.config, one_line(folder / "config.yaml"))
    damaged = any(problem.startswith("summary.json") for problem in run.problems)
    machine = _machine(run, conf)
    return ComparedRun(
        folder=folder,
        conf=conf,
        settings=settings_of(conf),
        dataset=_dataset(run, conf),
        n_test=_whole(run.summary.get("n_test")) if number(run.summary.get("test_accuracy")) is not None else None,
        result=_result(run, conf, folder, State.DAMAGED if damaged else _state(run, conf), machine),
        baseline=_baseline(run, conf, folder, machine),
        version=one_line(run.environment.get("gradnas", "of unknown version")),
        to_go_on=how_to_go_on(run),
        problems=tuple(one_line(f"{folder}: {problem}") for problem in run.problems),
    )


def _state(run: RunFolder, conf: RunConf) -> State:
    if number(run.summary.get("test_accuracy")) is not None:
        return State.TESTED
    if run.found is None and run.model is None:
        return State.UNFINISHED
    if conf.retrain.epochs == 0:
        return State.SEARCH_ONLY
    retrained = number(run.summary.get("retrain_seconds")) is not None
    return State.NO_TEST_SET if retrained else State.UNFINISHED


def _result(run: RunFolder, conf: RunConf, folder: Path, state: State, machine: str) -> Measurement:
    summary = run.summary
    interval = numbers(summary.get("test_accuracy_ci95"))
    return Measurement(
        folder=folder,
        seed=conf.seed,
        state=state,
        accuracy=number(summary.get("test_accuracy")),
        interval=(interval[0], interval[1]) if interval is not None and len(interval) == 2 else None,
        params=number(summary.get("params")),
        macs=number(summary.get("macs")),
        search_s=number(summary.get("search_seconds")),
        retrain_s=number(summary.get("retrain_seconds")),
        machine=machine,
        arch=words(summary.get("arch_hash")) or run.model,
        cell=_regular(run.found),
    )


def _baseline(run: RunFolder, conf: RunConf, folder: Path, machine: str) -> Measurement | None:
    summary = run.summary
    accuracy = number(summary.get("random_baseline_accuracy"))
    if accuracy is None:
        return None
    return Measurement(
        folder=folder,
        seed=conf.seed,
        state=State.TESTED,
        accuracy=accuracy,
        params=number(summary.get("random_baseline_params")),
        macs=number(summary.get("random_baseline_macs")),
        search_s=number(summary.get("random_baseline_search_seconds")),
        machine=machine,
        arch=words(summary.get("random_baseline_genotype")),
        cell=_regular(run.baseline),
    )


def _regular(desc: ModelDesc | None) -> CellDesc | None:
    return desc.first_cell(CellType.Regular) if desc is not None else None


def _dataset(run: RunFolder, conf: RunConf) -> dict[str, str]:
    """The facts that are known; a run that has found nothing yet knows its settings only."""
    summary = run.summary
    source = PurePath(conf.data.source).name if conf.data.source else ""
    facts = {"data set": words(summary.get("dataset")) or source.removesuffix(".npz").removesuffix(".zip")}
    network, shape = run.full or run.found, numbers(summary.get("image_shape"))
    if network is not None or (shape is not None and len(shape) == 3):
        channels, height, width = network.conf_model_desc.dataset.image_shape if network else map(int, shape or ())
        facts |= {"image size": f"{height}×{width}", "number of channels": str(channels)}
    elif conf.data.image_size is not None:
        facts["image size"] = f"{conf.data.image_size}×{conf.data.image_size}"
    classes = names(summary.get("classes"))
    if classes is not None:
        facts["list of classes"] = f"{len(classes)} ({', '.join(classes)})"
    for name, what in (("number of training images", "n_train"), ("number of test images", "n_test")):
        count = _whole(summary.get(what))
        if count is not None and (what == "n_train" or number(summary.get("test_accuracy")) is not None):
            facts[name] = f"{count:,}"  # a run without a test says of test images how many there are, not were used
    for what in ("mean", "std"):  # of each channel over the training images: other images have others
        values = numbers(member(summary.get("normalization"), what))
        if values is not None:
            facts[f"pixel {what}"] = ", ".join(f"{value:.5g}" for value in values)
    return {name: one_line(value) for name, value in facts.items() if value}


def _whole(value: object) -> int | None:
    count = number(value)
    return int(count) if count is not None and count > 0 else None


def _machine(run: RunFolder, conf: RunConf) -> str:
    gpu = run.environment.get("gpu")
    if gpu and not conf.device.startswith("cpu"):
        return one_line(gpu)
    threads = run.environment.get("threads")
    processor = one_line(run.environment.get("processor", ""))
    return f"{processor}, {one_line(threads)} {'thread' if threads == '1' else 'threads'}" if threads else processor
