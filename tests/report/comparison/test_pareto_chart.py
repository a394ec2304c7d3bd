"""Tests of ``pareto_chart.py`` and ``row_marks.py``: what stands where."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnas.report.comparison.compare import compare
from gradnas.report.comparison.pareto_chart import MACS, SEARCH_TIME, pareto_chart, short_labels
from gradnas.report.comparison.row_marks import mark_item, row_marks
from gradnas.report.drawing.cost_plane import log_ticks
from gradnas.report.drawing.scene import Box, Group, Item, Label, Scene
from gradnas.report.drawing.scene import Path as Line
from gradnas.report.drawing.svg import to_svg

WriteRun = Callable[..., Path]


def chart(runs: list[Path], cost=MACS, *, mixed: bool = False) -> Scene:  # type: ignore[no-untyped-def]  # a Cost
    rows = compare(runs, mixed=mixed).rows
    scene = pareto_chart(rows, row_marks(rows), cost)
    assert scene is not None
    return scene


def groups(scene: Scene, kind: str) -> dict[str, Group]:
    return {dict(g.data).get("name", ""): g for g in scene.items if isinstance(g, Group) and g.kind == kind}


def middle(item: Item) -> tuple[float, float]:
    if isinstance(item, Group):
        return middle(item.items[0])
    if isinstance(item, Box):
        return item.x + item.width / 2, item.y + item.height / 2
    assert isinstance(item, Line)
    xs = [at[0] for _, at in item.commands if at]
    ys = [at[1] for _, at in item.commands if at]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


@pytest.fixture
def runs(write_run: WriteRun) -> list[Path]:
    made = [write_run(f"d{k}", seed=k, accuracy=96 + k, macs=4e5 + 1e5 * k, baseline=96.5) for k in range(3)]
    made.append(write_run("x", strategy="xnas", accuracy=98.0, macs=8e5))
    made.append(write_run("g", strategy="gdas", accuracy=95.0, macs=6e5))
    return made


def test_means_runs_and_names_are_there(runs: list[Path]) -> None:
    scene = chart(runs)
    assert set(groups(scene, "row")) == {"darts", "xnas", "gdas", "random search at equal budget"}
    assert set(groups(scene, "name")) == set(groups(scene, "row"))
    seeds = [dict(g.data)["seed"] for g in scene.items if isinstance(g, Group) and g.kind == "run"]
    assert sorted(seeds) == ["0", "0", "1", "1", "2", "2"]  # of darts and random search; a single run is its mean
    assert "97.00 %, 0.50 M, 3 runs" in groups(scene, "row")["darts"].title


def test_marks_stand_where_the_axes_say(runs: list[Path]) -> None:
    scene = chart(runs)
    labels = [item for item in scene.items if isinstance(item, Label)]
    x_axis = sorted((float(t.text), t.x) for t in labels if t.anchor == "middle" and t.y > 390)
    y_axis = sorted((float(t.text), t.y) for t in labels if t.anchor == "end" and re.fullmatch(r"[\d.]+", t.text))

    def at(axis: list[tuple[float, float]], value: float) -> float:
        (low, start), (high, end) = axis[0], axis[-1]
        return start + (value - low) / (high - low) * (end - start)

    for name, macs, accuracy in (("darts", 0.5, 97.0), ("xnas", 0.8, 98.0), ("gdas", 0.6, 95.0)):
        x, y = middle(groups(scene, "row")[name])
        assert x == pytest.approx(at(x_axis, macs), abs=0.6)
        assert y == pytest.approx(at(y_axis, accuracy), abs=2.5)  # a triangle's middle is not that of its box
    bar = groups(scene, "spread")["darts"].items[0]
    assert isinstance(bar, Line)
    ends = sorted(point[1] for _, point in bar.commands)
    assert ends == pytest.approx([at(y_axis, 98.0), at(y_axis, 96.0)], abs=0.6)
    assert groups(scene, "spread")["xnas"].items == ()


def test_the_front_climbs_and_names_its_rows(runs: list[Path]) -> None:
    scene = chart(runs)
    front = next(g for g in scene.items if isinstance(g, Group) and g.kind == "front")
    assert dict(front.data)["rows"] == "darts; xnas"
    flags = {name: dict(g.data)["front"] for name, g in groups(scene, "row").items()}
    assert flags == {"darts": "true", "xnas": "true", "gdas": "false", "random search at equal budget": "false"}
    line = front.items[0]
    assert isinstance(line, Line)
    points = [at for _, at in line.commands]
    assert points[0] == pytest.approx(middle(groups(scene, "row")["darts"]), abs=0.01)
    assert points[1] == pytest.approx((middle(groups(scene, "row")["xnas"])[0], points[0][1]), abs=0.9)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    last = middle(groups(scene, "row")["xnas"])
    grid = max(at[0] for item in scene.items if isinstance(item, Line) for _, at in item.commands if at)
    assert points[-1] == pytest.approx((grid, last[1]), abs=2.5)  # what costs more without being better is beaten
    assert points[-2][0] == pytest.approx(last[0], abs=0.9)
    assert points[-1][0] > points[-2][0] + 5


def test_a_front_of_one_row_reaches_to_the_right_edge(write_run: WriteRun) -> None:
    scene = chart([write_run("a", accuracy=98.0, macs=4e5), write_run("b", strategy="xnas", accuracy=90.0, macs=8e5)])
    front = next(g for g in scene.items if isinstance(g, Group) and g.kind == "front").items[0]
    assert isinstance(front, Line)
    (start, _), (end, height) = (at for _, at in front.commands)
    assert end > middle(groups(scene, "row")["xnas"])[0] > start
    assert height == pytest.approx(middle(groups(scene, "row")["darts"])[1])


def test_labels_leave_out_the_data_set_that_the_chart_is_of(write_run: WriteRun) -> None:
    runs = [write_run("a", baseline=97.0), write_run("b", accuracy=70.0, baseline=60.0, summary={"dataset": "other"})]
    rows = [row for row in compare(runs, mixed=True).rows if row.dataset == "other"]
    scene = pareto_chart(rows, row_marks(rows), MACS)
    assert scene is not None
    texts = [item.text for g in groups(scene, "name").values() for item in g.items if isinstance(item, Label)]
    assert sorted(texts) == ["darts", "random search at equal budget"]


def test_a_label_is_shortened_where_what_differs_stays() -> None:
    ends = [f"random search at equal budget (search.epochs={k})" for k in (4, 50)]
    assert short_labels(ends) == ["random search at…(search.epochs=4)", "random search at…search.epochs=50)"]
    starts = [f"{k}{'y' * 60}" for k in "ab"]
    near_end = [f"{'y' * 50}{k}{'z' * 22}" for k in "ab"]
    near_start = [f"{'y' * 22}{k}{'z' * 50}" for k in "ab"]
    for labels in (starts, near_end, near_start):
        assert len(set(short_labels(labels))) == 2
        assert all(len(text) == 34 for text in short_labels(labels))
    assert short_labels(["darts", "darts"]) == ["darts", "darts"]
    assert short_labels([]) == []


def test_random_search_is_a_cross_with_a_level(runs: list[Path]) -> None:
    scene = chart(runs)
    (name, level), *others = groups(scene, "level").items()
    assert name == "random search at equal budget"
    assert not others
    cross = groups(scene, "row")[name].items[0]
    line = level.items[0]
    assert isinstance(cross, Line)
    assert isinstance(line, Line)
    assert line.dashed
    assert line.commands[0][1][1] == pytest.approx(middle(cross)[1])


def test_everything_lies_inside_the_drawing(runs: list[Path]) -> None:
    for cost in (MACS, SEARCH_TIME):
        scene = chart(runs, cost)
        for item in scene.leaves():
            if isinstance(item, Line):
                xs, ys = zip(*(at for _, at in item.commands if at), strict=True)
            elif isinstance(item, Box):
                xs, ys = (item.x, item.x + item.width), (item.y, item.y + item.height)
            else:
                xs, ys = (item.x,), (item.y,)
            assert 0 <= min(xs) <= max(xs) <= scene.width
            assert 0 <= min(ys) <= max(ys) <= scene.height


@pytest.mark.parametrize(("factor", "logarithmic"), [(4, False), (7.9, False), (8.1, True), (4000, True)])
def test_a_wide_range_has_a_logarithmic_axis(write_run: WriteRun, factor: float, logarithmic: bool) -> None:
    runs = [write_run("a", macs=1e5), write_run("b", strategy="xnas", macs=1e5 * factor)]
    runs.append(write_run("c", strategy="gdas", macs=1e5 * factor**0.5))
    scene = chart(runs)
    assert ("logarithmic" in to_svg(scene)) is logarithmic
    xs = [middle(groups(scene, "row")[name])[0] for name in ("darts", "gdas", "xnas")]
    halfway = (xs[1] - xs[0]) / (xs[2] - xs[0])
    assert (halfway == pytest.approx(0.5, abs=0.01)) is logarithmic


@given(st.floats(1e-6, 1e6), st.floats(1, 1e9))
def test_logarithmic_ticks_enclose_the_range(low: float, factor: float) -> None:
    found = log_ticks(low, low * factor)
    assert found == sorted(set(found))
    assert len(found) >= 2
    assert found[0] <= low * (1 + 1e-6)
    assert found[-1] >= low * factor * (1 - 1e-6)
    assert found[1] > low
    assert len(found) == 2 or found[-2] < low * factor


def test_logarithmic_ticks_by_hand() -> None:
    assert log_ticks(0.3, 4.0) == pytest.approx([0.2, 0.5, 1, 2, 5])
    assert log_ticks(1, 20_000) == pytest.approx([1, 10, 100, 1000, 10_000, 100_000])


def test_a_bar_does_not_pass_hundred_percent(write_run: WriteRun) -> None:
    runs = [write_run(f"{k}", seed=k, accuracy=a) for k, a in enumerate((100.0, 100.0, 94.0))]
    scene = chart(runs)
    ticks = [float(t.text) for t in scene.items if isinstance(t, Label) and re.fullmatch(r"\d[\d.]*", t.text)]
    assert max(tick for tick in ticks if tick > 50) == 100
    top = next(t.y for t in scene.items if isinstance(t, Label) and t.text == "100")
    bar = groups(scene, "spread")["darts"].items[0]
    assert isinstance(bar, Line)
    assert min(at[1] for _, at in bar.commands) == pytest.approx(top, abs=0.01)


def test_nothing_to_draw(write_run: WriteRun) -> None:
    rows = compare([write_run("a", accuracy=None), write_run("b", summary={"macs": None})]).rows
    assert pareto_chart(rows, row_marks(rows), MACS) is None


def test_marks_differ_by_color_and_shape_and_stay_with_their_row(write_run: WriteRun) -> None:
    names = ["darts", "xnas", "gdas", "drnas", "snas", "pcdarts", "fairdarts", "didarts"]
    runs = [write_run(name, strategy=name, accuracy=90.0 + k, baseline=90) for k, name in enumerate(names)]
    rows = compare(runs).rows
    marks = row_marks(rows)
    assert len(set(marks.values())) == len(rows)
    assert [mark.shape for name, mark in marks.items() if name.startswith("random")] == ["cross"]
    scene = pareto_chart(rows, marks, MACS)
    assert scene is not None
    for name, mark in marks.items():
        item = groups(scene, "row")[name].items[0]
        assert mark.color in (getattr(item, "fill", None), getattr(item, "stroke", None))
        assert mark_item(mark, 1, 1, 5) != mark_item(mark, 1, 1, 5, hollow=True)
