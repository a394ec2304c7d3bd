"""Train a network that was designed by hand."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradnas.api.folders import free_folder
from gradnas.api.inputs import Data, as_images, as_source, changed_settings, source_name
from gradnas.api.running import run_with
from gradnas.config import DataConf, Factory, ManualConf, ModelConf, RunConf, model_name
from gradnas.result import Result


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
    conf_train: ManualConf = changed_settings(ManualConf, ManualConf(), {"epochs": epochs, **settings})
    data = as_source(train_set)
    if test_set is not None:
        data = replace(data, test=as_images(test_set, data.train))
    conf = RunConf(
        data=DataConf(source=source_name(train_set) if test_set is None else None),
        model=ModelConf(name=model_name(model), options=dict(options or {})),
        retrain=conf_train.retraining(),
        seed=seed,
        device=device,
        tensorboard=tensorboard,
        max_time=max_time,
        deterministic=deterministic,
    )
    path = Path(out) if out is not None else free_folder("train")
    return run_with(conf, data, path, resume=resume, progress=progress)
