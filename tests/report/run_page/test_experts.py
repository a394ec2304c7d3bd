"""Tests of what the report says of experts: history, charts and story of a search that wipes out."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gradnas.arch import DARTS_PRIMITIVES
from gradnas.report import write_report
from gradnas.report.drawing.palette import COLORS, family_of_name, line_styles
from gradnas.report.drawing.scene import Box, Group, Label, Scene, text_width
from gradnas.report.drawing.scene import Path as Curve
from gradnas.report.drawing.svg import to_svg
from gradnas.report.records.expert_history import ExpertHistory, expert_histories
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.run_page.expert_story import expert_story
from gradnas.report.run_page.log_weight_chart import log_weight_chart
from gradnas.report.run_page.survivors_chart import survivors_chart

Record = dict[str, Any]
EDGES = [[0, 0], [0, 1], [1, 2]]
NAMES = ["s0 → n0", "s1 → n0", "n0 → n1"]
OPS = ["sep_conv_3x3", "none", "skip_connect"]

# Of the experts (edge, op): log-weights after each of four epochs, and the epoch of the fall.
VALUES = {
    (0, 0): [0.0, 0.0, 0.0, 0.0],
    (0, 1): [-2.0, -5.0, -9.5, -9.5],
    (0, 2): [-1.0, -1.5, -2.0, -3.0],
    (1, 0): [-0.5, 0.0, 0.0, 0.0],
    (1, 1): [0.0, -0.25, -1.0, -1.5],
    (1, 2): [-3.0, -8.0, -8.0, -8.0],
    (2, 0): [-4.0, -4.0, -4.0, -4.0],
    (2, 1): [-1.0, -2.0, -2.5, -2.75],
    (2, 2): [0.0, 0.0, 0.0, 0.0],
}
FALLS = {(0, 1): 2, (0, 2): 3, (1, 2): 1, (2, 0): 0}


def small_records() -> list[Record]:
    records = []
    for epoch in range(4):
        active = [[epoch < FALLS.get((e, i), 99) for i in range(3)] for e in range(3)]
        cell = {
            "edges": EDGES,
            "ops": OPS,
            "alphas": [[VALUES[e, i][epoch] for i in range(3)] for e in range(3)],
            "survivors": active,
            "weights": [
                [0.6 if i == [0, 1, 2][e] else 0.2 if active[e][i] else 0.0 for i in range(3)] for e in range(3)
            ],
        }
        strategy = {
            "bound_hits": {"regular": 0.013},
            "rounds": {"regular": [250 * (epoch + 1), 1250]},
            "eta": {"regular": 0.058},
        }
        records.append({"epoch": epoch, "cells": {"regular": cell}, "entropy": 0.5, "strategy": strategy})
    return records


def folder_of(tmp_path: Path, records: list[Record]) -> Path:
    (tmp_path / "alphas.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path


def history_of(tmp_path: Path, records: list[Record]) -> ExpertHistory:
    (history,) = expert_histories(read_run_folder(folder_of(tmp_path, records)).mixtures)
    return history


def story_of(tmp_path: Path, records: list[Record]) -> str:
    mixtures = read_run_folder(folder_of(tmp_path, records)).mixtures
    return " ".join(expert_story(mixtures, expert_histories(mixtures)))


def groups(scene: Scene, kind: str) -> list[Group]:
    def walk(items: tuple[Any, ...]) -> list[Group]:
        found = []
        for item in items:
            if isinstance(item, Group):
                found += [item] if item.kind == kind else walk(item.items)
        return found

    return walk(scene.items)


def axis(scene: Scene, panel: str) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Pixels to (epoch, value), read off the tick labels of a panel as a reader would."""
    (group,) = [g for g in groups(scene, "panel") if dict(g.data)["edge"] == panel]
    labels = [item for item in group.items if isinstance(item, Label)]
    (name,) = [label for label in labels if label.text == panel]
    beside = [g for g in groups(scene, "panel") if g.items[0].y == name.y]  # the axis of the first of the row
    ends = [i for g in beside for i in g.items if isinstance(i, Label) and i.anchor == "end" and i.fill == "muted"]
    y_ticks = [(i.y, float(i.text.replace("−", "-"))) for i in ends if i.text.strip("−0123456789.") == ""]
    x_ticks = [(i.x, float(i.text)) for i in labels if i.anchor == "middle"]

    def straight(ticks: list[tuple[float, float]]) -> Callable[[float], float]:
        (p0, v0), (p1, v1) = ticks[0], ticks[-1]
        return lambda pixel: v0 + (pixel - p0) / (p1 - p0) * (v1 - v0)

    return straight(x_ticks), straight(y_ticks)


