"""Tests of ``src/gradnas/report/records/weight_history.py`` and ``weight_panel.py``."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from gradnas.report.drawing.scene import Box, Group, Label, Scene, text_width
from gradnas.report.drawing.scene import Path as Path_
from gradnas.report.drawing.svg import to_svg_part
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.records.weight_history import WeightHistory, kept, weight_histories
from gradnas.report.records.would_be import Wire, WouldBe
from gradnas.report.run_page.weight_panel import color_scale, weight_panel

OPS = ("pool", "conv", "none")


def line(epoch: int, *rows: list[float], **more: Any) -> dict[str, Any]:
    cell = {"edges": [[0, 0], [0, 1]], "ops": list(OPS), "weights": list(rows), **more}
    return {"epoch": epoch, "cells": {"regular": cell}}


def history_of(folder: Path, *lines: dict[str, Any]) -> WeightHistory:
    (folder / "alphas.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    (history,) = weight_histories(read_run_folder(folder).mixtures)
    return history


@pytest.fixture
def history(tmp_path: Path) -> WeightHistory:
    return history_of(
        tmp_path,
        line(0, [0.25, 0.5, 0.25], [0.2, 0.4, 0.4]),
        line(1, [0.25, 0.5, 0.25], [0.2, 0.4, 0.4]),
        line(2, [0.0, 0.8, 0.2], [0.2, 0.4, 0.4]),
        line(4, [0.0, 0.8, 0.2], [0.1, 0.4, 0.5]),
    )


def groups(scene: Scene, kind: str) -> list[Group]:
    return [item for item in scene.items if isinstance(item, Group) and item.kind == kind]


def lines_in(path: Path_, op: int) -> list[tuple[float, float]]:
    """(start, end) of the lines of a path in the row of a candidate."""
    ends: list[tuple[float, float]] = []
    for name, at in path.commands:
        if name == "M":
            start = at
        elif at[1] == pytest.approx(34 + 16 * (op + 0.5)):
            ends.append((start[0], at[0]))
    return ends


def colored(scene: Scene, op: str) -> list[tuple[float, float, float]]:
    """(start, end, opacity) of the colored stretches of a row, from left to right."""
    (group,) = groups(scene, "shades")
    rows = [dict(row.data)["op"] for row in groups(scene, "row")]
    paths = [item for item in group.items if isinstance(item, Path_)]
    return sorted((*line, path.opacity) for path in paths for line in lines_in(path, rows.index(op)))


def behind(scene: Scene, op: str) -> list[tuple[float, float]]:
    """(start, end) of the stretches of a row in which its candidate lives."""
    (path,) = [item for item in scene.items if isinstance(item, Path_) and item.stroke == "other"]
    return lines_in(path, [dict(row.data)["op"] for row in groups(scene, "row")].index(op))


def crosses(scene: Scene, op: str) -> list[Path_]:
    (row,) = [group for group in groups(scene, "row") if dict(group.data)["op"] == op]
    return [item for item in row.items if isinstance(item, Path_) and item.stroke == "ink"]


def panel(history: WeightHistory, **changed: Any) -> Scene:
    settings: dict[str, Any] = {"kept": {1}, "shown": 4, "epochs": (0, 1, 2, 3, 4), **changed}
    return weight_panel(history, 0, **settings)


def test_color_is_the_share_of_the_largest_weight_of_the_cell(history: WeightHistory) -> None:
    assert history.strongest() == 0.8
    conv = colored(panel(history), "conv")
    assert [opacity for _, _, opacity in conv] == pytest.approx([0.6, 1.0, 1.0])  # 0.5 / 0.8 in twentieths
    assert [opacity for _, _, opacity in colored(panel(history), "pool")] == pytest.approx([0.3])


def test_neighboring_epochs_of_one_shade_are_one_rectangle_and_a_gap_parts_them(history: WeightHistory) -> None:
    scene = panel(history)
    step = float(dict(groups(scene, "now")[0].data)["step"])
    first, second, third = [(start, end - start) for start, end, _ in colored(scene, "conv")]
    assert [wide for _, wide in (first, second, third)] == pytest.approx([2 * step, step, step], abs=1e-3)
    assert second[0] - first[0] == pytest.approx(2 * step, abs=1e-3)
    assert third[0] - first[0] == pytest.approx(4 * step, abs=1e-3)  # epoch 3 is missing
    assert [end - start for start, end in behind(scene, "conv")] == pytest.approx([3 * step, step], abs=1e-3)


def test_weights_of_every_epoch_are_there_for_the_script(history: WeightHistory) -> None:
    values = {dict(g.data)["op"]: dict(g.data)["values"] for g in groups(panel(history), "weight")}
    assert values == {
        "pool": "25 25 0 - 0",
        "conv": "50 50 80 - 80",
        "none": "25 25 20 - 20",
    }
    shown = [
        item.text
        for group in groups(panel(history, shown=1), "weight")
        for item in group.items
        if isinstance(item, Label)
    ]
    assert shown == ["0.25", "0.50", "0.25"]


def test_kept_rows_are_marked_and_named(history: WeightHistory) -> None:
    scene = panel(history)
    bold = [item.text for item in scene.items if isinstance(item, Label) and item.bold]
    assert bold == ["s0 → n0", "conv"]
    dots = [item for item in scene.items if isinstance(item, Box) and item.fill == "mark"]
    assert len(dots) == 1
    assert "keeps conv" in scene.title
    assert "not in the cell" in panel(history, kept=()).title


def test_frame_stands_on_the_epoch_shown(history: WeightHistory) -> None:
    (late,), (early,) = groups(panel(history), "now"), groups(panel(history, shown=1), "now")
    assert (dict(late.data)["epoch"], dict(early.data)["epoch"]) == ("4", "1")
    a, b = late.items[0], early.items[0]
    assert isinstance(a, Box)
    assert isinstance(b, Box)
    assert a.x - b.x == pytest.approx(3 * float(dict(late.data)["step"]), abs=1e-3)


def test_wiped_out_candidates_end_in_a_cross(tmp_path: Path) -> None:
    alive, dead = [[True] * 3] * 2, [[True, True, False], [True] * 3]
    weights = ([0.3, 0.4, 0.3], [0.2, 0.4, 0.4])
    history = history_of(
        tmp_path,
        line(0, *weights, survivors=alive),
        line(1, *weights, survivors=dead),
        line(2, [0.4, 0.6, 0.0], [0.2, 0.4, 0.4], survivors=dead),
    )
    assert [history.fall(0, op) for op in range(3)] == [None, None, 1]
    scene = panel(history, epochs=(0, 1, 2), shown=2)
    rows = {dict(group.data)["op"]: group for group in groups(scene, "row")}
    assert "none: 0.300 after epoch 0, wiped out in epoch 1" in rows["none"].title
    assert len(colored(scene, "none")) == 1
    assert {dict(g.data)["op"]: dict(g.data)["values"] for g in groups(scene, "weight")}["none"] == "30 x x"
    assert len(crosses(scene, "none")) == 2
    assert crosses(scene, "conv") == []


@pytest.mark.parametrize("epochs", [2, 5, 50, 400])
def test_the_cross_of_any_epoch_stands_in_the_plot(tmp_path: Path, epochs: int) -> None:
    weights = ([0.3, 0.4, 0.3], [0.2, 0.4, 0.4])
    for falls in (1, epochs // 2, epochs - 1):
        lines = [
            line(e, *weights, survivors=[[True, True, e < falls], [True] * 3] if e else [[True] * 3] * 2)
            for e in range(epochs)
        ]
        scene = panel(history_of(tmp_path, *lines), epochs=range(epochs), shown=0)
        xs = [x for stroke in crosses(scene, "none") for _, (x, _) in stroke.commands]
        left, right = behind(scene, "conv")[0]
        assert left < min(xs) < max(xs) < right
        texts = [label for group in groups(scene, "weight") for label in group.items if isinstance(label, Label)]
        assert max(xs) < min(label.x - text_width(label.text, label.size) for label in texts)


def test_a_candidate_that_never_lived_has_no_color(tmp_path: Path) -> None:
    dead = [[True, True, False], [True] * 3]
    history = history_of(tmp_path, line(0, [0.5, 0.5, 0.0], [0.2, 0.4, 0.4], survivors=dead))
    assert history.fall(0, 2) == 0
    assert behind(panel(history, shown=0, epochs=(0,)), "none") == []


def test_edges_with_other_candidates_have_their_own_names(tmp_path: Path) -> None:
    names = [["pool", "conv", "none"], ["left", "right", "up"]]
    history = history_of(tmp_path, line(0, [0.2, 0.3, 0.5], [0.1, 0.1, 0.8], edge_ops=names))
    assert history.ops == (("pool", "conv", "none"), ("left", "right", "up"))
    scene = weight_panel(history, 1, kept=(), shown=0, epochs=(0,))
    assert [dict(group.data)["op"] for group in groups(scene, "row")] == ["left", "right", "up"]


@pytest.mark.parametrize("names", [[["a", "b", "c"]], "x", [["a"], ["b"]], [["a", "b", "c"], 3]])
def test_damaged_names_of_edges_are_those_of_the_first(tmp_path: Path, names: object) -> None:
    assert history_of(tmp_path, line(0, [0.2, 0.3, 0.5], [0.1, 0.1, 0.8], edge_ops=names)).ops == (OPS, OPS)


def test_epochs_with_other_edges_or_candidates_than_the_last_are_left_out(tmp_path: Path) -> None:
    rows = ([0.2, 0.3, 0.5], [0.1, 0.1, 0.8])
    other = line(0, *rows, ops=["x", "y", "z"])
    assert history_of(tmp_path, other, line(1, *rows), line(2, *rows)).epochs == (1, 2)


def test_what_a_cell_keeps_is_found_by_edge_and_name(history: WeightHistory) -> None:
    shape = (1, 1, 1)
    plain = (Wire(op="conv", input_ids=(0,)), Wire(op="pool", input_ids=(1,)))
    composite = (Wire(op="multi", input_ids=(0, 1), parts=plain),)
    for wires in (plain, composite):
        cell = WouldBe(kind="regular", nodes=(wires,), merge="m", merged=(2,), shapes=(shape,) * 4, stems=("a", "b"))
        assert kept(history, cell) == {(0, 1), (1, 0)}
    assert kept(history, None) == frozenset()


def test_many_epochs_stay_small(tmp_path: Path) -> None:
    chance = random.Random(0)
    lines = [line(e, *([chance.random() for _ in OPS] for _ in range(2))) for e in range(1000)]
    history = history_of(tmp_path, *lines)
    scene = panel(history, shown=999, epochs=history.epochs)
    assert len(to_svg_part(scene)) < 20_000
    assert scene.width < 342  # what a phone of 390 pixels leaves


def test_epochs_narrower_than_a_pixel_share_a_column_and_its_color_is_their_mean(tmp_path: Path) -> None:
    lines = [line(e, [0.5, 0.4, 0.6 * (e % 2)], [0.2, 0.4, 0.4]) for e in range(336)]  # two to a column
    history = history_of(tmp_path, *lines)
    scene = panel(history, shown=0, epochs=history.epochs)
    ((start, end, opacity),) = colored(scene, "none")
    assert end - start == pytest.approx(168)
    assert opacity == 0.5


def test_scale_names_its_ends() -> None:
    scene = color_scale(0.375)
    assert [item.text for item in scene.items if isinstance(item, Label)] == ["0", "0.38"]
    opacities = [item.opacity for item in scene.items if isinstance(item, Box) and item.fill == "heat"]
    assert (opacities[0], opacities[-1]) == (0, 1)
    assert opacities == sorted(opacities)
