"""``gradnas compare``."""

import shutil
import sys
from pathlib import Path

from jsonargparse import ArgumentParser

from gradnas.cli.command import Command, Options
from gradnas.cli.errors import UsageError
from gradnas.cli.options import add_option
from gradnas.cli.output import say, say_table


def _add_compare(parser: ArgumentParser) -> None:
    help_text = "Run folders, e.g. runs/*; files and folders without a run are skipped."
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help=help_text)
    add_option(parser, "--out", str, "FILE", "The page, by default comparison.html beside the runs.")
    add_option(parser, "--mixed", bool, "true|false", "Compare different data sets or budgets all the same.")
    add_option(parser, "--csv", str, "FILE", "Also write the rows as CSV, with full precision.")


def _compare(options: Options) -> None:
    from gradnas.foundation.files import write_atomic
    from gradnas.report.comparison.compare import check_page_name, compare, default_page
    from gradnas.report.comparison.table import comparison_table

    csv = Path(options["csv"]) if "csv" in options else None
    if csv is not None and csv.suffix.lower() != ".csv":
        raise UsageError(f"--csv must end in .csv, got {csv.name!r}.")
    folders = options["runs"]
    page = Path(options.get("out", default_page(folders)))
    check_page_name(page)
    comparison = compare(folders, mixed=options.get("mixed", False))
    table = comparison_table(comparison.rows)
    if sys.stdout.isatty() and table.width() > shutil.get_terminal_size().columns:
        table = comparison_table(comparison.rows, brief=True)
    say_table(" and ".join(comparison.datasets), table.header, table.rows, right=table.right, header=True)
    for sentence in comparison.differences:
        say(f"mixed: {sentence}")
    for sentence in comparison.notes:
        say(f"note: {sentence}")
    for sentence in comparison.conclusions:
        say(sentence)
    if csv is not None:  # after the table, as the page is: a place that cannot be written to must not cost the numbers
        write_atomic(csv, comparison.to_csv())
        say(f"csv: {csv}")
    write_atomic(page, comparison.to_html())
    say(f"page: {page}")


COMPARE = Command(
    name="compare",
    usage="RUN [RUN ...] [--out FILE.html] [--mixed true] [--csv FILE.csv]",
    summary="Compare runs: a table over seeds, and a page with accuracy against cost.",
    details="Runs that differ in nothing but the seed are one row. Runs of different data sets or budgets are refused "
    "unless --mixed true is given.",
    add_options=_add_compare,
    act=_compare,
)
