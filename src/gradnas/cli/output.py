"""What the commands print: plain lines, so that other programs can read them."""

import sys
from collections.abc import Sequence

from gradnas.report.records.plain_text import aligned
from gradnas.result import Result


def say(text: str = "") -> None:
    """One line for the user; at once, since a run takes long."""
    print(text, flush=True)


def complain(text: str) -> None:
    """One line for the user about something that went wrong."""
    print(f"gradnas: {text}", file=sys.stderr, flush=True)


def say_result(result: Result) -> None:
    """The headline of the report, the architecture, and where the report is."""
    from gradnas.report.records.headline import headline, honest_sentences
    from gradnas.report.records.run_folder import read_run_folder
    from gradnas.report.records.run_status import how_to_go_on

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
    if on := how_to_go_on(run):
        say(on)


def say_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[bool] | None = None,
    header: bool = False,
) -> None:
    """A table in a terminal; elsewhere lines of aligned columns, without title or color.

    Args:
        title: Heading.
        columns: Names of the columns.
        rows: Equally many cells each.
        right: For each column whether it holds numbers; None for no.
        header: The lines begin with the names of the columns.
    """
    right = right if right is not None else [False] * len(columns)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title)
        for name, number in zip(columns, right, strict=True):
            table.add_column(Text(name), justify="right" if number else "left")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))  # Text: brackets in a cell are no markup
        Console().print(table)
        return
    for line in aligned([columns, *rows] if header else rows, right):
        say(line)
