"""Search an architecture."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradnas.api.folders import entered, free_folder
from gradnas.api.inputs import Data, as_images, as_source, changed_settings, check_fits, source_name
from gradnas.config import (
    ComponentConf,
    DataConf,
    GridConf,
    RunConf,
    SearchConf,
    build_space,
    build_strategy,
    describe_space,
    describe_strategy,
    same_run,
)
from gradnas.pipeline import RunContext, RunFolder, dataset_conf, prepare, refuse_early, resolve_device
from gradnas.pipeline.running import is_settled
from gradnas.result import Result
from gradnas.spaces import ModelDescBuilder
from gradnas.strategies import Strategy


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
            :class:`gradnas.data.ImageSet`, :class:`gradnas.data.StreamedSet` or :class:`gradnas.data.DataSource`.
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
    conf_search = changed_settings(SearchConf, SearchConf(), {"epochs": epochs, **settings})
    data = as_source(train_set)
    held_out = None if val_set is None else as_images(val_set, data.train)
    if isinstance(space, str):
        space = build_space(ComponentConf(name=space), dataset_conf(data))
    check_fits(space, data)
    if isinstance(strategy, str):
        strategy = build_strategy(ComponentConf(name=strategy))
    conf = RunConf(
        data=DataConf(source=source_name(train_set) if val_set is None else None),
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
    with entered(experiment, path, progress) as going:
        going.run()
    return Result(path, data=data)


def search_is_over(folder: RunFolder) -> bool:
    """Whether a resume does not go on with the search: it has run to its end, or a retraining was made from it."""
    if not (folder / "arch.json").is_file():
        return False
    cut_short = (folder.read_json("summary.json") or {}).get("out_of_time") or ()
    return is_settled(folder) or not any(phase.partition("_")[0] == "search" for phase in cut_short)


def _is_finished_search(path: Path, conf: RunConf) -> bool:
    """True when the folder holds the finished search of this configuration, whatever was done with it since."""
    folder = RunFolder(path)
    if not folder.is_run() or not search_is_over(folder):
        return False
    stored = folder.read_config()
    later = {name: getattr(conf, name) for name in ("retrain", "baseline", "device", "tensorboard", "deterministic")}
    return same_run(replace(stored, **later), conf)
