"""Tests of ``grid_section.py``, ``grid_chart.py`` and of what the page shows of a grid and of random architectures."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gradnas.arch import ModelDesc
from gradnas.report import draw_grid, write_report
from gradnas.report.drawing.scene import Box, Group, Scene
from gradnas.report.live.look import done_words, grid_words, phase_words, planned_epochs
from gradnas.report.records.headline import honest_sentences
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.records.run_settings import settings_rows
from gradnas.report.records.run_status import unfinished
from gradnas.report.run_page.curves import phase_curves
from gradnas.report.run_page.grid_chart import grid_chart
from gradnas.report.run_page.grid_section import grid_section
from gradnas.report.run_page.search_story import search_story

FOUND = (2, 8, 4)  # the size of the sample


class Text(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.words += data


def row(cells: int, macs: float | None, val_top1: float | None) -> dict[str, Any]:
    return {"reductions": 2, "cells": cells, "nodes": 4, "macs": macs, "val_top1": val_top1, "seconds": 3.0}


def make_grid(run: Path, rows: list[dict[str, Any]], *, front: list[int], best: int | None, total: int = 3) -> None:
    """Turn a sample run into one of a grid: its search is that of the size that was found."""
    planned = [{"reductions": 2, "cells": 6 + k, "nodes": 4} for k in range(total)]
    skipped = [{"reductions": 3, "cells": 6, "nodes": 4, "reason": "<b>too</b> few cells"}]
    values = {"combinations": planned, "skipped": skipped, "rows": rows, "front": front, "best": {"row": best}}
    (run / "grid.json").write_text(json.dumps(values))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    own, other = "search_r2_c8_n4", "search_r2_c7_n4"
    written = [{**line, "phase": own if line["phase"] == "search" else line["phase"]} for line in lines]
    written[:0] = [{**line, "phase": other} for line in lines if line["phase"] == "search"][:2]
    written += [{**line, "phase": f"{own}_train"} for line in lines if line["phase"] == "search"][:2]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))
    folder = run / "metrics/2/8/4"
    folder.mkdir(parents=True)
    (run / "alphas.jsonl").rename(folder / "alphas.jsonl")


ROWS = [row(6, 2e6, 80.0), row(7, 5e6, 79.0), row(8, 4e6, 85.0)]


@pytest.fixture
def grid_run(run: Path) -> Path:
    make_grid(run, ROWS, front=[0, 2], best=2)
    return run


def groups(scene: Scene, kind: str) -> dict[str, Group]:
    return {
        dict(item.data).get("name", ""): item for item in scene.items if isinstance(item, Group) and item.kind == kind
    }


def scene_of(run: Path) -> Scene:
    grid = read_run_folder(run).grid
    assert grid is not None
    scene = grid_chart(grid)
    assert scene is not None
    return scene


def test_page_shows_every_size_and_those_that_cannot_be(grid_run: Path) -> None:
    page = Text(write_report(grid_run).read_text(encoding="utf-8"))
    assert "grid" in page.ids
    assert "problems" not in page.ids
    for words in (
        "Of 3 sizes of the network 3 were searched",
        "85.00 %, has the one with 2 reductions, 8 cells, 4 nodes",
        "2 · 7 · 4",
        "best, Pareto front",
        "Sizes that cannot be built (1)",
        "3 reductions, 6 cells, 4 nodes: <b>too</b> few cells.",
    ):
        assert words in page.words, words


def test_search_that_is_told_is_that_of_the_size_found(grid_run: Path) -> None:
    run = read_run_folder(grid_run)
    assert run.found is not None
    assert (run.found.conf_model_desc.n_reductions, run.found.conf_model_desc.n_cells) == FOUND[:2]
    assert len(run.mixtures) == 12
    page = Text(write_report(grid_run).read_text(encoding="utf-8"))
    assert {"epochs", "epoch-slider"} <= set(page.ids)


def test_while_it_goes_on_the_search_in_progress_is_told(grid_run: Path) -> None:
    for name in ("arch.json", "summary.json"):
        (grid_run / name).unlink()
    run = read_run_folder(grid_run)
    assert run.metrics[-1].phase == "search_r2_c8_n4_train"
    assert len(run.mixtures) == 12


def test_curves_of_other_sizes_are_folded(grid_run: Path) -> None:
    run = read_run_folder(grid_run)
    assert run.found is not None
    from gradnas.report.records.combination import Combination

    phases = phase_curves(run.metrics, Combination(*FOUND))
    shown = [(phase.title, phase.secondary) for phase in phases]
    assert shown[:3] == [
        ("Search with 2 reductions, 7 cells, 4 nodes", True),
        ("Search with 2 reductions, 8 cells, 4 nodes", False),
        ("Brief training of what was found with 2 reductions, 8 cells, 4 nodes", False),
    ]
    assert [phase.phase for phase in phases][3:] == ["retrain", "baseline_retrain"]


def test_marks_say_what_a_size_is(grid_run: Path) -> None:
    points = groups(scene_of(grid_run), "point")
    flags = {name: (dict(item.data)["front"], dict(item.data)["best"]) for name, item in points.items()}
    assert flags == {
        "2 reductions, 6 cells, 4 nodes": ("true", "false"),
        "2 reductions, 7 cells, 4 nodes": ("false", "false"),
        "2 reductions, 8 cells, 4 nodes": ("true", "true"),
    }
    best = points["2 reductions, 8 cells, 4 nodes"]
    assert best.title == "2 reductions, 8 cells, 4 nodes: 85.00 %, 4.00 M MACs, on the Pareto front, chosen"
    fills = {name: item.items[0].fill for name, item in points.items() if isinstance(item.items[0], Box)}
    assert list(fills.values()) == ["paper", "first", "mark"]  # those on the front last, on top


def test_marks_stand_where_their_numbers_are(grid_run: Path) -> None:
    boxes = [item.items[0] for item in groups(scene_of(grid_run), "point").values()]
    places = {(box.fill, round(box.x), round(box.y)) for box in boxes if isinstance(box, Box)}
    (x7, y7), (x6, y6), (x8, y8) = [(box.x, box.y) for box in boxes if isinstance(box, Box)]
    assert len(places) == 3
    assert x6 < x8 < x7
    assert y8 < y6 < y7


def test_front_joins_its_sizes(grid_run: Path) -> None:
    scene = scene_of(grid_run)
    (front,) = [item for item in scene.items if isinstance(item, Group) and item.kind == "front"]
    corners = [at for _, at in front.items[0].commands]  # type: ignore[union-attr]  # a path
    middles = [(box.x + box.width / 2, box.y + box.height / 2) for box in _boxes(scene)[1:]]
    assert (corners[0], corners[2]) == (pytest.approx(middles[0]), pytest.approx(middles[1]))


def _boxes(scene: Scene) -> list[Box]:
    return [item.items[0] for item in groups(scene, "point").values() if isinstance(item.items[0], Box)]


def test_of_many_sizes_only_those_on_the_front_are_named(run: Path) -> None:
    rows = [row(10 + k, 1e6 * (k + 1), 50.0 + k % 7) for k in range(41)]
    make_grid(run, rows, front=[0, 6], best=6)
    assert len(groups(scene_of(run), "point")) == 41
    assert set(groups(scene_of(run), "name")) == {f"2 reductions, {cells} cells, 4 nodes" for cells in (10, 16)}


def test_values_that_are_missing_break_nothing(run: Path) -> None:
    make_grid(run, [row(6, None, 80.0), row(7, 5e6, None)], front=[], best=None)
    page = Text(write_report(run).read_text(encoding="utf-8"))
    assert "Of 3 sizes of the network 2 were searched" in page.words
    grid = read_run_folder(run).grid
    assert grid is not None
    section = grid_section(grid)
    assert section is not None
    assert section.chart is None
    assert draw_grid(run, run / "chart.svg") is None
    assert not (run / "chart.svg").exists()


def test_damaged_grid_is_named_on_the_page(grid_run: Path) -> None:
    (grid_run / "grid.json").write_text("{")
    page = Text(write_report(grid_run).read_text(encoding="utf-8"))
    assert "grid" not in page.ids
    assert "grid.json was changed or damaged" in page.words


def test_chart_is_written_by_itself(grid_run: Path) -> None:
    path = draw_grid(grid_run, grid_run / "chart.svg")
    assert path is not None
    assert path.read_text(encoding="utf-8").count("Pareto front") > 1
    assert draw_grid(grid_run / "nothing", grid_run / "other.svg") is None


def test_an_unfinished_grid_says_how_far_it_is(grid_run: Path) -> None:
    make_config(grid_run)
    (grid_run / "arch.json").unlink()
    (grid_run / "summary.json").unlink()
    said = " ".join(unfinished(read_run_folder(grid_run)))
    assert "The search has completed 3 of 3 combinations of its grid." in said


def test_a_grid_that_is_cut_in_its_first_size_says_how_many_there_are(run: Path) -> None:
    make_grid(run, [], front=[], best=None, total=8)
    make_config(run)
    for name in ("arch.json", "summary.json"):
        (run / name).unlink()
    said = " ".join(unfinished(read_run_folder(run)))
    assert "The search has completed 0 of 8 combinations of its grid." in said
    assert "Of 8 sizes of the network 0 were searched" in Text(write_report(run).read_text(encoding="utf-8")).words


def test_accuracies_of_a_grid_are_not_those_of_a_supergraph(search_only: Path) -> None:
    make_grid(search_only, [], front=[], best=None)
    assert "supergraph" in honest_sentences(read_run_folder(search_only))[0]
    grid = json.loads((search_only / "grid.json").read_text())
    (search_only / "grid.json").write_text(json.dumps({**grid, "rows": [row(8, 1e6, 85.0)]}))
    assert honest_sentences(read_run_folder(search_only)) == (
        "The found architecture has not been retrained yet, so there is no test accuracy. Accuracies of the sizes are "
        "those of brief trainings, on validation images by which one size was chosen; they do not tell how good the "
        "found network will be.",
    )


def make_config(run: Path) -> None:
    grid = "grid:\n  max_cells: 8\n  max_nodes: 1\n  max_reductions: null\n  epochs: 5\n"
    (run / "config.yaml").write_text(f"data:\n  source: digits\nsearch:\n  epochs: 12\n{grid}")


def test_watch_and_settings_know_a_grid(grid_run: Path) -> None:
    make_config(grid_run)
    run = read_run_folder(grid_run)
    assert run.grid is not None
    assert phase_words("search_r2_c8_n4") == "search with 2 reductions, 8 cells, 4 nodes"
    assert phase_words("search_r1_c8_n4_train") == "brief training with 1 reduction, 8 cells, 4 nodes"
    assert phase_words("search_r1_c8_n4_3") == "random architecture 3 with 1 reduction, 8 cells, 4 nodes"
    assert [planned_epochs(run, f"search_r2_c8_n4{part}") for part in ("", "_train", "_0")] == [12, 5, None]
    assert done_words(run, run.metrics[0]) == "1 of 12 epochs done"
    assert grid_words(run.grid) == "3 of 3 combinations done, best 85.00 % with 2 reductions, 8 cells, 4 nodes"
    assert (
        dict(settings_rows(run))["Sizes"]
        == "from that of the space up to 8 cells and 1 node; brief trainings of 5 epochs"
    )


def make_random(run: Path) -> None:
    (run / "alphas.jsonl").unlink()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    template = next(line for line in lines if line["phase"] == "search")
    accuracies = {0: (40.0, 50.0), 1: (70.0, 60.0), 2: (10.0, 20.0)}
    members = [
        {**template, "phase": f"search_{i}", "epoch": e, "val": {"loss": 1.0, "top1": top1}}
        for i, course in accuracies.items()
        for e, top1 in enumerate(course)
    ]
    kept = [line for line in lines if line["phase"] != "search"]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*members, *kept]))


def test_random_architectures_are_told(run: Path) -> None:
    make_random(run)
    read = read_run_folder(run)
    assert search_story(read)[0] == (
        "3 random architectures were trained for 2 epochs each. Architecture 1 has the highest validation accuracy, "
        "70.00 %; the one in the middle has 50.00 %, the lowest is 20.00 %."
    )
    shown = [(phase.title, phase.secondary) for phase in phase_curves(read.metrics)]
    assert shown[:3] == [(f"Short training of random architecture {k}", k != 1) for k in range(3)]
    page = Text(write_report(run).read_text(encoding="utf-8"))
    assert "alphas.jsonl" not in page.words


def test_accuracies_of_a_random_search_are_not_those_of_a_supergraph(search_only: Path) -> None:
    assert "supergraph" in honest_sentences(read_run_folder(search_only))[0]
    make_random(search_only)
    (sentence,) = honest_sentences(read_run_folder(search_only))
    assert "short trainings" in sentence
    assert "supergraph" not in sentence


def test_a_found_architecture_of_another_size_has_no_mixtures(grid_run: Path) -> None:
    ModelDesc.load(grid_run / "full_arch.json").save(grid_run / "arch.json")
    assert read_run_folder(grid_run).mixtures == ()
