"""A network of a stranger, looked at before it is trained."""

import torch
from torch import Tensor

from gradnas.arch import DatasetConf
from gradnas.config import ModelConf, RetrainConf, build_model
from gradnas.costs import count_macs
from gradnas.foundation.seeds import seeded_initialization

_REFUSED = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, AssertionError)


def check_network(conf: ModelConf, retrain: RetrainConf, data: DatasetConf, seed: int) -> None:
    """Refuse a network that cannot be trained on such images, by a pass on two of noise.

    Args:
        conf: The network.
        retrain: How it will be trained.
        data: Shape of the images and number of classes.
        seed: Of the run.

    Raises:
        ValueError: For a network that cannot be built, has no weights, refuses the images, gives something else than
            logits of shape (B, n_classes), lacks the auxiliary logits that the settings weigh, or cannot be counted.
    """
    name, shape = conf.name, data.image_shape
    with seeded_initialization(seed, "check"):  # nothing of this stays
        model = build_model(conf, data)
        if next(model.parameters(), None) is None:
            raise ValueError(f"model {name!r} has no weights to train.")
        try:
            with torch.no_grad():
                output = model.train()(torch.randn(2, *shape))
        except _REFUSED as error:
            raise ValueError(f"model {name!r} cannot read images of shape {shape}: {_first_line(error)}") from error
    _check_output(output, conf, retrain, data)
    try:
        count_macs(model, shape)
    except _REFUSED as error:
        raise ValueError(
            f"the multiply-adds of model {name!r} cannot be counted, for which it runs on torch's meta device: "
            f"{_first_line(error)}. Let its forward pass make tensors on the device of the images."
        ) from error


def _check_output(output: object, conf: ModelConf, retrain: RetrainConf, data: DatasetConf) -> None:
    logits, aux = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
    if not isinstance(logits, Tensor) or not isinstance(aux, Tensor | None):
        raise ValueError(
            f"model {conf.name!r} must give logits, or a pair of logits and auxiliary logits or None, got "
            f"{_kind(output)}."
        )
    for what, given in (("logits", logits), ("auxiliary logits", aux)):
        if given is not None and tuple(given.shape) != (2, data.n_classes):
            raise ValueError(
                f"model {conf.name!r} gives {what} of shape {tuple(given.shape)} for two images, the data has "
                f"{data.n_classes} classes: (2, {data.n_classes}) is wanted. Let its factory take n_classes."
            )
    if retrain.aux_weight > 0 and aux is None:
        raise ValueError(
            f"aux_weight={retrain.aux_weight} has no effect: model {conf.name!r} gives no auxiliary logits. Set it to "
            "0."
        )


def _kind(output: object) -> str:
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)} ({', '.join(type(part).__name__ for part in output)})"
    return f"a {type(output).__name__}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