def drawn(scene: Scene, edge: str, op: str) -> tuple[list[tuple[str, float, float]], tuple[float, float] | None]:
    """The points of a curve as (command, epoch, value), and where its cross stands."""
    to_epoch, to_value = axis(scene, edge)
    (group,) = [g for g in groups(scene, "expert") if dict(g.data) | {"edge": edge, "op": op} == dict(g.data)]
    curve, *crosses = group.items
    assert isinstance(curve, Curve)
    points = [(name, round(to_epoch(at[0]), 6), round(to_value(at[1]), 6)) for name, at in curve.commands]
    if not crosses:
        return points, None
    (cross,) = crosses
    assert isinstance(cross, Curve)
    xs, ys = zip(*(at for _, at in cross.commands), strict=True)
    return points, (round(to_epoch(sum(xs) / 4), 6), round(to_value(sum(ys) / 4), 6))


def test_every_field_has_the_number_of_experts_that_were_active_in_its_epochs(expert_run: Path) -> None:
    records = [json.loads(line) for line in (expert_run / "alphas.jsonl").read_text().splitlines()]
    histories = expert_histories(read_run_folder(expert_run).mixtures)
    assert [history.kind for history in histories] == ["regular", "reduction"]
    for history in histories:
        scene = survivors_chart(history)
        seen = {}
        for field in groups(scene, "field"):
            data = dict(field.data)
            box, label = field.items[0], field.items[-1]
            assert isinstance(box, Box)
            assert isinstance(label, Label)
            assert label.text == data["active"]
            assert box.x <= label.x <= box.x + box.width
            for epoch in range(int(data["from"]), int(data["to"]) + 1):
                assert (data["edge"], epoch) not in seen
                seen[data["edge"], epoch] = int(data["active"])
        expected = {
            (history.edge_name(e), record["epoch"]): sum(row)
            for record in records
            for e, row in enumerate(record["cells"][history.kind]["survivors"])
        }
        assert len(expected) == 50 * 14
        assert len(set(expected.values())) > 4
        assert seen == expected


def test_fields_stand_over_their_epochs_and_darken_with_their_number(tmp_path: Path) -> None:
    scene = survivors_chart(history_of(tmp_path, small_records()))
    ticks = {i.text: i.x for i in scene.items if isinstance(i, Label) and i.anchor == "middle"}
    fields = [(dict(g.data), g.items[1]) for g in groups(scene, "field")]
    assert [(d["edge"], d["from"], d["to"], d["active"]) for d, _ in fields] == [
        ("s0 → n0", "0", "1", "3"),
        ("s0 → n0", "2", "2", "2"),
        ("s0 → n0", "3", "3", "1"),
        ("s1 → n0", "0", "0", "3"),
        ("s1 → n0", "1", "3", "2"),
        ("n0 → n1", "0", "3", "2"),
    ]
    for data, box in fields:
        assert isinstance(box, Box)
        assert box.x < ticks[data["from"]] <= ticks[data["to"]] < box.x + box.width
        assert all(not box.x < x < box.x + box.width for t, x in ticks.items() if not data["from"] <= t <= data["to"])
        assert box.opacity == round(int(data["active"]) / 3, 3)


