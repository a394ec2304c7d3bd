"""The report of a run: one HTML file that needs nothing else."""

import json
import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from gradnas.arch import ModelDesc, wiring
from gradnas.foundation.files import write_atomic
from gradnas.report.drawing.cell_drawing import cell_scene
from gradnas.report.drawing.network_drawing import network_scene
from gradnas.report.drawing.palette import COLORS
from gradnas.report.records.calibration import read_calibration
from gradnas.report.records.class_counts import read_class_counts
from gradnas.report.records.combination import Combination
from gradnas.report.records.expert_history import expert_histories
from gradnas.report.records.headline import headline, honest_sentences
from gradnas.report.records.plain_values import member, number, words
from gradnas.report.records.random_members import random_members
from gradnas.report.records.run_folder import RunFolder, read_run_folder
from gradnas.report.records.run_settings import settings_rows
from gradnas.report.records.run_status import other_version, unfinished
from gradnas.report.run_page.class_results import read_confusion
from gradnas.report.run_page.curves import phase_curves
from gradnas.report.run_page.epoch_section import FIRST, SAME, UNKNOWN, epoch_section, slider_script
from gradnas.report.run_page.expert_story import expert_story
from gradnas.report.run_page.first_cells import first_cells
from gradnas.report.run_page.grid_section import grid_section
from gradnas.report.run_page.log_weight_chart import log_weight_chart
from gradnas.report.run_page.mixture_charts import drop_chart, eigenvalue_chart, entropy_chart, skips_chart
from gradnas.report.run_page.reliability_chart import reliability_chart
from gradnas.report.run_page.search_story import search_story, warning
from gradnas.report.run_page.survivors_chart import survivors_chart
from gradnas.report.run_page.weight_table import weight_tables
from gradnas.report.web_page import drawn, figure, page_template

if TYPE_CHECKING:
    from markupsafe import Markup

