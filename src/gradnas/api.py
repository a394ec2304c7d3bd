"""The ten-line path: search, retrain, load; and train, for what was designed by hand."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from gradnas.config import (
    ComponentConf,
    DataConf,
    Factory,
    GridConf,
    ManualConf,
    ModelConf,
    RetrainConf,
    RunConf,
    SearchConf,
    build_space,
    build_strategy,
    describe_space,
    describe_strategy,
    model_name,
    same_run,
)
from gradnas.data import (
    DataSource,
    ImageSet,
    LabeledImages,
    MapStyle,
    Normalization,
    StreamedSet,
    from_dataset,
    load_data,
)
from gradnas.data.source import default_augmentation
from gradnas.foundation.durations import seconds_of
from gradnas.foundation.names import did_you_mean
from gradnas.pipeline import (
    AnyExperiment,
    RunContext,
    RunFolder,
    dataset_conf,
    facts_of_search,
    load_source,
    prepare,
    prepare_run,
    progress_listener,
    refuse_early,
    resolve_device,
    running,
)
from gradnas.pipeline.running import is_settled, search_seconds
from gradnas.result import Result
from gradnas.spaces import ModelDescBuilder
from gradnas.strategies import Strategy

Data = str | os.PathLike[str] | ImageSet | DataSource | MapStyle
"""Images with labels: a name or path, what :func:`gradnas.data.load_data` gives, or a map-style dataset."""


def search(
    space: ModelDescBuilder | str,
    train_set: Data,
    *,
    strategy: Strategy | str = "darts",
    grid: GridConf | None = None,
    epochs: int = 50,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    val_set: Data | None = None,
    resume: bool = False,
    device: str = "auto",
    tensorboard: bool = False,
    max_time: str | float | None = None,
    deterministic: bool = False,
    progress: bool | None = None,
    **settings: Any,
) -> Result:
    """Search an architecture.

    Without a ``val_set`` the training set is split, stratified and seeded (``val_ratio``, by default half). A test set
    is never touched.

    Args:
        space: A space, or its name; a name takes shape and classes from the data.
        train_set: A map-style dataset of (image, label), a name or path as ``gradnas search --data`` takes it, an
            :class:`gradnas.data.ImageSet` or :class:`gradnas.data.DataSource`.
        strategy: A strategy, or its name.
        grid: Search at each size from that of the space up to these largest numbers of reductions, cells and nodes, and
            keep the best; ``result.summary["grid"]`` tells of all. None searches at the size of the space.
        epochs: Passes over the part of the training set that trains weights.
        seed: Everything random follows from it.
        out: The run folder; None takes the next free ``runs/search-N``.
        val_set: Held-out data for the architecture, in any form of ``train_set``.
        resume: Continue the run in ``out`` if there is one.
        device: ``auto``, ``cpu``, ``cuda``, ….
        tensorboard: Also write event files into ``tensorboard/`` of the run folder.
        max_time: Time that training may take, such as ``"1h30m"``, or in seconds; then the search stops in time and
            gives the architecture that it has reached. Earlier parts of a resumed search count.
        deterministic: Use torch's deterministic algorithms alone; an operation that has none is an error.
        progress: Show a progress bar; None shows one in a terminal.
        settings: Fields of :class:`gradnas.config.SearchConf`: ``batch_size``, ``optimizer``, ``precision``, ….

    Returns:
        The result; ``result.arch`` is the found description.

    Raises:
        FileExistsError: When ``out`` holds something and ``resume`` is off.
        FloatingPointError: When a loss or gradient is not finite, naming step, images and the last checkpoint.
        OSError: When the folder cannot be written, or another process works in it.
        TypeError: For an unknown setting, naming the nearest.
        ValueError: For data or settings that do not fit, saying what to do.
        KeyboardInterrupt, SystemExit: After Ctrl-C or SIGTERM, when the step in progress is done and saved.
    """
    conf_search = _settings(SearchConf, SearchConf(), {"epochs": epochs, **settings})
    data = _source(train_set)
    held_out = None if val_set is None else _images(val_set, data.train)
    if isinstance(space, str):
        space = build_space(ComponentConf(name=space), dataset_conf(data))
    _check_fits(space, data)
    if isinstance(strategy, str):
        strategy = build_strategy(ComponentConf(name=strategy))
    conf = RunConf(
        data=DataConf(source=_source_name(train_set) if val_set is None else None),
        space=describe_space(space),
        strategy=describe_strategy(strategy),
        search=conf_search,
        grid=grid if grid is not None else GridConf(),
        seed=seed,
        device=device,
        tensorboard=tensorboard,
        max_time=max_time,
        deterministic=deterministic,
    )
    resolved = resolve_device(device)
    path = Path(out) if out is not None else free_folder("search")
    if resume and _is_finished_search(path, conf):
        return Result(path, data=data)
    context = RunContext(
        data=data, val_set=held_out, seed=seed, device=resolved, resume=resume, tensorboard=tensorboard
    )
    experiment = prepare(conf, context, space, strategy)
    refuse_early(experiment)
    with _entered(experiment, path, progress) as entered:
        entered.run()
    return Result(path, data=data)


def retrain(
    result: Result | str | os.PathLike[str],
    *,
    channels: int = 36,
    cells: int = 20,
    epochs: int = 600,
    train_set: Data | None = None,
    test_set: Data | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str | None = None,
    tensorboard: bool | None = None,
    max_time: str | float | None = None,
    deterministic: bool | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Result:
    """Train the found architecture as a deeper, wider network, and test it once after the last epoch.

    Args:
        result: A result or its run folder.
        channels: Channels of a node in the first cells.
        cells: Number of cells.
        epochs: Passes over the whole training set.
        train_set: Training data; None takes that of the search.
        test_set: Test data; None takes the test part of the data set of the search, if it has one.
        out: A new run folder; None adds the network to the folder of the result.
        resume: Continue a retraining that was interrupted.
        device: None takes that of the search.
        tensorboard: Also write event files into ``tensorboard/`` of the run folder; None does as the search.
        max_time: Time that the retraining may take, such as ``"1h30m"``, or in seconds; then it stops in time, and the
            network is tested as it is. None sets no limit. In the folder of the search the configuration stores it with
            the time of the search added, since the limit of a folder is one of all its phases.
        deterministic: Use torch's deterministic algorithms alone; None does as the search.
        progress: Show a progress bar; None shows one in a terminal.
        settings: Fields of :class:`gradnas.config.RetrainConf`: ``batch_size``, ``optimizer``, ``aux_weight``,
            ``cutout``, ``drop_path``, ….

    Returns:
        The result; ``result.model`` is the trained network.

    Raises:
        FileExistsError: When the folder has a retrained network already (choose ``out``), or ``out`` holds something.
        FloatingPointError: When a loss or gradient is not finite, naming step, images and the last checkpoint.
        OSError: When the folder cannot be written, or another process works in it.
        TypeError: For an unknown setting, naming the nearest.
        ValueError: For data or settings that do not fit, saying what to do.
        KeyboardInterrupt, SystemExit: After Ctrl-C or SIGTERM, when the step in progress is done and saved.
    """
    found = result if isinstance(result, Result) else load(result)
    if found.config.model.name is not None:
        raise ValueError(
            f"{found.folder} has trained the model {found.config.model.name!r} as it is: no architecture was found "
            "that could be retrained. Train the model again with gradnas.train (`gradnas train`)."
        )
    conf_retrain = _settings(
        RetrainConf, RetrainConf(), {"channels": channels, "cells": cells, "epochs": epochs, **settings}
    )
    if conf_retrain.epochs < 1:
        raise ValueError("retraining needs at least one epoch, got epochs=0.")
    into = found.folder if out is None else Path(out)
    data = found.data() if train_set is None else _source(train_set)
    if test_set is not None:
        data = replace(data, test=_images(test_set, data.train))
    conf = replace(
        found.config,
        retrain=conf_retrain,
        device=device if device is not None else found.config.device,
        tensorboard=tensorboard if tensorboard is not None else found.config.tensorboard,
        max_time=_limit_of_all(max_time, found, into),
        deterministic=deterministic if deterministic is not None else found.config.deterministic,
    )
    if train_set is not None or test_set is not None:
        source = None if test_set is not None or train_set is None else _source_name(train_set)
        if source is not None and source != conf.data.source and out is None:
            raise ValueError(
                f"the architecture was found on {conf.data.source!r}; retraining on {source!r} needs a run folder "
                "of its own: pass out=…."
            )
        conf = replace(conf, data=DataConf(source=source))
    resolved = resolve_device(conf.device)
    context = RunContext(data=data, seed=conf.seed, device=resolved, resume=resume, tensorboard=conf.tensorboard)
    experiment = prepare(conf, context)
    refuse_early(experiment, search=False)
    with (
        running(context, _retrain_folder(found, conf, into, resume), conf, goes_on=RunFolder(into).is_run()) as going,
        progress_listener(progress) as listener,
    ):
        replace(experiment, context=replace(going, listener=listener)).retrain_only()
    return Result(into, data=data)


def train(
    model: str | Factory,
    train_set: Data,
    *,
    test_set: Data | None = None,
    epochs: int = 200,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str = "auto",
    tensorboard: bool = False,
    max_time: str | float | None = None,
    deterministic: bool = False,
    progress: bool | None = None,
    **settings: Any,
) -> Result:
    """Train a network that was designed by hand, and test it once after the last epoch: nothing is searched.

    Trainer, data, run folder and report are those of found networks, so that both can be compared.

    Args:
        model: Its name, as ``gradnas list models`` shows it, such as ``resnet20``; one of torchvision, as
            ``torchvision.resnet18``; or a factory, as ``package.module:factory`` or the class or function itself. A
            factory is called with those of ``in_channels``, ``image_size`` and ``n_classes`` (or ``num_classes``) that
            it names. A function says by its annotation that it returns a ``torch.nn.Module``.
        train_set: Training data, in any form of :func:`search`.
        test_set: Test data; None takes the test part of the training data, if it has one.
        epochs: Passes over the training set.
        options: Further arguments of the factory.
        seed: Everything random follows from it.
        out: The run folder; None takes the next free ``runs/train-N``.
        resume: Continue the run in ``out`` if there is one.
        device: ``auto``, ``cpu``, ``cuda``, ….
        tensorboard: Also write event files into ``tensorboard/`` of the run folder.
        max_time: Time that training may take, such as ``"1h30m"``, or in seconds; then it stops in time, and the
            network is tested as it is. Earlier parts of a resumed run count.
        deterministic: Use torch's deterministic algorithms alone; an operation that has none is an error.
        progress: Show a progress bar; None shows one in a terminal.
        settings: Fields of :class:`gradnas.config.ManualConf`: ``batch_size``, ``optimizer``, ``precision``, ….

    Returns:
        The result; ``result.model`` is the trained network.

    Raises:
        FileExistsError: When ``out`` holds something and ``resume`` is off.
        FloatingPointError: When a loss or gradient is not finite, naming step, images and the last checkpoint.
        OSError: When the folder cannot be written, or another process works in it.
        TypeError: For an unknown setting, naming the nearest, or a network that is built already.
        ValueError: For a model, data or settings that do not fit, saying what to do.
        KeyboardInterrupt, SystemExit: After Ctrl-C or SIGTERM, when the step in progress is done and saved.
    """
    conf_train: ManualConf = _settings(ManualConf, ManualConf(), {"epochs": epochs, **settings})
    data = _source(train_set)
    if test_set is not None:
        data = replace(data, test=_images(test_set, data.train))
    conf = RunConf(
        data=DataConf(source=_source_name(train_set) if test_set is None else None),
        model=ModelConf(name=model_name(model), options=dict(options or {})),
        retrain=conf_train.retraining(),
        seed=seed,
        device=device,
        tensorboard=tensorboard,
        max_time=max_time,
        deterministic=deterministic,
    )
    path = Path(out) if out is not None else free_folder("train")
    return _run(conf, data, path, resume=resume, progress=progress)


def run(
    conf: RunConf, *, out: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool | None = None
) -> Result:
    """Everything a configuration asks for: search, retraining, random baseline, summary, report; or a model, trained.

    Args:
        conf: The configuration, e.g. ``gradnas.config.load_preset("demo")``.
        out: The run folder; None takes the next free ``runs/run-N``.
        resume: Continue the run in ``out`` if there is one.
        progress: Show a progress bar; None shows one in a terminal.

    Raises:
        FileExistsError: When ``out`` holds something and ``resume`` is off.
        FloatingPointError: When a loss or gradient is not finite, naming step, images and the last checkpoint.
        OSError: When the folder cannot be written, or another process works in it.
        ValueError: For data or settings that do not fit, saying what to do.
        KeyboardInterrupt, SystemExit: After Ctrl-C or SIGTERM, when the step in progress is done and saved.
    """
    path = Path(out) if out is not None else free_folder("run")
    return _run(conf, load_source(conf), path, resume=resume, progress=progress)


def _run(conf: RunConf, data: DataSource, path: Path, *, resume: bool, progress: bool | None) -> Result:
    """Everything a configuration asks for, with its data loaded."""
    device = resolve_device(conf.device)
    context = RunContext(data=data, seed=conf.seed, device=device, resume=resume, tensorboard=conf.tensorboard)
    experiment = prepare_run(conf, context)
    refuse_early(experiment)
    with _entered(experiment, path, progress) as entered:
        entered.run()
    return Result(path, data=data)


def resume(
    folder: str | os.PathLike[str],
    *,
    max_time: str | float | None = None,
    on_nonfinite: str | None = None,
    progress: bool | None = None,
) -> Result:
    """Continue the run in a folder with the configuration stored there; a finished run gives its result.

    On a CPU the result is bit for bit that of a run that was never interrupted, whatever interrupted it.

    Args:
        folder: The run folder.
        max_time: Time that all phases in the folder may take together, what they have taken included; None keeps the
            limit. It does not go on with a search whose retraining has begun.
        on_nonfinite: The answer to numbers that are not finite from now on, see :class:`gradnas.config.SearchConf`;
            None keeps it.
        progress: Show a progress bar; None shows one in a terminal.

    Raises:
        FileNotFoundError: When there is no run.
        ValueError: When the run used a data set object that only Python can give again, or no checkpoint is readable.
        FloatingPointError, OSError, KeyboardInterrupt, SystemExit: As :func:`search`.
    """
    stored = RunFolder.open(folder)
    conf = stored.read_config()
    if max_time is not None:
        conf = replace(conf, max_time=max_time)
    if on_nonfinite is not None:
        conf = _answering(conf, on_nonfinite, search_is_over=_search_is_over(stored))
    if (stored / "arch.json").is_file() and not any((stored / "checkpoints").glob("search*")):
        # a retraining into a folder of its own: what was found elsewhere must not be searched again
        settings = {field.name: getattr(conf.retrain, field.name) for field in fields(conf.retrain)}
        return retrain(folder, resume=True, max_time=conf.max_time, progress=progress, **settings)
    return run(conf, out=folder, resume=True, progress=progress)


def load(folder: str | os.PathLike[str]) -> Result:
    """The result of an earlier run, here or on another machine. FileNotFoundError when there is none."""
    return Result(folder)


def _settings(kind: type[Any], default: Any, changes: dict[str, Any]) -> Any:
    known = list(kind.__dataclass_fields__)
    for name in changes:
        if name not in known:
            raise TypeError(f"unknown setting {name!r}. {did_you_mean(name, known)}")
    return replace(default, **changes)


def _source_name(dataset: Data) -> str | None:
    return os.fspath(dataset) if isinstance(dataset, (str, os.PathLike)) else None


def _source(dataset: Data) -> DataSource:
    if isinstance(dataset, DataSource):
        return dataset
    if isinstance(dataset, (str, os.PathLike)):
        return load_data(dataset)
    images = dataset if isinstance(dataset, ImageSet) else from_dataset(dataset)
    return DataSource(
        name=type(dataset).__name__,
        train=images,
        test=None,
        augmentation=default_augmentation(images),
        normalization=Normalization.of(images),
    )


def _images(dataset: Data, like: LabeledImages) -> LabeledImages:
    images: LabeledImages
    if isinstance(dataset, (ImageSet, StreamedSet)):
        images = dataset
    elif isinstance(dataset, (DataSource, str, os.PathLike)):
        images = _source(dataset).train
    else:
        images = from_dataset(dataset, classes=like.classes)
    if (images.shape, images.dtype, images.classes) != (like.shape, like.dtype, like.classes):
        raise ValueError(
            f"the held-out images are {images.shape} {images.dtype} with the classes "
            f"{list(images.classes)[:10]}, the training images {like.shape} {like.dtype} with "
            f"{list(like.classes)[:10]}. "
            "Both must have one size, one type and the same classes in one order."
        )
    return images


def _check_fits(space: ModelDescBuilder, data: DataSource) -> None:
    ours, theirs = space.settings.dataset, dataset_conf(data)
    if ours != theirs:
        raise ValueError(
            f"the space is for {ours.channels} channels, {ours.image_size[0]}×{ours.image_size[1]} pixels and "
            f"{ours.n_classes} classes, the data has {theirs.channels}, {theirs.image_size[0]}×{theirs.image_size[1]} "
            f"and {theirs.n_classes}. Build the space with in_channels={theirs.channels}, "
            f"image_size={theirs.image_size}, n_classes={theirs.n_classes}."
        )


AnyRun = TypeVar("AnyRun", bound=AnyExperiment)


@contextmanager
def _entered(experiment: AnyRun, path: Path, progress: bool | None) -> Iterator[AnyRun]:
    """The experiment in its folder, which is locked, with everything that a run in progress needs."""
    conf, context = experiment.conf, experiment.context
    folder = RunFolder.entered(path, conf, resume=context.resume)
    goes_on = context.resume and RunFolder(path).is_run()
    with running(context, folder, conf, goes_on=goes_on) as going, progress_listener(progress) as listener:
        yield replace(experiment, context=replace(going, listener=listener))


def _limit_of_all(max_time: str | float | None, found: Result, into: Path) -> str | float | None:
    """The limit of all phases of a folder, from that of its retraining."""
    if max_time is None or into.resolve() != found.folder.resolve():
        return max_time
    allowed_s, spent_s = seconds_of(max_time, "max_time"), search_seconds(RunFolder(into))
    return allowed_s + spent_s if spent_s > 0 else max_time


def _answering(conf: RunConf, on_nonfinite: str, *, search_is_over: bool) -> RunConf:
    """The configuration with another answer to numbers that are not finite; a search that is over may keep its own."""
    answer: Any = {"on_nonfinite": on_nonfinite}
    conf = replace(conf, retrain=replace(conf.retrain, **answer))
    if conf.model.name is not None:
        return conf
    try:
        return replace(conf, search=replace(conf.search, **answer))
    except ValueError as refused:
        if not search_is_over:
            raise
        if conf.baseline.samples > 0:
            kept = f"the brief trainings of the random baseline keep on_nonfinite={conf.search.on_nonfinite}"
            warnings.warn(f"{kept}, as they take the settings of the search: {refused}", stacklevel=3)
        return conf


def _search_is_over(folder: RunFolder) -> bool:
    """Whether a resume does not go on with the search: it has run to its end, or a retraining was made from it."""
    if not (folder / "arch.json").is_file():
        return False
    cut_short = (folder.read_json("summary.json") or {}).get("out_of_time") or ()
    return is_settled(folder) or not any(phase.partition("_")[0] == "search" for phase in cut_short)


def _is_finished_search(path: Path, conf: RunConf) -> bool:
    """True when the folder holds the finished search of this configuration, whatever was done with it since."""
    folder = RunFolder(path)
    if not folder.is_run() or not _search_is_over(folder):
        return False
    stored = folder.read_config()
    later = {name: getattr(conf, name) for name in ("retrain", "baseline", "device", "tensorboard", "deterministic")}
    return same_run(replace(stored, **later), conf)


@contextmanager
def _retrain_folder(found: Result, conf: RunConf, into: Path, resume: bool) -> Iterator[RunFolder]:
    """The folder of a retraining, locked: that of the search, or one of its own."""

    def begin(folder: RunFolder) -> None:
        found.arch.clone().save(folder / "arch.json")
        folder.write_json("summary.json", facts_of_search(found.summary))

    if into.resolve() != found.folder.resolve():
        with RunFolder.entered(into, conf, resume=resume, begin=begin) as folder:
            if folder.read_desc() != found.arch:
                raise ValueError(f"{into} retrains another architecture. Choose another folder with out=….")
            yield folder
        return
    with RunFolder.open(found.folder).locked() as folder:
        begun = (folder / "full_arch.json").exists()
        if begun and not resume:
            raise FileExistsError(
                f"{folder.path} has a retrained network already. Choose another folder with out=…, or continue an "
                f"interrupted retraining with resume=True or `gradnas resume {folder.path}`. Nothing was overwritten."
            )
        stored = folder.read_config()  # not found.config, which may be older than the retraining
        if begun and not same_run(replace(conf, retrain=stored.retrain), conf):
            raise ValueError(
                f"the retraining in {folder.path} has other settings: {stored.retrain}. Continue it with those, or "
                "choose another folder with out=…. Nothing was overwritten."
            )
        folder.write_config(conf)
        yield folder


def free_folder(kind: str) -> Path:
    """The next free ``runs/<kind>-N``."""
    taken = 1
    while (Path("runs") / f"{kind}-{taken}").exists():
        taken += 1
    return Path("runs") / f"{kind}-{taken}"
