"""The part of the page that shows the search epoch by epoch: a slider, the would-be cells, the weights of each edge."""

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from gradnas.report.drawing.cell_drawing import cell_scene
from gradnas.report.records.run_folder import RunFolder
from gradnas.report.records.weight_history import WeightHistory, kept, weight_histories
from gradnas.report.run_page.cell_course import CellCourse, Frame, cell_course
from gradnas.report.run_page.weight_panel import color_scale, weight_panel
from gradnas.report.web_page import drawn, figure

if TYPE_CHECKING:
    from markupsafe import Markup

FIRST = "the first cells that the weights imply."
SAME = "the would-be cells stay as they were."
UNKNOWN = "the would-be cells of this epoch were not recorded."


@dataclass(frozen=True, kw_only=True)
class ShownFrame:
    """A would-be cell on the page: its epochs as the script reads them, and whether it is shown without the script."""

    kind: str
    epochs: str
    shown: bool
    drawing: "Markup"


@dataclass(frozen=True, kw_only=True)
class ShownEdges:
    """The weights of the edges of a cell type: those of which the cell keeps an operation, and the others."""

    kind: str
    kept: "tuple[Markup, ...]"
    others: "tuple[Markup, ...]"
    scale: "Markup"
    wiped: bool


@dataclass(frozen=True, kw_only=True)
class EpochSection:
    """What the template needs.

    Args:
        course: The epochs.
        start: Position of the epoch shown first.
        words: What is said of it.
        frames: The would-be cells.
        edges: The weights over the epochs.
    """

    course: CellCourse
    start: int
    words: str
    frames: tuple[ShownFrame, ...]
    edges: tuple[ShownEdges, ...]


def epoch_section(run: RunFolder) -> EpochSection | None:
    """The section of a run; None without a record of any epoch."""
    course = cell_course(run)
    if course is None:
        return None
    mixtures = tuple(record for record in run.mixtures if record.returned is None)
    start = course.epochs.index(course.shown)
    return EpochSection(
        course=course,
        start=start,
        words=dict(course.changes).get(course.shown, FIRST if start == 0 else SAME if course.frames else UNKNOWN),
        frames=tuple(_frame(frame, course.shown) for frame in course.frames),
        edges=tuple(_edges(history, course) for history in weight_histories(mixtures)),
    )


def slider_script() -> "tuple[Markup, str]":
    """The script of the slider, and the source expression by which a content security policy allows it alone."""
    from markupsafe import Markup

    text = resources.files("gradnas.report").joinpath("run_page/epoch_slider.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return Markup(text), f"'sha256-{digest}'"


def _frame(frame: Frame, shown: int) -> ShownFrame:
    return ShownFrame(
        kind=frame.cell.kind,
        epochs=" ".join(map(str, frame.epochs)),
        shown=shown in frame.epochs,
        drawing=figure(cell_scene(frame.cell.cell())),
    )


def _edges(history: WeightHistory, course: CellCourse) -> ShownEdges:
    marked = kept(history, course.at(history.kind, course.shown))
    panels = [
        weight_panel(
            history,
            edge,
            kept={op for e, op in marked if e == edge},
            shown=course.shown,
            epochs=course.epochs,
        )
        for edge in range(len(history.edges))
    ]
    inside = {edge for edge, _ in marked}
    return ShownEdges(
        kind=history.kind,
        kept=tuple(drawn(panel) for edge, panel in enumerate(panels) if edge in inside or not inside),
        others=tuple(drawn(panel) for edge, panel in enumerate(panels) if inside and edge not in inside),
        scale=drawn(color_scale(history.strongest())),
        wiped=any(table is not None for table in history.survivors),
    )