FILE_NAME = "report.html"


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Read a run folder and write ``report.html`` into it.

    The page loads nothing; a policy in it allows the one script that it holds, which moves the slider over the epochs.
    Without scripts and in print it shows the last epoch. A section whose file is missing says so in a sentence, and
    files or lines that are damaged are listed at the top. The same folder gives the same bytes.

    Args:
        folder: A run folder; files in it may be missing, but not all of them.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: When there is no such folder, or nothing in it that a run writes.
        OSError: When a file cannot be read, or the page cannot be written; a previous page is then unchanged.
    """
    run = read_run_folder(Path(folder))
    target = Path(folder) / FILE_NAME
    write_atomic(target, render_report(run))
    return target


def render_report(run: RunFolder) -> str:
    """The page of a run as text."""
    problems = list(run.problems)
    epochs_of_search = epoch_section(run)
    script, script_source = slider_script() if epochs_of_search is not None else ("", "'none'")
    confusion = read_confusion(run.summary, problems)
    confusion_scene = confusion.scene() if confusion is not None else None
    calibration, counts = read_calibration(run.summary, problems), read_class_counts(run.summary)
    reliability = reliability_chart(calibration) if calibration is not None else None
    epochs = tuple(record for record in run.mixtures if record.returned is None)
    mixture_charts = [chart(epochs) for chart in (entropy_chart, skips_chart, drop_chart, eigenvalue_chart)]
    experts = expert_histories(epochs)
    last = run.mixtures[-1] if run.mixtures else None
    network = run.full if run.full is not None else run.found
    same_cells = _wirings(network) == _wirings(run.found)  # then the drawings show the shapes of the retrained network
    return page_template("run_page/report.html.j2").render(
        run=run,
        colors=COLORS,
        title=_title(run),
        facts=_facts(run),
        version=other_version(run, metadata.version("gradnas")),
        unfinished=unfinished(run),
        figures=headline(run),
        sentences=honest_sentences(run),
        settings=settings_rows(run),
        problems=problems,
        warning=warning(run),
        story=search_story(run),
        random=bool(random_members(run.metrics)),
        found_cells=_cells(network if same_cells else run.found),
        wirings=_wirings(run.found),
        network=figure(network_scene(network)) if network is not None else None,
        network_words=_network_words(run, same_cells),
        searched=run.model is None,
        given=run.arch is not None,
        phases=[
            {
                "title": _training_of(run) or phase.title,
                "words": phase.words,
                "secondary": phase.secondary,
                "charts": [drawn(chart) for chart in phase.charts],
            }
            for phase in phase_curves(
                run.metrics, None if run.found is None else Combination.of(run.found.conf_model_desc)
            )
        ],
        section=epochs_of_search,
        script=script,
        script_source=script_source,
        first_words=FIRST,
        same_words=SAME if epochs_of_search is not None and epochs_of_search.frames else UNKNOWN,
        weight_tables=weight_tables(run.mixtures, run.found),
        last_epoch=None if last is None else last.epoch if last.returned is None else last.returned,
        mixture_charts=[drawn(chart) for chart in mixture_charts if chart is not None],
        experts=expert_story(epochs, experts),
        survivors=[
            figure(survivors_chart(history), label=f"{history.kind} cell: active experts") for history in experts
        ],
        log_weights=[
            figure(scene, label=f"{history.kind} cell: log-weights")
            for history in experts
            if (scene := log_weight_chart(history)) is not None
        ],
        confusion=figure(confusion_scene) if confusion_scene is not None else None,
        classes=confusion.results({} if counts is None else counts.counts) if confusion is not None else (),
        counts=counts,
        reliability=figure(reliability) if reliability is not None else None,
        calibration_words=calibration.words() if calibration is not None else "",
        grid=grid_section(run.grid),
        baseline_cells=_cells(run.baseline),
        genotype=words(run.summary.get("genotype")),
        arch_hash=words(run.summary.get("arch_hash")),
        command=run.environment.get("command"),
        environment=_environment(run),
    )


def _cells(desc: ModelDesc | None) -> "list[Markup]":
    return [figure(cell_scene(cell)) for cell in first_cells(desc)]


def _wirings(desc: ModelDesc | None) -> list[tuple[str, list[str]]]:
    return [(cell.cell_type.value, list(wiring(cell))) for cell in first_cells(desc)]


def _environment(run: RunFolder) -> list[tuple[str, str]]:
    """Versions and machine; an object is shown as a list, and each object of a list in a row of its own."""
    rows = [(key, shown) for key, text in run.environment.items() for shown in _shown(text)]
    return [(key, shown) for key, shown in rows if shown and key != "command"]


def _shown(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [text]
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        return [text]
    return [
        ", ".join(
            f"{name} {item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)}"
            for name, item in part.items()
            if item is not None
        )
        for part in parts
    ]


def _network_words(run: RunFolder, same_cells: bool) -> str:
    if run.full is None:
        searched = "as searched" if run.arch is None else "at the size of its space"
        return f"The network {searched}; it has not been grown for retraining."
    if run.found is None or same_cells:
        return "The network that was retrained."
    return "The network that was retrained; its cells are not those of arch.json, which are drawn beside it."


def _title(run: RunFolder) -> str:
    dataset = words(run.summary.get("dataset")) or words(member(member(run.settings, "data"), "source"))
    what = _training_of(run) or "Architecture search"
    return f"{what} on {dataset}" if dataset else f"{what} {run.name}"


def _training_of(run: RunFolder) -> str | None:
    """The one phase of a run whose network was given; None for a run that searches."""
    if run.model is not None:
        return f"Training of {run.model}"
    return None if run.arch is None else f"Retraining of {run.arch}"


def _facts(run: RunFolder) -> str:
    """The line under the title: strategy, space, seed, folder; before the search has ended as they were asked for."""
    asked: dict[str, object] = {
        "strategy": words(member(member(run.settings, "strategy"), "name")),
        "space": words(member(member(run.settings, "space"), "name")),
        "seed": number(member(run.settings, "seed")),
    }
    if run.model is not None:
        asked = {"model": run.model, "seed": asked["seed"]}
    if run.arch is not None:
        asked = {"architecture": run.arch, "space": asked["space"], "seed": asked["seed"]}
    told = {name: run.summary.get(name) for name in asked}
    named = [
        f"{name} {told[name] if told[name] is not None else f'{value:g}' if isinstance(value, float) else value}"
        for name, value in asked.items()
        if told[name] is not None or value is not None
    ]
    return " · ".join([*named, f"folder {run.name}"])
