"""``gradnas draw``."""

from pathlib import Path

from jsonargparse import ArgumentParser

from gradnas import api
from gradnas.arch import PUBLISHED, Genotype, ModelDesc
from gradnas.cli.command import Command, Options
from gradnas.cli.options import add_option
from gradnas.cli.output import say
from gradnas.foundation.names import nearest

CHANNELS, CELLS = 36, 20  # of a genotype, which says nothing of its network: as the literature trains it


def _add_draw(parser: ArgumentParser) -> None:
    text = (
        "A run folder, an arch.json, the name of a published architecture, as DARTS_V2, or a genotype: "
        f"Genotype(normal=…), of which {CELLS} cells of {CHANNELS} channels on 32×32 images are drawn."
    )
    parser.add_argument("folder", type=str, help=text)
    out = "Ends in .svg, .png, .mmd (Mermaid) or .dot (Graphviz); by default arch.svg in the run folder, else NAME.svg."
    add_option(parser, "--out", str, "FILE", out)
    add_option(parser, "--what", str, "PART", "cells, network, or all; by default all.")


def architecture(source: str) -> tuple[ModelDesc, Path]:
    """What a user may mean by an architecture, and where its drawing goes by default.

    Of a run folder it is the retrained network where there is one, which has the found cells at their final size.

    Raises:
        FileNotFoundError: When the run has found nothing yet, or there is nothing of this name.
        ValueError: For a file or genotype that cannot be read.
    """
    path = Path(source)
    if source.lstrip().startswith("Genotype("):
        return _published(Genotype.from_string(source)), Path("genotype.svg")
    if path.is_file():
        return ModelDesc.load(path), path.with_suffix(".svg")
    if path.is_dir():
        result = api.load(path)
        full = result.folder / "full_arch.json"
        return ModelDesc.load(full) if full.is_file() else result.arch, result.folder / "arch.svg"
    if source not in PUBLISHED:
        raise FileNotFoundError(_unknown(source))
    return _published(PUBLISHED[source]), Path(f"{source}.svg")


def _published(genotype: Genotype) -> ModelDesc:
    from gradnas.spaces import DartsSpace

    space = DartsSpace() if genotype.reduce else DartsSpace(reductions=0)
    return space.from_genotype(genotype, channels=CHANNELS, cells=CELLS)


def _unknown(source: str) -> str:
    close = nearest(source, PUBLISHED, likeness=0.6)
    meant = f"Did you mean {close!r}?" if close is not None else f"Published: {', '.join(PUBLISHED)}."
    return f"there is no run folder, file or published architecture {source!r}. {meant}"


def _draw(options: Options) -> None:
    from gradnas.report import draw

    desc, default = architecture(options["folder"])
    say(f"drawing: {draw(desc, options.get('out', default), what=options.get('what', 'all'))}")


DRAW = Command(
    name="draw",
    usage="FOLDER|FILE|NAME [--out FILE.svg|.png|.mmd|.dot] [--what cells|network|all]",
    summary="Draw an architecture: that of a run, or a published one.",
    add_options=_add_draw,
    act=_draw,
)
