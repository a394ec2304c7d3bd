"""What the commands print: plain lines, so that other programs can read them."""

import sys
from collections.abc import Sequence

from gradnas.report.records.grid import Grid
from gradnas.report.records.grid_words import COLUMNS, SIZES, cells_of, grid_sentence, marks_of, sizes_of
from gradnas.report.records.plain_text import aligned
from gradnas.result import Result


def say(text: str = "") -> None:
    """One line for the user; at once, since a run takes long."""
    print(text, flush=True)


def complain(text: str) -> None:
    """One line for the user about something that went wrong."""
    print(f"gradnas: {text}", file=sys.stderr, flush=True)


def say_result(result: Result, *, then: str = "") -> None:
    """The headline of the report, the architecture, and where the report is.

    Args:
        result: What a command has made.
        then: What may come next; an unfinished run is gone on with first.
    """
    from gradnas.report.records.class_counts import read_class_counts
    from gradnas.report.records.headline import headline, honest_sentences
    from gradnas.report.records.run_folder import read_run_folder
    from gradnas.report.records.run_status import how_to_go_on

    run = read_run_folder(result.folder)
    if run.grid is not None:
        say_grid(run.grid)
    for figure in headline(run):
        name = figure.name if figure.name == "MACs" else figure.name.lower()
        own_machine = figure.name in ("Search", "Retraining", "Training")  # the user sits at it
        note = "" if own_machine else figure.note
        say(f"{name}: {figure.value}{f' ({note})' if note else ''}")
    if result.summary.get("genotype"):
        say(f"genotype: {result.summary['genotype']}")
    report = result.folder / "report.html"
    if report.is_file():
        say(f"report: {report}")
    counts = read_class_counts(run.summary)
    for sentence in counts.warnings if counts is not None else ():
        say(f"classes: {sentence}")
    for sentence in honest_sentences(run):
        say(sentence)
    if on := how_to_go_on(run) or then:
        say(on)


def say_grid(grid: Grid) -> None:
    """What each size of a macro grid has given, and which could not be built."""
    say(grid_sentence(grid))
    rows = [[*sizes_of(row), *cells_of(row), marks_of(row)] for row in grid.rows]
    if rows:
        columns = [*SIZES, *COLUMNS, "remark"]
        say_table("grid", columns, rows, right=[True] * (len(columns) - 1) + [False], header=True)
    for combination, reason in grid.skipped:
        say(f"skipped {combination}: {reason}.")


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