def test_fields_tell_on_hovering_who_fell_and_the_margin_who_is_left(tmp_path: Path) -> None:
    scene = survivors_chart(history_of(tmp_path, small_records()))
    titles = [g.title for g in groups(scene, "field")]
    assert titles[0] == "s0 → n0, epochs 0–1: 3 of 3 active"
    assert titles[1] == "s0 → n0, epoch 2: 2 of 3 active; fell in epoch 2: none"
    assert titles[2] == "s0 → n0, epoch 3: 1 of 3 active; fell in epoch 3: skip_connect"
    texts = [item.text for item in scene.items if isinstance(item, Label)]
    assert [text for text in texts if text == "sep_conv_3x3" or text.endswith("left")] == [
        "sep_conv_3x3",
        "2 left",
        "2 left",
    ]


@pytest.mark.parametrize("expert", sorted(VALUES))
def test_curve_shows_the_log_weights_until_the_fall_and_a_cross_there(tmp_path: Path, expert: tuple[int, int]) -> None:
    scene = log_weight_chart(history_of(tmp_path, small_records()))
    assert scene is not None
    points, cross = drawn(scene, NAMES[expert[0]], OPS[expert[1]])
    last = FALLS.get(expert, 3)
    expected = [("M" if epoch == 0 else "L", epoch, VALUES[expert][epoch]) for epoch in range(last + 1)]
    assert points == expected
    assert cross == ((last, VALUES[expert][last]) if expert in FALLS else None)


def test_curve_has_the_color_of_its_op_in_the_legend(tmp_path: Path) -> None:
    scene = log_weight_chart(history_of(tmp_path, small_records()))
    assert scene is not None
    legend = {
        label.text: (sample.stroke, sample.dashed)
        for sample, label in zip(scene.items, scene.items[1:], strict=False)
        if isinstance(sample, Curve) and isinstance(label, Label)
    }
    assert list(legend) == [*OPS, "falls"]
    for group in groups(scene, "expert"):
        curve = group.items[0]
        assert isinstance(curve, Curve)
        assert (curve.stroke, curve.dashed) == legend[dict(group.data)["op"]]


def test_panel_names_the_edge_and_the_op_with_the_largest_weight(tmp_path: Path) -> None:
    scene = log_weight_chart(history_of(tmp_path, small_records()))
    assert scene is not None
    heads = [[i.text for i in g.items[:2] if isinstance(i, Label)] for g in groups(scene, "panel")]
    assert heads == [["s0 → n0", "sep_conv_3x3"], ["s1 → n0", "none"], ["n0 → n1", "skip_connect"]]


def test_every_expert_of_a_real_size_has_its_curve_and_falls_when_the_survivors_say_so(expert_run: Path) -> None:
    records = [json.loads(line) for line in (expert_run / "alphas.jsonl").read_text().splitlines()]
    for history in expert_histories(read_run_folder(expert_run).mixtures):
        scene = log_weight_chart(history)
        assert scene is not None
        falls = {(d["edge"], d["op"]): d["falls"] for d in (dict(g.data) for g in groups(scene, "expert"))}
        tables = [record["cells"][history.kind]["survivors"] for record in records]
        expected = {
            (history.edge_name(e), op): next((str(t) for t, table in enumerate(tables) if not table[e][i]), "")
            for e in range(14)
            for i, op in enumerate(DARTS_PRIMITIVES)
        }
        assert falls == expected
        for edge, op in [("s0 → n0", "skip_connect"), ("n2 → n3", "none")]:
            e, i = [history.edge_name(k) for k in range(14)].index(edge), DARTS_PRIMITIVES.index(op)
            last = int(falls[edge, op] or 49)
            points, cross = drawn(scene, edge, op)
            values = [record["cells"][history.kind]["alphas"][e][i] for record in records[: last + 1]]
            assert [value for _, _, value in points] == pytest.approx(values, abs=1e-4)
            assert (cross is None) is (falls[edge, op] == "")


