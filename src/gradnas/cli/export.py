"""``gradnas export``."""

from jsonargparse import ArgumentParser

from gradnas import api
from gradnas.cli.command import Command, Options, add_folder
from gradnas.cli.errors import UsageError, did_you_mean_command
from gradnas.cli.options import add_option
from gradnas.cli.output import say
from gradnas.export import FORMATS


def _add_export(parser: ArgumentParser) -> None:
    add_folder(parser)
    add_option(parser, "--format", str, "|".join(FORMATS), f"By default {FORMATS[0]}.")
    add_option(parser, "--out", str, "DIR", "Where to write; by default the run folder.")


def _export(options: Options) -> None:
    form = options.get("format", FORMATS[0])
    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}.{did_you_mean_command(form, list(FORMATS))}")
    say(f"exported: {api.load(options['folder']).export(form, options.get('out'))}")


EXPORT = Command(
    name="export",
    usage=f"FOLDER [--format {'|'.join(FORMATS)}] [--out DIR]",
    summary="Write the network as files that need no gradnas.",
    details="source is model.py, readable, for torch alone, with weights.safetensors beside it; torch is model.pt2 for "
    "torch.export.load; onnx is model.onnx. What was written is read back and compared with the original.",
    add_options=_add_export,
    act=_export,
)
