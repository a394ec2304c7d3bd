"""``gradnas report``."""

from pathlib import Path

from gradnas.cli.command import Command, Options, add_folder
from gradnas.cli.output import say


def _report(options: Options) -> None:
    from gradnas.report import write_report
    from gradnas.report.records.run_folder import read_run_folder
    from gradnas.report.records.run_status import unfinished

    folder = Path(options["folder"])
    say(f"report: {write_report(folder)}")
    for sentence in unfinished(read_run_folder(folder)):
        say(sentence)


REPORT = Command(
    name="report",
    usage="FOLDER",
    summary="Write report.html anew from the files of a run folder, also of an unfinished run.",
    add_options=add_folder,
    act=_report,
)