def test_nothing_is_drawn_outside_its_place(expert_run: Path, tmp_path: Path) -> None:
    long = json.loads(json.dumps(small_records()).replace("skip_connect", "a_very_long_name_of_an_operation_of_mine"))
    histories = [*expert_histories(read_run_folder(expert_run).mixtures), history_of(tmp_path, long)]
    scenes = [draw(history) for history in histories for draw in (survivors_chart, log_weight_chart)]
    for scene in scenes:
        assert scene is not None
        lines: dict[float, list[tuple[float, float]]] = {}
        for item in scene.leaves():
            if isinstance(item, Label):
                wide = text_width(item.text, item.size)
                left = item.x - {"start": 0.0, "middle": wide / 2, "end": wide}[item.anchor]
                assert left >= 0
                assert left + wide <= scene.width
                assert 0 <= item.y <= scene.height
                lines.setdefault(item.y, []).append((left, left + wide))
        for texts in lines.values():
            for (_, end), (start, _) in zip(sorted(texts), sorted(texts)[1:], strict=False):
                assert end <= start
        for group in groups(scene, "panel"):
            plot = [i for i in group.items if isinstance(i, Curve) and i.stroke == "faint"]
            xs = [at[0] for i in plot for _, at in i.commands]
            ys = [at[1] for i in plot for _, at in i.commands]
            curves = [i.items[0] for i in group.items if isinstance(i, Group)]
            for x, y in (at for curve in curves if isinstance(curve, Curve) for _, at in curve.commands):
                assert min(xs) <= x <= max(xs)
                assert min(ys) <= y <= max(ys)


def test_thinned_curves_of_a_long_search_keep_their_ends(tmp_path: Path) -> None:
    records = []
    for epoch in range(1003):
        record = small_records()[0]
        cell = record["cells"]["regular"]
        cell["alphas"][0][1] = -epoch / 10
        cell["survivors"] = [[True, epoch < 777, True], [True] * 3, [True] * 3]
        records.append(record | {"epoch": epoch})
    scene = log_weight_chart(history_of(tmp_path, records))
    assert scene is not None
    points, cross = drawn(scene, "s0 → n0", "none")
    assert len(points) < 100
    assert points[0] == ("M", 0, 0)
    assert {name for name, _, _ in points[1:]} == {"L"}
    assert cross == (777, -77.7)
    assert drawn(scene, "s0 → n0", "skip_connect")[0][-1] == ("L", 1002, -1)


def test_epoch_that_stands_twice_counts_with_its_last_record(tmp_path: Path) -> None:
    old = small_records()[2]
    old["cells"]["regular"]["alphas"][0][1] = -7.0
    old["cells"]["regular"]["survivors"] = [[True] * 3] * 3
    first, second, third, fourth = small_records()
    assert history_of(tmp_path, [first, second, old, third, fourth]) == history_of(tmp_path, small_records())


def test_missing_epoch_is_a_gap_between_fields(tmp_path: Path) -> None:
    records = small_records()
    del records[2]
    scene = survivors_chart(history_of(tmp_path, records))
    assert [(d["from"], d["to"]) for d in (dict(g.data) for g in groups(scene, "field")) if d["edge"] == NAMES[1]] == [
        ("0", "0"),
        ("1", "1"),
        ("3", "3"),
    ]


def test_damaged_log_weights_break_the_curve_and_leave_the_survivors(tmp_path: Path) -> None:
    records = small_records()
    records[1]["cells"]["regular"]["alphas"][1][1] = math.nan
    history = history_of(tmp_path, records)
    scene = log_weight_chart(history)
    assert scene is not None
    assert drawn(scene, "s0 → n0", "sep_conv_3x3")[0] == [("M", 0, 0), ("M", 2, 0), ("L", 3, 0)]
    (problem,) = read_run_folder(tmp_path).problems
    assert problem == (
        "alphas.jsonl, line 2: the log-weights of the regular cell are not a table of edges by ops; the charts of the "
        "experts lack them."
    )
    assert survivors_chart(history) == survivors_chart(history_of(tmp_path, small_records()))


def test_epochs_with_damaged_survivors_or_other_experts_are_left_out(tmp_path: Path) -> None:
    records = small_records()
    records[1]["cells"]["regular"]["survivors"][0] = [1, 1, 1]
    records[2]["cells"]["regular"]["ops"] = ["sep_conv_3x3", "none", "max_pool_3x3"]
    assert history_of(tmp_path, records).epochs == (0, 3)
    (problem,) = read_run_folder(tmp_path).problems
    assert "line 2: the survivors of the regular cell are not a table" in problem


