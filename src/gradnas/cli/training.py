"""``gradnas train``: a network that was designed by hand."""

from typing import Any

from jsonargparse import ArgumentParser

from gradnas import api
from gradnas.cli.command import Command, Options
from gradnas.cli.errors import UsageError
from gradnas.cli.given_network import OF_SEARCHES, for_model
from gradnas.cli.options import Aliases, add_option, add_settings
from gradnas.cli.output import say_result
from gradnas.cli.running import add_sources, layers, out_folder, own_values, working_in
from gradnas.config import ManualConf, RunConf, from_values, layered

TRAIN_ALIASES: Aliases = {
    "--data": ("--data.source",),
    "--epochs": ("--retrain.epochs",),
    "--max-steps": ("--retrain.max_steps_per_epoch",),
    "--max-time": ("--max_time",),
}
_PHASE = "retrain"  # the phase that trains it


def _add_train(parser: ArgumentParser) -> None:
    parser.add_argument(
        "MODEL",
        type=str,
        help="A name of `gradnas list models`, torchvision.NAME, or package.module:factory.",
    )
    add_sources(parser, "runs/train", "--retrain.max_steps_per_epoch")
    add_option(parser, "--epochs", int, "N", "Short for --retrain.epochs.")
    add_settings(parser, RunConf, TRAIN_ALIASES, skip=(*OF_SEARCHES, _PHASE))
    add_settings(parser, ManualConf, TRAIN_ALIASES, skip=("l1_alphas",), prefix=_PHASE)


def _train(options: Options) -> None:
    flags = own_values(options)
    name = flags.pop("MODEL")
    model: dict[str, Any] = flags.pop("model", {})
    if "name" in model:
        raise UsageError(f"gradnas train takes its model as {name!r} already; leave out --model.name.")
    below, origins = layers(options)
    values = layered(for_model(below), {**flags, "model": {**model, "name": name}})
    conf = from_values(values, " + ".join([*origins, "options"]))
    with working_in(out_folder(options, "train")) as folder:
        result = api.run(conf, out=folder)
    say_result(result)


TRAIN = Command(
    name="train",
    usage="MODEL [--data SOURCE] [--epochs N] [--KEY VALUE ...] [--preset NAME] [--out DIR]",
    summary="Train a network that was designed by hand, and test it; nothing is searched.",
    details="MODEL is a name of `gradnas list models`, such as resnet20; one of torchvision, as torchvision.resnet18; "
    "or package.module:factory, which is imported and called. Its options are given as --model.options.width 8. Of a "
    "preset or file what it says of searching is left out, and of its retraining what networks of cells need: "
    "channels, cells, stems, inherit_weights, drop_path, aux_weight; so `gradnas train resnet20 --preset fast-cifar10` "
    "trains ResNet-20 by the fast recipe. Without other settings it is trained for 200 epochs with batches of 128 by "
    "SGD with learning rate 0.0333 falling to 0 by a cosine, without clipping or drop path.",
    add_options=_add_train,
    act=_train,
    aliases=TRAIN_ALIASES,
)
