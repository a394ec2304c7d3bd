"""``gradnas watch``."""

from jsonargparse import ArgumentParser

from gradnas.cli.command import Command, Options, add_folder
from gradnas.cli.options import add_option


def _add_watch(parser: ArgumentParser) -> None:
    add_folder(parser)
    add_option(parser, "--every", float, "SECONDS", "Look again after so many seconds; by default 2.")
    add_option(parser, "--once", bool, "true|false", "Show what is there now and stop; by default false.")


def _watch(options: Options) -> None:
    from gradnas.report.live.run_following import follow

    try:
        follow(options["folder"], every_s=options.get("every", 2.0), once=options.get("once", False))
    except KeyboardInterrupt:
        return  # the way to leave; the run that is watched goes on


WATCH = Command(
    name="watch",
    usage="FOLDER [--every SECONDS] [--once true]",
    summary="Follow a run in the terminal until it is over.",
    details="In a terminal a view that renews itself, elsewhere one line per epoch and what the search says against "
    "itself. A folder that does not exist yet is waited for. Ctrl-C leaves; the run goes on.",
    add_options=_add_watch,
    act=_watch,
)
