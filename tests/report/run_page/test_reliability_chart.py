"""Tests of ``reliability_chart.py`` and of the sections on calibration and classes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gradnas.report import write_report
from gradnas.report.drawing.scene import Box, Group, Scene
from gradnas.report.drawing.scene import Path as Line
from gradnas.report.records.calibration import read_calibration
from gradnas.report.records.headline import headline
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.run_page.reliability_chart import reliability_chart

BINS = [(0, None, None), (10, 40.0, 50.0), (40, 60.0, 20.0), (50, 95.0, 90.0)]


def summary(bins: list[tuple[int, float | None, float | None]] = BINS) -> dict[str, Any]:
    stored = [{"count": n, "confidence": c, "accuracy": a} for n, c, a in bins]
    return {"test_calibration_bins": stored, "test_calibration_error": 12.5}


def scene_of(bins: list[tuple[int, float | None, float | None]] = BINS) -> Scene | None:
    calibration = read_calibration(summary(bins), [])
    assert calibration is not None
    return reliability_chart(calibration)


def bins_of(scene: Scene) -> list[Group]:
    return [item for item in scene.items if isinstance(item, Group) and item.kind == "bin"]


def test_bars_are_as_high_as_accuracy_and_count() -> None:
    scene = scene_of()
    assert scene is not None
    groups = bins_of(scene)
    assert [dict(group.data)["low"] for group in groups] == ["25", "50", "75"]
    heights = []
    for group in groups:
        counts, accuracy, confidence = group.items
        assert isinstance(counts, Box)
        assert isinstance(accuracy, Box)
        assert isinstance(confidence, Line)
        level = confidence.commands[0][1][1]
        heights.append((counts.height, accuracy.height, accuracy.y + accuracy.height - level))
    unit = heights[0][1] / 50.0
    assert [accuracy / unit for _, accuracy, _ in heights] == pytest.approx([50.0, 20.0, 90.0])
    assert [confidence / unit for _, _, confidence in heights] == pytest.approx([40.0, 60.0, 95.0])
    assert [count / heights[2][0] for count, _, _ in heights] == pytest.approx([0.2, 0.8, 1.0])
    assert groups[0].title == "10 images between 25 and 50 %, 50.00 % right, mean confidence 40.00 %"


def test_all_lies_inside_and_the_title_is_read_aloud() -> None:
    scene = scene_of()
    assert scene is not None
    assert scene.title == "Accuracy against confidence: calibration error 12.50 points"
    for item in scene.leaves():
        if isinstance(item, Box):
            assert 0 <= item.x <= item.x + item.width <= scene.width
            assert 0 <= item.y <= item.y + item.height <= scene.height


def test_nothing_is_drawn_without_an_image() -> None:
    assert scene_of([(0, None, None)]) is None


def page_of(run: Path, **changes: Any) -> str:
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return write_report(run).read_text(encoding="utf-8")


def test_page_tells_how_sure_the_network_is(run: Path) -> None:
    page = page_of(run, **summary())
    assert 'id="calibration"' in page
    assert "it is surer than it should be" in page
    assert page.count('class="bin"') == 3


def test_pages_of_older_runs_have_no_such_sections(run: Path) -> None:
    page = page_of(run)
    for name in ("calibration", "balance", "counts", "grid"):
        assert f'id="{name}"' not in page


def test_damaged_calibration_is_named_and_breaks_nothing(run: Path) -> None:
    page = page_of(run, test_calibration_bins=[{"count": "x"}])
    assert 'id="calibration"' not in page
    assert "The calibration of summary.json is not a list of bins" in page


def test_training_images_stand_beside_the_results_of_each_class(run: Path) -> None:
    classes = json.loads((run / "summary.json").read_text())["classes"]
    counts = {name: 100 + k for k, name in enumerate(classes)}
    page = page_of(run, class_balance={"counts": counts, "ratio": 1.1, "warnings": []})
    row = re.search(r'<tr><th scope="row">bird</th><td class="number">(\d+)</td>', page)
    assert row is not None
    assert row[1] == "102"
    assert "training images</th>" in page
    assert 'id="balance"' not in page
    assert 'id="counts"' not in page


def test_unbalanced_classes_are_a_warning_also_before_a_test(search_only: Path) -> None:
    balance = {"counts": {"a": 3, "<b>": 300}, "ratio": 100.0, "warnings": ["few images of 'a' & more"]}
    page = page_of(search_only, class_balance=balance)
    assert 'id="balance"' in page
    assert "few images of &#39;a&#39; &amp; more" in page
    assert 'id="counts"' in page
    assert '<tr><th scope="row">&lt;b&gt;</th><td class="number">300</td></tr>' in page


def test_headline_has_top5_calibration_and_throughput(run: Path) -> None:
    throughput = {"images_per_second": 5230.4, "batch": 64, "runs": 20, "device": "cpu", "threads": 2}
    page_of(run, **summary(), test_top5_accuracy=99.87, throughput=throughput)
    figures = {figure.name: (figure.value, figure.note) for figure in headline(read_run_folder(run))}
    assert figures["Top-5 accuracy"] == ("99.87 %", "the true class among the five likeliest")
    assert figures["Calibration error"][0] == "12.50"
    assert figures["Throughput"] == ("5,230 images/s", "in batches of 64; cpu, 2 threads")


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ({"images_per_second": 3.456}, ("3.46 images/s", "")),
        ({"images_per_second": 250.2, "batch": 1, "device": "cuda"}, ("250 images/s", "one at a time; cuda")),
        ({"images_per_second": "x"}, None),
        (7, None),
    ],
)
def test_throughput_as_far_as_it_is_known(run: Path, stored: Any, shown: tuple[str, str] | None) -> None:
    page_of(run, throughput=stored, test_top5_accuracy=None)
    figures = {figure.name: (figure.value, figure.note) for figure in headline(read_run_folder(run))}
    assert figures.get("Throughput") == shown
    assert "Top-5 accuracy" not in figures
