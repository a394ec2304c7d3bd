"""Train a found architecture."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from gradnas.api.folders import free_folder
from gradnas.api.inputs import Data, as_images, as_source, changed_settings, source_name
from gradnas.api.running import load, run_with
from gradnas.arch import PUBLISHED, Genotype
from gradnas.config import DataConf, RetrainConf, RunConf, same_run
from gradnas.data import DataSource
from gradnas.foundation.durations import seconds_of
from gradnas.foundation.names import did_you_mean
from gradnas.pipeline import (
    RunContext,
    RunFolder,
    facts_of_search,
    prepare,
    progress_listener,
    refuse_early,
    resolve_device,
    running,
)
from gradnas.pipeline.evaluater import check_inheritance
from gradnas.pipeline.running import search_seconds
from gradnas.result import Result


def retrain(
    result: Result | Genotype | str | os.PathLike[str],
    *,
    channels: int = 36,
    cells: int = 20,
    epochs: int = 600,
    train_set: Data | None = None,
    test_set: Data | None = None,
    seed: int | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str | None = None,
    tensorboard: bool | None = None,
    max_time: str | float | None = None,
    deterministic: bool | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Result:
    """Train a found or published architecture as a deeper, wider network, and test it once after the last epoch.

    Args:
        result: A result or its run folder; or an architecture that nobody has to search: a genotype, as an object or
            printed, or the name of a published one, such as ``DARTS_V2``.
        channels: Channels of a node in the first cells.
        cells: Number of cells.
        epochs: Passes over the whole training set.
        train_set: Training data; None takes that of the search. A published architecture needs it.
        test_set: Test data; None takes the test part of the data set of the search, if it has one.
        seed: Everything random follows from it; None takes that of the search, or 0 for a published architecture.
            Another one than that of the search needs a folder of its own, whose configuration then has it.
        out: A new run folder; None adds the network to the folder of the result, and takes the next free
            ``runs/retrain-N`` for a published architecture.
        resume: Continue a retraining that was interrupted.
        device: None takes that of the search, or the GPU if there is one.
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
        FileNotFoundError: When there is neither a run folder nor a published architecture of this name.
        TypeError: For an unknown setting, naming the nearest.
        ValueError: For data or settings that do not fit, saying what to do.
        KeyboardInterrupt, SystemExit: After Ctrl-C or SIGTERM, when the step in progress is done and saved.
    """
    conf_retrain = changed_settings(
        RetrainConf, RetrainConf(), {"channels": channels, "cells": cells, "epochs": epochs, **settings}
    )
    if conf_retrain.epochs < 1:
        raise ValueError("retraining needs at least one epoch, got epochs=0.")
    arch = given_architecture(result)
    if arch is not None:
        if train_set is None:
            raise ValueError(
                f"the architecture {shortened(arch)} was not searched here, so that no data set belongs to it: give "
                "train_set=… (`--data SOURCE`)."
            )
        conf = RunConf(
            data=DataConf(source=source_name(train_set) if test_set is None else None),
            arch=arch,
            retrain=conf_retrain,
            seed=seed or 0,
            device=device if device is not None else "auto",
            tensorboard=bool(tensorboard),
            max_time=max_time,
            deterministic=bool(deterministic),
        )
        data = _with_test(as_source(train_set), test_set)
        into = Path(out) if out is not None else free_folder("retrain")
        return run_with(conf, data, into, resume=resume, progress=progress)
    assert not isinstance(result, Genotype)
    found = result if isinstance(result, Result) else load(result)
    if found.config.model.name is not None:
        raise ValueError(
            f"{found.folder} has trained the model {found.config.model.name!r} as it is: no architecture was found "
            "that could be retrained. Train the model again with gradnas.train (`gradnas train`)."
        )
    into = found.folder if out is None else Path(out)
    in_place = into.resolve() == found.folder.resolve()
    own_seed = seed if seed is not None else found.config.seed
    if own_seed != found.config.seed and in_place:
        raise ValueError(
            f"the search has the seed {found.config.seed}: a retraining with seed {seed} needs a run folder of its "
            "own, out=…."
        )
    conf = replace(
        found.config,
        retrain=conf_retrain,
        seed=own_seed,
        device=device if device is not None else found.config.device,
        tensorboard=tensorboard if tensorboard is not None else found.config.tensorboard,
        max_time=_limit_of_all(max_time, found, into),
        deterministic=deterministic if deterministic is not None else found.config.deterministic,
    )
    source = None if train_set is None else source_name(train_set)
    if source is not None and source != conf.data.source and in_place:
        raise ValueError(
            f"the architecture was found on {conf.data.source!r}; retraining on {source!r} needs a run folder of its "
            "own: pass out=… (`--out`)."
        )
    same = train_set is None or (source is not None and source == conf.data.source)  # read as the search has read it
    data = _with_test(found.data() if train_set is None or same else as_source(train_set), test_set)
    if test_set is not None or not same:
        conf = replace(conf, data=DataConf(source=source if test_set is None else None))
    resolved = resolve_device(conf.device)
    context = RunContext(data=data, seed=conf.seed, device=resolved, resume=resume, tensorboard=conf.tensorboard)
    experiment = prepare(conf, context)
    refuse_early(experiment, search=False)
    if conf.retrain.inherit_weights:
        check_inheritance(experiment.space, found.folder / "arch.json", conf.retrain)
    with (
        running(context, _retrain_folder(found, conf, into, resume), conf, goes_on=RunFolder(into).is_run()) as going,
        progress_listener(progress) as listener,
    ):
        replace(experiment, context=replace(going, listener=listener)).retrain_only()
    return Result(into, data=data)


def given_architecture(result: Result | Genotype | str | os.PathLike[str]) -> str | None:
    """What :func:`retrain` was given in place of a run, for a configuration; None for a run or its folder.

    FileNotFoundError for a name that is neither, naming the nearest.
    """
    if isinstance(result, Genotype):
        return str(result)
    if isinstance(result, Result):
        return None
    if not isinstance(result, (str, os.PathLike)):
        raise TypeError(
            f"retrain takes a result, its run folder, a genotype or the name of a published one, got {result!r}."
        )
    name = os.fspath(result)
    if name.lstrip().startswith("Genotype("):  # too long for the name of a file
        return name
    if Path(name).exists():
        return None
    if name in PUBLISHED:
        return name
    published = "" if Path(name).name != name else f", nor a published architecture. {did_you_mean(name, PUBLISHED)}"
    raise FileNotFoundError(f"there is no run folder {name!r}{published or '.'}")


def _with_test(data: DataSource, test_set: Data | None) -> DataSource:
    return data if test_set is None else replace(data, test=as_images(test_set, data.train))


def _limit_of_all(max_time: str | float | None, found: Result, into: Path) -> str | float | None:
    """The limit of all phases of a folder, from that of its retraining."""
    if max_time is None or into.resolve() != found.folder.resolve():
        return max_time
    allowed_s, spent_s = seconds_of(max_time, "max_time"), search_seconds(RunFolder(into))
    return allowed_s + spent_s if spent_s > 0 else max_time


@contextmanager
def _retrain_folder(found: Result, conf: RunConf, into: Path, resume: bool) -> Iterator[RunFolder]:
    """The folder of a retraining, locked: that of the search, or one of its own."""

    def begin(folder: RunFolder) -> None:
        folder.take_arch(found.folder, weights=conf.retrain.inherit_weights)
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