TABLES: list[Any] = [[[1e308, -1e308, 5e-324]] * 3, [[-5e-324] * 3] * 3]  # of numbers no search would write
NONSENSE: list[Any] = [
    None,
    "x",
    -1,
    math.nan,
    math.inf,
    10**400,
    [],
    {},
    [[]],
    [[], [], []],
    [None] * 3,
    [[True] * 3] * 2,
    [[True, False, None]] * 3,
    [[True] * 4] * 3,
    {"regular": "x"},
    {"regular": [1]},
    {"regular": [math.nan, 3]},
    {"regular": [3, 0]},
    {"regular": [-1, 0.5]},
    {"regular": 10**400},
    {"regular": [1e308, 1e308]},
    {"<b>": 0.1},
]


@pytest.mark.parametrize("value", TABLES + NONSENSE)
@pytest.mark.parametrize("place", ["survivors", "alphas", "strategy", "bound_hits", "rounds", "eta"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_no_value_stops_the_page(tmp_path: Path, place: str, value: Any, everywhere: bool) -> None:
    records = small_records()
    for record in records if everywhere else records[2:3]:
        if place in ("survivors", "alphas"):
            record["cells"]["regular"][place] = value
        elif place == "strategy":
            record["strategy"] = value
        else:
            record["strategy"][place] = value
    page = write_report(folder_of(tmp_path, records)).read_text(encoding="utf-8")
    assert "<b>" not in page
    assert not re.search(r"\b(nan|inf)\b", page, re.IGNORECASE)
    harmless = (
        place not in ("survivors", "alphas")
        or (place == "alphas" and value in TABLES)
        or (place == "survivors" and value is None)
    )
    assert ('id="problems"' in page) is not harmless
    assert ("Experts and wipe-out" in page) is not (place == "survivors" and everywhere)


@pytest.mark.parametrize("missing", ["bound_hits", "rounds", "eta", "strategy"])
def test_missing_keys_shorten_the_sentence(tmp_path: Path, missing: str) -> None:
    records = small_records()
    for record in records:
        record["strategy"].pop(missing, None)
        record.pop(missing, None)
    told = {
        "bound_hits": "In the regular cell 5 of 9 experts are left, a single one on 1 of 3 edges, after round 1,000 of "
        "1,250 at η = 0.058.",
        "rounds": "In the regular cell 5 of 9 experts are left, a single one on 1 of 3 edges; 1.3 % of the rewards hit "
        "the bound.",
        "eta": "In the regular cell 5 of 9 experts are left, a single one on 1 of 3 edges, after round 1,000 of 1,250; "
        "1.3 % of the rewards hit the bound.",
        "strategy": "In the regular cell 5 of 9 experts are left, a single one on 1 of 3 edges.",
    }
    assert story_of(tmp_path, records) == told[missing]


def test_story_of_each_cell_type_has_its_own_numbers(expert_run: Path) -> None:
    page = write_report(expert_run).read_text(encoding="utf-8")
    for kind, rounds, eta in (("regular", "384,000", "0.00329"), ("reduction", "128,000", "0.0057")):
        sentence = f"In the {kind} cell 14 of 112 experts are left, one on every edge, after round {rounds} of {rounds}"
        assert f"<p>{sentence} at η = {eta}; 2.1 % of the rewards hit the bound.</p>" in page


@pytest.mark.parametrize(
    ("hits", "words", "warned"),
    [
        (0.0, "none of the rewards hit the bound", False),
        (0.0001, "less than 0.1 % of the rewards hit the bound", False),
        (0.1, "10.0 % of the rewards hit the bound", False),
        (0.102, "10.2 % of the rewards hit the bound", True),
    ],
)
def test_rewards_at_the_bound_are_told_and_many_of_them_warned_about(
    tmp_path: Path, hits: float, words: str, warned: bool
) -> None:
    records = small_records()
    records[-1]["strategy"]["bound_hits"]["regular"] = hits
    story = story_of(tmp_path, records)
    assert words in story
    assert ("the bound is too small" in story) is warned
    assert ("the best expert may have been hurt" in story) is warned


@pytest.mark.parametrize(("played", "falls", "inert"), [(1250, False, True), (1249, False, False), (1250, True, False)])
def test_wipe_out_that_never_acted_is_called_inert_once_all_rounds_were_played(
    tmp_path: Path, played: int, falls: bool, inert: bool
) -> None:
    records = small_records()
    records[-1]["strategy"]["rounds"]["regular"] = [played, 1250]
    for record in [] if falls else records:
        record["cells"]["regular"]["survivors"] = [[True] * 3] * 3
    assert ("the bound is too loose, and the wipe-out was inert" in story_of(tmp_path, records)) is inert


@pytest.mark.parametrize(("fall", "late"), [(17, False), (18, True), (19, True)])
def test_first_fall_in_the_last_tenth_of_the_search_is_called_late(tmp_path: Path, fall: int, late: bool) -> None:
    records = []
    for epoch in range(20):
        record = small_records()[0] | {"epoch": epoch}
        record["cells"]["regular"]["survivors"] = [[True, epoch < fall, True], [True, epoch < 19, True], [True] * 3]
        record["strategy"]["rounds"]["regular"] = [10 * (epoch + 1), 200]
        records.append(record)
    assert (f"None of them fell before epoch {fall}: the bound is loose" in story_of(tmp_path, records)) is late


def test_without_survivors_the_page_is_that_of_any_other_strategy(expert_run: Path) -> None:
    path = expert_run / "alphas.jsonl"
    with_experts = without_weights(write_report(expert_run).read_text(encoding="utf-8"))
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        del record["strategy"]
        for cell in record["cells"].values():
            del cell["survivors"], cell["alphas"]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    start = with_experts.index("<h3>Experts and wipe-out</h3>")
    end = with_experts.index("</section>", start)
    page = without_weights(write_report(expert_run).read_text(encoding="utf-8"))
    assert page == with_experts[:start] + with_experts[end:]


def without_weights(page: str) -> str:
    """The page without the panels of the weights, in which crosses mark who was wiped out."""
    start = page.index("<h3>Mixing weights of the regular cell over the epochs</h3>")
    return page[:start] + page[page.index('</div>\n<details class="secondary"><summary>Weights of all edges', start) :]


def test_runs_of_other_strategies_say_nothing_of_experts(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    assert not [word for word in ("xpert", "wipe", "log-weight", "hit the bound") if word in page]


def test_page_of_a_real_size_stays_small(expert_run: Path) -> None:
    assert write_report(expert_run).stat().st_size < 1_500_000


def test_markup_in_names_stays_text(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>&\x00'
    records = json.loads(json.dumps(small_records()).replace('"none"', json.dumps(evil)))
    for record in records:
        record["cells"] = {evil: record["cells"]["regular"]}
        record["strategy"] = {name: {evil: part["regular"]} for name, part in record["strategy"].items()}
    history = history_of(tmp_path, records)
    for scene in (survivors_chart(history), log_weight_chart(history)):
        assert scene is not None
        assert not [
            element for element in ElementTree.fromstring(to_svg(scene)).iter() if element.tag.endswith("script")
        ]
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("<script") == page.count('<script>"use strict"') == 1
    assert "In the &lt;script&gt;" in page
    assert "1.3 % of the rewards" in page


def test_curves_of_the_darts_candidates_differ_and_have_the_colors_of_their_families() -> None:
    styles = line_styles(DARTS_PRIMITIVES)
    assert len(set(styles)) == 8
    for op, (role, _) in zip(DARTS_PRIMITIVES, styles, strict=True):
        assert role == f"{family_of_name(op)}-line"
    many = line_styles([f"conv_{i}" for i in range(40)])
    assert len(set(many[:8])) == 8
    assert {role for role, _ in many} <= set(COLORS)
