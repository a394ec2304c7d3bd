"""``gradnas report``."""

from pathlib import Path

from gradnas.cli.command import Command, Options, add_folder
from gradnas.cli.output import complain, say


def _report(options: Options) -> None:
    from gradnas.foundation.plain_text import one_line
    from gradnas.report import write_report
    from gradnas.report.records.run_folder import read_run_folder
    from gradnas.report.records.run_status import unfinished

    folder = Path(options["folder"])
    say(f"report: {write_report(folder)}")
    run = read_run_folder(folder)
    for problem in run.problems:
        complain(f"warning: {one_line(problem)}")
    for sentence in unfinished(run):
        say(sentence)


REPORT = Command(
    name="report",
    usage="FOLDER",
    summary="Write report.html anew from the files of a run folder, also of an unfinished run.",
    add_options=add_folder,
    act=_report,
)
