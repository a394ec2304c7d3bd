"""The page of a comparison: one HTML file that needs nothing else, and its table alone for a notebook."""

from typing import TYPE_CHECKING

from gradnas.foundation.plain_text import one_line
from gradnas.report.comparison.pareto_chart import MACS, SEARCH_TIME, pareto_chart
from gradnas.report.comparison.row_marks import row_marks, swatch
from gradnas.report.comparison.rules import DEFAULT, differing, value_text
from gradnas.report.comparison.table import Table, accuracy_text, comparison_table, gain_text, interval_text
from gradnas.report.drawing.cell_drawing import cell_scene
from gradnas.report.drawing.palette import COLORS
from gradnas.report.records.quantities import millions, percent, time_text
from gradnas.report.web_page import drawn, figure, page_template

if TYPE_CHECKING:
    from markupsafe import Markup

    from gradnas.report.comparison.compare import Comparison
    from gradnas.report.comparison.rows import Row

_MOST_CELLS = 6  # drawn for each row

_TABLE = "comparison/comparison_table.html.j2"


def render_comparison(comparison: "Comparison") -> str:
    """The page as text; the same comparison gives the same text."""
    rows, marks = comparison.rows, row_marks(comparison.rows)
    one_machine = len({machine for row in rows for machine in row.machines}) < 2
    costs = [MACS, SEARCH_TIME] if one_machine else [MACS]  # times of different machines are no costs of methods
    charts = []
    for dataset in comparison.datasets:
        own = [row for row in rows if row.dataset == dataset]
        scenes = [scene for cost in costs if (scene := pareto_chart(own, marks, cost)) is not None]
        if scenes:
            charts.append((dataset if len(comparison.datasets) > 1 else "", [figure(scene) for scene in scenes]))
    return page_template("comparison/comparison.html.j2").render(
        colors=COLORS,
        title=_title(comparison),
        facts=_facts(comparison),
        comparison=comparison,
        table=comparison_table(rows),
        swatches=[drawn(swatch(marks[row.name], row.name)) for row in rows],
        charts=charts,
        settings=_settings(rows),
        runs=_runs(rows),
        gains=_gains(rows),
        cells=[(row.name, _cells_words(row), _cells(row)) for row in rows if any(r.cell for r in row.results)],
    )


def table_html(comparison: "Comparison") -> str:
    """The table as a fragment of HTML."""
    return page_template(_TABLE).render(
        rows=comparison.rows, table=comparison_table(comparison.rows), swatches=[""] * len(comparison.rows)
    )


def _title(comparison: "Comparison") -> str:
    methods = sum(row.kind == "method" for row in comparison.rows)
    return f"{methods} {'method' if methods == 1 else 'methods'} on {' and '.join(comparison.datasets)}"


def _facts(comparison: "Comparison") -> str:
    results = [result for row in comparison.rows if row.kind == "method" for result in row.results]
    tested = sum(result.accuracy is not None for result in results)
    words = f"{len(results)} {'run' if len(results) == 1 else 'runs'}"
    return words if tested == len(results) else f"{words}, {tested} of them with a test accuracy"


def _settings(rows: "tuple[Row, ...]") -> Table:
    """The settings that are not the same in all rows, one line each."""
    names = differing([row.settings for row in rows])
    lines = [
        (
            name.replace(".options.", "."),
            *(value_text(row.settings.get(name, DEFAULT)) if _has(row, name) else "" for row in rows),
        )
        for name in map(str, names)
    ]
    header = ("setting", *(row.name for row in rows))
    return Table(header=header, rows=tuple(lines), right=(False,) * len(header))


def _has(row: "Row", name: str) -> bool:
    return name in row.settings or (name.startswith("space.options.") and row.kind == "method")


def _gains(rows: "tuple[Row, ...]") -> Table:
    """The difference of each method to random search."""
    lines = [
        (row.name, gain_text(row.gain, interval=True), interval_text(row.gain.wide_low, row.gain.wide_high))
        for row in rows
        if row.gain is not None
    ]
    header = ("method", "means (95 % interval over runs)", "95 % interval over runs and test images")
    return Table(header=header, rows=tuple(lines), right=(False, False, False))


def _runs(rows: "tuple[Row, ...]") -> Table:
    """Every run with its numbers."""
    lines = []
    for row in rows:
        for result in row.results:
            interval = f"{result.interval[0]:.2f}–{result.interval[1]:.2f}" if result.interval is not None else ""
            lines.append(
                (
                    row.name,
                    str(result.seed),
                    percent(result.accuracy) if result.accuracy is not None else str(result.state),
                    interval,
                    millions(result.params) if result.params is not None else "",
                    millions(result.macs) if result.macs is not None else "",
                    time_text(result.search_s) if result.search_s is not None else "",
                    time_text(result.retrain_s) if result.retrain_s is not None else "",
                    one_line(result.folder),
                )
            )
    header = ("method", "seed", "test accuracy", "95 % over images", "parameters", "MACs", "search", "retraining")
    right = (False, True, True, True, True, True, True, True, False)
    return Table(header=(*header, "folder"), rows=tuple(lines), right=right)


def _cells_words(row: "Row") -> str:
    known = [result.arch for result in row.results if result.arch is not None]
    different = len(set(known))
    left = sum(result.cell is not None for result in row.results) - _MOST_CELLS
    words = f"{accuracy_text(row)}{' %' if row.accuracy else ''}"
    if len(known) > 1:
        words += (
            f"; {len(known)} runs found {different} different {'architecture' if different == 1 else 'architectures'}"
        )
    return words + (f"; {left} more are not drawn" if left > 0 else "")


def _cells(row: "Row") -> "list[Markup]":
    drawings: list[Markup] = []
    for result in row.results:
        if result.cell is not None and len(drawings) < _MOST_CELLS:
            score = percent(result.accuracy) if result.accuracy is not None else str(result.state)
            drawings.append(figure(cell_scene(result.cell, title=f"seed {result.seed}: {score}")))
    return drawings
