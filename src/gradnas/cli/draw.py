"""``gradnas draw``."""

from pathlib import Path

from jsonargparse import ArgumentParser

from gradnas import api
from gradnas.arch import ModelDesc
from gradnas.cli.command import Command, Options
from gradnas.cli.options import add_option
from gradnas.cli.output import say


def _add_draw(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=str, help="A run folder, or an arch.json.")
    add_option(parser, "--out", str, "FILE", "Ends in .svg or .png; by default arch.svg in the run folder.")


def _draw(options: Options) -> None:
    from gradnas.report import draw

    source = Path(options["folder"])
    if source.is_file():
        desc, default = ModelDesc.load(source), source.with_suffix(".svg")
    else:
        result = api.load(source)
        desc, default = result.arch, result.folder / "arch.svg"
    say(f"drawing: {draw(desc, options.get('out', default))}")


DRAW = Command(
    name="draw",
    usage="FOLDER [--out FILE.svg|FILE.png]",
    summary="Draw the found architecture.",
    add_options=_add_draw,
    act=_draw,
)
