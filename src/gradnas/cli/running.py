"""The commands that train. Each reads its options, calls one function of the library, and says where the result is."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from jsonargparse import ArgumentParser

from gradnas import api
from gradnas.cli.command import Command, Options, add_folder
from gradnas.cli.errors import INTERRUPTED, StoppedRun, UsageError, did_you_mean_command, resume_advice
from gradnas.cli.given_network import for_arch, for_model
from gradnas.cli.options import Aliases, add_option, add_settings
from gradnas.cli.output import say, say_result
from gradnas.config import (
    RetrainConf,
    RunConf,
    config_text,
    from_values,
    layered,
    preset_names,
    preset_text,
    values_of,
)
from gradnas.training import Terminated

OWN_OPTIONS = ("preset", "config", "out", "debug")

ALIASES: Aliases = {
    "--data": ("--data.source",),
    "--space": ("--space.name",),
    "--strategy": ("--strategy.name",),
    "--max-time": ("--max_time",),
}
RUN_ALIASES: Aliases = {
    **ALIASES,
    "--model": ("--model.name",),
    "--max-steps": ("--search.max_steps_per_epoch", "--retrain.max_steps_per_epoch"),
}
SEARCH_ALIASES: Aliases = {
    **ALIASES,
    "--epochs": ("--search.epochs",),
    "--max-steps": ("--search.max_steps_per_epoch",),
}


def add_layers(parser: ArgumentParser, part: str = "") -> None:
    """The options that say where settings come from."""
    add_option(parser, "--preset", str, "NAME", f"Start from these settings{part}: {', '.join(preset_names())}.")
    add_option(parser, "--config", str, "FILE", f"YAML file of settings{part}; they win over the preset's.")


def add_sources(parser: ArgumentParser, default_out: str, max_steps_of: str) -> None:
    """The options that say where settings come from, and where the run goes."""
    add_layers(parser)
    add_option(parser, "--out", str, "DIR", f"Run folder, by default the next free {default_out}-N.")
    add_option(parser, "--max-steps", int, "N", f"Stop each epoch after N steps; short for {max_steps_of}.")
    add_option(parser, "--max-time", str, "TIME", "Short for --max_time.")


def _add_run(parser: ArgumentParser) -> None:
    add_sources(parser, "runs/run", "max_steps_per_epoch of search and retrain")
    add_settings(parser, RunConf, RUN_ALIASES)


def _add_search(parser: ArgumentParser) -> None:
    add_sources(parser, "runs/search", "--search.max_steps_per_epoch")
    add_option(parser, "--epochs", int, "N", "Short for --search.epochs.")
    add_settings(parser, RunConf, SEARCH_ALIASES, skip=("retrain", "baseline", "model", "arch"))


def configuration(options: Options, *, search_only: bool = False) -> RunConf:
    """The settings of a preset, a file over it, options over both.

    Where an option names the network to train, what the others say of searching is left out.

    Raises:
        UsageError: For an unknown preset, naming the nearest; for a search where the others name the network to train.
        FileNotFoundError: When there is no such file.
        ValueError: For a key or value that does not fit, saying where.
    """
    values, origins = layers(options)
    flags = own_values(options)
    if flags.get("model", {}).get("name") is not None:
        values = for_model(values)
    if flags.get("arch") is not None:
        values = for_arch(values)
    if search_only:
        _refuse_given(values, options)
    if flags:
        origins.append("options")
        values = layered(values, flags)
    if search_only:
        values = layered(values, {"retrain": {"epochs": 0}, "baseline": {"samples": 0}})
    return from_values(values, " + ".join(origins) or "settings")


def _refuse_given(values: Mapping[str, Any], options: Options) -> None:
    """Refuse to search with settings that name the network to train. UsageError."""
    arch, model = values.get("arch"), values.get("model", {}).get("name")
    if arch is None and model is None:
        return
    setting, what = ("arch", "the architecture") if arch is not None else ("model.name", "the model")
    sources = " ".join(f"--{key} {shlex.quote(str(options[key]))}" for key in ("preset", "config") if key in options)
    command = "retrain" if arch is not None else "train"
    raise UsageError(
        f"{setting} names {what} {shortened(model if arch is None else arch)}, so that nothing is searched. Use "
        f"`gradnas run {sources}`, or gradnas {command}; to search, take settings without {setting}."
    )


def own_values(options: Options) -> dict[str, Any]:
    """The settings among the options."""
    return {key: value for key, value in options.items() if key not in OWN_OPTIONS}


def layers(options: Options) -> tuple[dict[str, Any], list[str]]:
    """The values of a preset and of a file over it, and where they come from."""
    values: dict[str, Any] = {}
    origins = []
    if "preset" in options:
        name = options["preset"]
        if name not in preset_names():
            raise UsageError(f"unknown preset {name!r}.{did_you_mean_command(name, preset_names())}")
        origins.append(f"preset {name}")
        values = values_of(preset_text(name), origins[-1])
    if "config" in options:
        origins.append(str(options["config"]))
        values = layered(values, values_of(config_text(options["config"]), origins[-1]))
    return values, origins


def _run(options: Options) -> None:
    if "preset" not in options and "config" not in options:
        raise UsageError(f"gradnas run needs --preset NAME ({', '.join(preset_names())}) or --config FILE.")
    conf = configuration(options)
    with working_in(out_folder(options, "run")) as folder:
        result = api.run(conf, out=folder)
    say_result(result)


def _search(options: Options) -> None:
    conf = configuration(options, search_only=True)
    with working_in(out_folder(options, "search")) as folder:
        result = api.run(conf, out=folder)
    say_result(result, then=f"next: gradnas retrain {shlex.quote(str(folder))}")


def out_folder(options: Options, kind: str) -> Path:
    """Where the run goes: as given, or the next free folder of a kind."""
    return Path(options["out"]) if "out" in options else api.free_folder(kind)


@contextmanager
def working_in(folder: Path) -> Iterator[Path]:
    """Around a run: says where it is, and how to go on with it when a signal stops it."""
    say(f"run folder: {folder}")
    try:
        yield folder
    except KeyboardInterrupt as stop:
        raise StoppedRun(resume_advice(folder, str(stop)), INTERRUPTED) from stop
    except Terminated as stop:
        raise StoppedRun(resume_advice(folder, str(stop)), 0) from stop


def _add_retrain(parser: ArgumentParser) -> None:
    text = "A run folder, the name of a published architecture, as DARTS_V2, or a genotype: Genotype(normal=…)."
    parser.add_argument("folder", type=str, help=text)
    add_layers(parser, " for retraining")
    out = "A new run folder; by default FOLDER gets the network, that of a NAME the next free runs/retrain-N."
    add_option(parser, "--out", str, "DIR", out)
    data = "Name or path of a data set, by default that of the search; a NAME needs it."
    add_option(parser, "--data", str, "SOURCE", data)
    add_option(parser, "--seed", int, "N", "By default that of the search; another one needs --out. For a NAME 0.")
    add_option(parser, "--device", str, "DEVICE", "auto, cpu, cuda, …; by default that of the search.")
    add_option(parser, "--tensorboard", bool, "true|false", "Write event files too; by default as the search did.")
    add_option(parser, "--max-steps", int, "N", "Short for --max_steps_per_epoch.")
    add_option(parser, "--max-time", str, "TIME", "Time that this retraining may take, such as 90m or 1h30m.")
    add_option(parser, "--deterministic", bool, "true|false", "Deterministic algorithms alone; by default as searched.")
    add_settings(parser, RetrainConf, RETRAIN_ALIASES)


def _retrain(options: Options) -> None:
    own = {"folder", *OWN_OPTIONS, "data", "device", "seed", "tensorboard", "max_time", "deterministic"}
    values, origins = layers(options)
    if origins and not values.get("retrain"):
        raise UsageError(f"{' + '.join(origins)} says nothing of retraining. Give another recipe, or none.")
    flags = {key: value for key, value in options.items() if key not in own}
    changes = layered({"retrain": values.get("retrain", {})}, {"retrain": flags})["retrain"]
    if origins and "epochs" not in flags and not changes.get("epochs", 1):
        raise UsageError(f"{origins[-1]} retrains nothing (retrain.epochs is 0). Give --epochs or another recipe.")
    recipe = {"retrain": {"epochs": RetrainConf().epochs, **changes}}
    conf = from_values(recipe, " + ".join([*origins, "options"])).retrain
    settings = {key: getattr(conf, key) for key in changes}
    given = api.given_architecture(options["folder"]) is not None
    into = out_folder(options, "retrain") if given else Path(options.get("out", options["folder"]))
    with working_in(into) as folder:
        result = api.retrain(
            options["folder"],
            out=folder,
            seed=options.get("seed"),
            train_set=options.get("data"),
            device=options.get("device"),
            tensorboard=options.get("tensorboard"),
            max_time=options.get("max_time"),
            deterministic=options.get("deterministic"),
            **settings,
        )
    say_result(result)


def _add_resume(parser: ArgumentParser) -> None:
    add_folder(parser)
    text = "Time that all phases in FOLDER may take together, what they have taken included, such as 90m or 1h30m."
    add_option(parser, "--max-time", str, "TIME", text)
    add_option(
        parser, "--on-nonfinite", str, "stop|skip|rollback", "What follows a loss that is no number from now on."
    )


def _resume(options: Options) -> None:
    with working_in(Path(options["folder"])) as folder:
        result = api.resume(folder, max_time=options.get("max_time"), on_nonfinite=options.get("on_nonfinite"))
    say_result(result)


RETRAIN_ALIASES: Aliases = {"--max-steps": ("--max_steps_per_epoch",)}
_LAYERS = "A preset gives the first settings, a file wins over it, options win over both; defaults fill the rest."
_OPTIONS_OF = "Options of spaces and strategies are given as --space.options.channels 8; `gradnas list` shows them."

RUN = Command(
    name="run",
    usage="--preset NAME | --config FILE  [--KEY VALUE ...] [--out DIR] [--data SOURCE]",
    summary="Search, then retrain, then compare with random search as far as set, then report.",
    details=f"{_LAYERS} Where --arch or --model names the network to train, what a preset or file says of searching "
    f"is left out, and what does not fit that network. {_OPTIONS_OF}",
    add_options=_add_run,
    act=_run,
    aliases=RUN_ALIASES,
)

SEARCH = Command(
    name="search",
    usage="[--space NAME] [--strategy NAME] [--data SOURCE] [--epochs N] [--KEY VALUE ...] [--out DIR]",
    summary="Search an architecture and report, without retraining.",
    details=f"{_LAYERS} What a preset or file says of retraining and baseline is left out. {_OPTIONS_OF}",
    add_options=_add_search,
    act=_search,
    aliases=SEARCH_ALIASES,
)

RETRAIN = Command(
    name="retrain",
    usage="FOLDER|NAME [--data SOURCE] [--preset NAME] [--epochs N] [--channels N] [--KEY VALUE ...] [--out DIR]",
    summary="Train a found or published architecture as a deeper, wider network, and test it.",
    details="Of a preset or file only the part on retraining counts. Settings not given take the defaults below, "
    "not those of the run. Of a NAME the data is taken as it is; `gradnas run --arch NAME --preset PRESET "
    "--data.image_size 64` has the options of the data too, as the size of its images.",
    add_options=_add_retrain,
    act=_retrain,
    aliases=RETRAIN_ALIASES,
)

RESUME = Command(
    name="resume",
    usage="FOLDER [--max-time TIME] [--on-nonfinite stop|skip|rollback]",
    summary="Continue an interrupted run with the settings stored in its folder.",
    add_options=_add_resume,
    act=_resume,
)
