"""``gradnas plan``: what a run would take, before it runs."""

import argparse
from pathlib import Path

from jsonargparse import ArgumentParser

from gradnas.arch import ModelDesc
from gradnas.cli.command import Command, Options
from gradnas.cli.errors import UsageError
from gradnas.cli.options import add_option, add_settings
from gradnas.cli.output import say, say_table
from gradnas.cli.running import RUN_ALIASES, add_layers, configuration
from gradnas.config import RunConf, build_space, preset_names
from gradnas.foundation.sizes import size_text
from gradnas.pipeline import RunFolder
from gradnas.pipeline.memory_advice import ways_to_shrink
from gradnas.pipeline.plan import MEMBER, PhasePlan, Plan, plan
from gradnas.report.records.quantities import millions


def _add_plan(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=str, nargs="?", default=argparse.SUPPRESS, help="A run folder, instead of a preset or file."
    )
    add_layers(parser)
    add_option(parser, "--max-steps", int, "N", "Short for max_steps_per_epoch of search and retrain.")
    add_settings(parser, RunConf, RUN_ALIASES)


def _plan(options: Options) -> None:
    given = [key for key in ("folder", "preset", "config") if options.get(key) is not None]
    if not given or ("folder" in given and len(given) > 1):
        raise UsageError(
            f"gradnas plan needs --preset NAME ({', '.join(preset_names())}), --config FILE, or a run folder alone."
        )
    settings, found = dict(options), None
    folder = settings.pop("folder", None)
    if folder is not None:
        stored = RunFolder.open(folder)
        settings["config"] = str(stored / "config.yaml")
        found = ModelDesc.load(stored / "arch.json") if Path(stored / "arch.json").is_file() else None
    say_plan(plan(configuration(settings), found=found))


def say_plan(planned: Plan) -> None:
    """Print a plan: two tables of at most 80 columns, and what follows from them."""
    facts, available = planned.facts, planned.available
    tested = "" if facts.n_test is None else f" and {facts.n_test:,} test"
    pixels = "×".join(map(str, facts.shape))
    say(f"data: {facts.n_train:,} training{tested} images of {pixels}, {facts.n_classes} classes")
    room = "unknown" if available.n_bytes is None else f"{size_text(available.n_bytes)} available"
    say(f"memory: {room} ({available.reason}) on {planned.device}")
    say()
    columns = ["phase", "network", "parameters", "MACs", "epochs", "steps each", "batch"]
    say_table("work", columns, [_work(phase) for phase in planned.phases], right=_right(7, 2), header=True)
    say()
    columns = ["phase", "training", "evaluation", "data", "peak", "largest batch"]
    say_table("memory", columns, [_memory(phase) for phase in planned.phases], right=_right(6, 1), header=True)
    say()
    for sentence in sentences(planned):
        say(sentence)


def _right(columns: int, words: int) -> list[bool]:
    return [False] * words + [True] * (columns - words)


def _work(phase: PhasePlan) -> list[str]:
    epochs = "—" if phase.epochs is None else str(phase.epochs)
    counts = [millions(phase.params), millions(phase.macs)]
    return [phase.phase, phase.network, *counts, epochs, f"{phase.steps_per_epoch:,}", str(phase.batch_size)]


def _memory(phase: PhasePlan) -> list[str]:
    evaluation = size_text(phase.eval_bytes) if phase.eval_batch_size else "—"
    largest = phase.largest_batch
    batch = "unknown" if largest is None else f"{largest:,}" if largest else "none"
    return [
        phase.phase,
        size_text(phase.train_bytes),
        evaluation,
        size_text(phase.data_bytes),
        size_text(phase.peak_bytes),
        batch,
    ]


def sentences(planned: Plan) -> list[str]:
    """What a plan means, in words."""
    said = []
    if any(phase.network == MEMBER for phase in planned.phases):
        said.append("A random member stands in for networks that are not known yet: the heaviest of a few.")
    if planned.conf.grid.enabled:
        said.append("Of the grid the largest size is planned; it is searched at every size, one after the other.")
    if any(phase.epochs is None for phase in planned.phases):
        said.append("Epochs of the baseline follow from the multiply-adds that the search will have taken.")
    for phase in planned.phases:
        if phase.fits is False:
            searches = planned.conf.model.name is None
            space = build_space(planned.conf.space, planned.facts.network) if searches else None
            ways = ways_to_shrink(phase, planned.conf, space)
            said.append(f"{phase.phase} does not fit. What shrinks it, most effective first: {'; '.join(ways)}.")
    if planned.fits:
        spare = 100 * (planned.phases[0].headroom - 1)
        said.append(
            f"Everything fits, with at least {spare:.0f} % to spare for what is not predicted: workspaces of kernels, "
            "and what the allocator keeps."
        )
    if planned.fits is None:
        said.append("Nobody knows here what fits: compare the peaks with the memory that you have.")
    return said


PLAN = Command(
    name="plan",
    usage="--preset NAME | --config FILE | FOLDER  [--KEY VALUE ...]",
    summary="Say what a run would take: parameters, steps, memory, the largest batch; nothing runs.",
    details="Options are those of `gradnas run`. Memory is predicted from a few tiny steps on noise. Of a named data "
    "set only its sizes count, so it need not be here.",
    add_options=_add_plan,
    act=_plan,
    aliases=RUN_ALIASES,
)
