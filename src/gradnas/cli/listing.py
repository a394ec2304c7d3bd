"""``gradnas list``: what there is to choose from."""

import inspect
import re
from collections.abc import Callable, Mapping

from jsonargparse import ArgumentParser

from gradnas.cli.command import Command, Options
from gradnas.cli.errors import UsageError, did_you_mean_command
from gradnas.cli.options import without_markup
from gradnas.cli.output import say_table
from gradnas.config import FROM_DATA, SPACES, STRATEGIES, preset_names, preset_text
from gradnas.models import MODELS, PREFIX, torchvision_names


def list_kind(kind: str) -> None:
    """Print what there is of a kind. UsageError for an unknown kind, naming the nearest."""
    if kind not in KINDS:
        raise UsageError(f"there is no list of {kind!r}.{did_you_mean_command(kind, list(KINDS))}")
    columns, rows = KINDS[kind]()
    say_table(kind, columns, rows)


Table = tuple[list[str], list[list[str]]]


def _components(known: Mapping[str, type]) -> Table:
    rows = [[name, first_sentence(inspect.getdoc(kind)), _options(kind)] for name, kind in known.items()]
    return ["name", "description", "options and defaults"], rows


def _options(kind: Callable[..., object]) -> str:
    parameters = inspect.signature(kind).parameters.values()
    named = [p for p in parameters if p.name not in FROM_DATA and p.default is not inspect.Parameter.empty]
    return ", ".join(f"{p.name}={_short(p.default)}" for p in named)


def _short(default: object) -> str:
    text = str(default).replace("None", "null").replace("'", "").replace("(", "[").replace(")", "]")
    return text if len(text) <= 20 else "[…]"


def _spaces() -> Table:
    return _components(SPACES)


def _strategies() -> Table:
    return _components(STRATEGIES)


def _models() -> Table:
    rows = [[name, model.text, _options(model.build)] for name, model in MODELS.items()]
    count = len(torchvision_names())
    rows.append([f"{PREFIX}NAME", f"one of {count} classifiers of torchvision, such as {PREFIX}resnet18", ""])
    rows.append(["PACKAGE.MODULE:FACTORY", "a class of torch.nn.Module, or a function that says to return one", ""])
    return ["name", "description", "options and defaults"], rows


def _presets() -> Table:
    return ["name", "description"], [[name, _first_comment(preset_text(name))] for name in preset_names()]


def _datasets() -> Table:
    from gradnas.data import dataset_names
    from gradnas.data.named_sets import NAMED_SETS

    rows = []
    for name in dataset_names():
        known = NAMED_SETS[name]
        side = known.side or known.image_size
        shape = f"{known.channels}×{side}×{side}{'' if known.side else ' (resized)'}"
        counts = f"{known.n_train:,} / {known.n_test:,}"
        normalization = "measured" if known.normalization is None else "published"
        rows.append(
            [name, shape, str(known.n_classes), counts, normalization, known.augmentation_text(side), known.where]
        )
    where = "a folder or .zip with train/CLASS/image.jpg, or an .npz with x_train and y_train"
    rows.append(["PATH", "", "", "", "measured", "", where])
    return ["name", "images", "classes", "train / test", "normalization", "augmentation", "where"], rows


def _ops() -> Table:
    from gradnas.arch import ConvMacroParams, OpDesc
    from gradnas.ops import OPS, Op

    # Factories carry no text, the classes of what they make do. These settings are enough to make any of them.
    part = OpDesc("identity", {"conv": ConvMacroParams(8, 8), "stride": 1})  # type: ignore[arg-type]  # becomes Params
    settings = {**part.params, "n_ch": 8, "n_classes": 2, "out_states": 1}
    rows = []
    for name in OPS.names():
        desc = OpDesc(name, settings, children=(part,), children_ins=(0,))  # type: ignore[arg-type]  # becomes Params
        rows.append([name, first_sentence(inspect.getdoc(type(Op.create(desc, affine=True))))])
    return ["name", "description"], rows


KINDS: Mapping[str, Callable[[], Table]] = {
    "spaces": _spaces,
    "strategies": _strategies,
    "models": _models,
    "datasets": _datasets,
    "presets": _presets,
    "ops": _ops,
}


def first_sentence(docstring: str | None) -> str:
    """The first sentence of a docstring's first line, without the marks of its markup."""
    line = re.split(r"(?<=[a-z)}\d]\.) (?=[A-Z])", (docstring or "").split("\n", 1)[0])[0]
    return without_markup(line)


def _first_comment(text: str) -> str:
    return next((line.lstrip("# ") for line in text.splitlines() if line.startswith("#")), "")


def _add_list(parser: ArgumentParser) -> None:
    parser.add_argument("kind", type=str, help=f"One of {', '.join(KINDS)}.")


def _list(options: Options) -> None:
    list_kind(options["kind"])


LIST = Command(
    name="list",
    usage="|".join(KINDS),
    summary="List what there is to choose from.",
    add_options=_add_list,
    act=_list,
)
