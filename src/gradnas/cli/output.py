"""What the commands print: plain lines, so that other programs can read them."""

import sys
from collections.abc import Sequence

from gradnas.result import Result


def say(text: str = "") -> None:
    """One line for the user; at once, since a run takes long."""
    print(text, flush=True)


def complain(text: str) -> None:
    """One line for the user about something that went wrong."""
    print(f"gradnas: {text}", file=sys.stderr, flush=True)


def say_result(result: Result) -> None:
    """The headline of the report, the architecture, and where the report is."""
    from gradnas.report.headline import headline, honest_sentences
    from gradnas.report.run_folder import read_run_folder

    run = read_run_folder(result.folder)
    for figure in headline(run):
        name = figure.name if figure.name == "MACs" else figure.name.lower()
        note = "" if figure.name in ("Search", "Retraining") else figure.note  # the machine: the user sits at it
        say(f"{name}: {figure.value}{f' ({note})' if note else ''}")
    if result.summary.get("genotype"):
        say(f"genotype: {result.summary['genotype']}")
    report = result.folder / "report.html"
    if report.is_file():
        say(f"report: {report}")
    for sentence in honest_sentences(run):
        say(sentence)


def say_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in a terminal; elsewhere lines of aligned columns, without title or color."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))  # Text: brackets in a cell are no markup
        Console().print(table)
        return
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(len(columns))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
