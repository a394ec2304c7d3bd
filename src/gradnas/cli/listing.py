"""``gradnas list``: what there is to choose from."""

import inspect
import re
from collections.abc import Callable, Mapping

from jsonargparse import ArgumentParser

from gradnas.cli.command import Command, Options
from gradnas.cli.errors import UsageError, did_you_mean_command
from gradnas.cli.output import say_table
from gradnas.config import SPACES, STRATEGIES, preset_names, preset_text

FROM_DATA = ("in_channels", "image_size", "n_classes")


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


def _options(kind: type) -> str:
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


def _presets() -> Table:
    return ["name", "description"], [[name, _first_comment(preset_text(name))] for name in preset_names()]


def _datasets() -> Table:
    from gradnas.data import dataset_names
    from gradnas.data.torchvision_sets import RECIPES

    rows = []
    for name in dataset_names():
        recipe = RECIPES.get(name)
        what = (
            f"torchvision.datasets.{recipe.class_name}, downloaded when it is first used"
            if recipe
            else "handwritten digits that scikit-learn brings along: always there"
        )
        rows.append([name, what])
    rows.append(["PATH", "a folder or .zip with train/CLASS/image.jpg, or an .npz with x_train and y_train"])
    return ["name", "description"], rows


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
    "datasets": _datasets,
    "presets": _presets,
    "ops": _ops,
}


def first_sentence(docstring: str | None) -> str:
    """The first sentence of a docstring's first line, without the marks of its markup."""
    line = re.split(r"(?<=[a-z)}\d]\.) (?=[A-Z])", (docstring or "").split("\n", 1)[0])[0]
    return re.sub(r":\w+:`([^`]*)`", r"\1", line).replace("``", "")


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
