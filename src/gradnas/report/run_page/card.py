"""A run as a card in a notebook: its numbers and its cells."""

from pathlib import Path

from gradnas.report.drawing.cell_drawing import cell_scene
from gradnas.report.records.headline import headline, honest_sentences
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.run_page.first_cells import first_cells
from gradnas.report.web_page import drawn_alone, page_template


def result_card(folder: Path) -> str:
    """An HTML fragment that stands by itself: title, figures, the found cells, genotype, folder.

    Args:
        folder: A run folder; what it lacks is left out.

    Raises:
        FileNotFoundError: When there is no such folder.
    """
    run = read_run_folder(folder)
    report = folder / "report.html"
    return page_template("run_page/card.html.j2").render(
        name=run.name,
        facts=[
            f"{key} {value}"
            for key, value in (
                ("dataset", run.summary.get("dataset")),
                ("model", run.summary.get("model")),
                ("architecture", run.arch),
                ("space", run.summary.get("space")),
                ("strategy", run.summary.get("strategy")),
            )
            if value is not None
        ],
        figures=headline(run),
        sentences=(*run.problems, *honest_sentences(run)),
        cells=[drawn_alone(cell_scene(cell)) for cell in first_cells(run.found)],
        genotype=run.summary.get("genotype"),
        path=report if report.is_file() else folder,
    )
