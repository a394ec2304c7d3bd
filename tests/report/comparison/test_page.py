"""Tests of ``page.py``: the page as text, and as a browser shows it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradnas.report.comparison.compare import Comparison, compare

WriteRun = Callable[..., Path]
STRATEGIES = ("darts", "xnas", "gdas", "drnas", "snas", "pcdarts", "fairdarts", "didarts", "random")
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&{{ 1 }}"


def many(write_run: WriteRun, n: int, seeds: int = 2) -> list[Path]:
    """Rows close to each other, as real ones are."""
    return [
        write_run(
            f"{k}-{seed}",
            strategy=STRATEGIES[k % len(STRATEGIES)],
            options={"lr": 0.01} if k >= len(STRATEGIES) else {},
            seed=seed,
            accuracy=97 + (k * 7 % 5) / 4 + seed / 5,
            macs=4e5 + (k * 5 % 7) * 4e4 + 1e4 * seed,
            baseline=97.0 + seed if k == 0 else None,
            genotype=("DARTS_V1", "DARTS_V2", "XNAS")[k % 3],
        )
        for k in range(n)
        for seed in range(seeds)
    ]


def written(runs: list[Path], tmp_path: Path, *, mixed: bool = False) -> Path:
    page = compare(runs, out=tmp_path / "comparison.html", mixed=mixed).page
    assert page is not None
    return page


def test_page_loads_nothing_runs_nothing_and_is_the_same_again(write_run: WriteRun, tmp_path: Path) -> None:
    runs = many(write_run, 3)
    text = written(runs, tmp_path).read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|img|iframe|object|embed|base)\b|\bon\w+=|url\(|@import", text)
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "").replace("http-equiv", "")
    assert written(runs, tmp_path).read_text(encoding="utf-8") == text


def test_page_has_rows_charts_cells_and_settings(write_run: WriteRun, tmp_path: Path, browser: Any) -> None:
    runs = [*many(write_run, 2), write_run("u", strategy="darts", seed=9, found=False)]
    page = browser.open(written(runs, tmp_path)).page
    assert page.locator("h1").inner_text() == "2 methods on digits"
    assert page.locator("header p").inner_text() == "5 runs, 4 of them with a test accuracy"
    names = page.locator("#table tbody tr").evaluate_all("rows => rows.map(row => row.dataset.row)")
    assert sorted(names) == ["darts", "random search at equal budget", "xnas"]
    assert page.locator("#table th.name svg").count() == 3
    assert page.locator("#plots figure svg").count() == 2
    drawn = (
        page.locator("#plots figure").first.locator(".row").evaluate_all("rows => rows.map(row => row.dataset.name)")
    )
    assert sorted(drawn) == sorted(names)
    assert "is not finished" in page.locator("#notes").inner_text()
    for details in page.locator("details").all():
        details.locator("summary").click()
    assert page.locator("#cells h3").count() == 3 - 1  # random search left no cell here
    assert page.locator("#cells svg").count() == 4
    assert "2 runs found 2 different architectures" in page.locator("#cells").inner_text()
    settings = page.locator("#details table").first.inner_text()
    assert "strategy.name" in settings
    assert "seed" in page.locator("#details").inner_text()
    assert page.locator("#details table").nth(1).locator("tbody tr").count() == 7
    assert page.locator("#mixed").count() == 0


@pytest.mark.parametrize("n", [2, 5, 12])
def test_names_in_the_chart_overlap_nothing(write_run: WriteRun, tmp_path: Path, browser: Any, n: int) -> None:
    visit = browser.open(written(many(write_run, n), tmp_path))
    figure = visit.page.locator("#plots figure").first
    boxes = "all => all.map(e => { const b = e.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]; })"
    names = figure.locator(".name text").evaluate_all(boxes)
    marks = figure.locator(".row").evaluate_all(boxes)
    assert len(marks) == n + 1
    assert len(names) == n + 1
    left, top, width, height = (float(v) for v in figure.locator("svg").get_attribute("viewBox").split())
    for k, a in enumerate(names):
        assert left <= a[0] < a[2] <= left + width
        assert top <= a[1] < a[3] <= top + height
        for b in [*names[:k], *marks]:
            assert a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 2 or b[3] <= a[1] + 2
    visit.check_quiet()


@pytest.mark.parametrize("dark", [False, True])
def test_phone_shows_the_page_without_scrolling_sideways(
    write_run: WriteRun, tmp_path: Path, browser: Any, dark: bool
) -> None:
    visit = browser.open(written(many(write_run, 5), tmp_path), width=390, dark=dark, touch=True)
    visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    visit.check_fits()
    visit.check_quiet()
    for selector in ("#table p", "#table th.name", "#conclusions li", "h2", "#table th"):
        assert visit.contrast(selector) >= 4.5, selector
    colors = "e => getComputedStyle(e).backgroundColor"
    assert (visit.page.locator("body").evaluate(colors) == "rgb(14, 17, 22)") is dark
    fill = visit.page.locator("#plots .name text").first.evaluate("e => getComputedStyle(e).fill")
    assert fill == ("rgb(230, 233, 238)" if dark else "rgb(27, 36, 48)")


def test_phone_shows_what_a_chart_is_of_before_one_scrolls(write_run: WriteRun, tmp_path: Path, browser: Any) -> None:
    page = browser.open(written(many(write_run, 5), tmp_path), width=390, touch=True).page
    for figure in page.locator("#plots figure").all():
        right = figure.evaluate("e => e.getBoundingClientRect().right")
        for words in ("test accuracy, %", "Pareto front of the means", "MACs of one image, M", "time of the search, s"):
            for text in figure.get_by_text(words, exact=True).all():
                assert text.evaluate("e => e.getBoundingClientRect().right") <= right
                assert text.evaluate("e => e.getBoundingClientRect().height") >= 9
        assert figure.get_by_text("Pareto front of the means", exact=True).count() == 1


def test_tables_say_what_their_headers_and_their_boxes_are(write_run: WriteRun, tmp_path: Path, browser: Any) -> None:
    page = browser.open(written(many(write_run, 2), tmp_path)).page
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("#table tbody th[scope=row]").count() == 3
    boxes = page.locator("[tabindex='0']").evaluate_all("all => all.map(e => [e.getAttribute('role'), e.ariaLabel])")
    assert len(boxes) >= 4
    assert all(role == "region" and label for role, label in boxes)


def test_printed_table_fits_the_paper(write_run: WriteRun, tmp_path: Path, browser: Any) -> None:
    visit = browser.open(written(many(write_run, 5), tmp_path), width=700, media="print")
    visit.check_fits()
    assert visit.page.locator("#table table").evaluate("e => e.getBoundingClientRect().width") <= 700


def test_mixed_runs_are_announced_and_drawn_apart(write_run: WriteRun, tmp_path: Path, browser: Any) -> None:
    runs = [
        write_run("a", accuracy=98.0),
        write_run("b", strategy="xnas", accuracy=97.0),
        write_run("c", accuracy=70.0, summary={"dataset": "other"}, settings={"search": {"epochs": 50}}),
    ]
    page = browser.open(written(runs, tmp_path, mixed=True)).page
    said = page.locator("#mixed").inner_text()
    assert "search.epochs is 6 in" in said
    assert "data set is digits in" in said
    assert page.locator("#mixed").is_visible()
    assert page.locator("#plots h3").all_inner_texts() == ["digits", "other"]
    charts = [
        sorted(chart.locator(".row").evaluate_all("rows => rows.map(row => row.dataset.name)"))
        for chart in page.locator("#plots figure").all()
    ]
    first = ["darts on digits (search.epochs=6)", "xnas on digits (search.epochs=6)"]
    second = ["darts on other (search.epochs=50)"]
    assert charts == [first, first, second, second]


def test_times_of_different_machines_are_not_drawn(write_run: WriteRun, tmp_path: Path, browser: Any) -> None:
    runs = [write_run("a"), write_run("b", strategy="xnas", environment={"processor": "another"})]
    page = browser.open(written(runs, tmp_path)).page
    assert page.locator("#plots figure svg").count() == 1
    assert "their times cannot be compared" in page.locator("#notes").inner_text()


def test_hostile_names_are_shown_and_not_obeyed(write_run: WriteRun, tmp_path: Path, browser: Any) -> None:
    runs = [
        write_run(f"<b>{k}", strategy=f"my.{EVIL}", options={"x": EVIL + str(k), EVIL: k}, summary={"dataset": EVIL},
                  accuracy=97.0 + k, environment={"processor": EVIL, "gradnas": EVIL})
        for k in range(2)
    ]  # fmt: skip
    visit = browser.open(written(runs, tmp_path))
    visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    visit.check_quiet()
    assert visit.page.locator("script, img, b").count() == 0
    assert EVIL in visit.page.locator("h1").inner_text()
    assert "<b>0" in visit.page.locator("#details").inner_text()


def test_page_without_any_accuracy(write_run: WriteRun, tmp_path: Path, browser: Any) -> None:
    visit = browser.open(written([write_run("a", found=False)], tmp_path))
    assert "nothing to draw" in visit.page.locator("#plots").inner_text()
    assert visit.page.locator("#plots svg").count() == 0
    visit.check_quiet()


def test_many_cells_of_one_row_are_cut(write_run: WriteRun, tmp_path: Path) -> None:
    text = written(many(write_run, 1, seeds=9), tmp_path).read_text(encoding="utf-8")
    assert "9 runs found 9 different architectures; 3 more are not drawn" in text
    assert len(re.findall('<svg[^>]*aria-label="seed ', text)) == 6


def test_a_notebook_shows_the_table(write_run: WriteRun) -> None:
    found = compare(many(write_run, 2))
    html = found._repr_html_()
    assert html.startswith("<table")
    assert html.count("<tr") == 4
    assert "97.10 ± 0.14" in html
    assert "<svg" not in html
    assert isinstance(found, Comparison)
