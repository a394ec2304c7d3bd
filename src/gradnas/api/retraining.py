"""Train a found architecture."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradnas.api.inputs import Data, as_images, as_source, changed_settings, source_name
from gradnas.api.running import load
from gradnas.config import DataConf, RetrainConf, RunConf, same_run
from gradnas.foundation.durations import seconds_of
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
from gradnas.pipeline.running import search_seconds
from gradnas.result import Result


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
    conf_retrain = changed_settings(
        RetrainConf, RetrainConf(), {"channels": channels, "cells": cells, "epochs": epochs, **settings}
    )
    if conf_retrain.epochs < 1:
        raise ValueError("retraining needs at least one epoch, got epochs=0.")
    into = found.folder if out is None else Path(out)
    data = found.data() if train_set is None else as_source(train_set)
    if test_set is not None:
        data = replace(data, test=as_images(test_set, data.train))
    conf = replace(
        found.config,
        retrain=conf_retrain,
        device=device if device is not None else found.config.device,
        tensorboard=tensorboard if tensorboard is not None else found.config.tensorboard,
        max_time=_limit_of_all(max_time, found, into),
        deterministic=deterministic if deterministic is not None else found.config.deterministic,
    )
    if train_set is not None or test_set is not None:
        source = None if test_set is not None or train_set is None else source_name(train_set)
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
