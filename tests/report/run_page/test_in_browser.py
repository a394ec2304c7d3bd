"""The report as its readers see it: on a screen, a phone, paper, in the dark, with and without scripts."""

import json
from pathlib import Path
from typing import Any

import pytest

from gradnas.report import write_report

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&"
WIDTHS = (390, 1280)


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "alphas.jsonl").read_text().splitlines()]


def write_lines(run: Path, lines: list[dict[str, Any]]) -> None:
    (run / "alphas.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def state_name(state: int) -> str:
    return ["s0", "s1", *(f"n{k}" for k in range(9))][state]


def recorded(line: dict[str, Any]) -> set[tuple[str, str, str, str]]:
    """(cell type, node, operation, inputs) of the edges that a line of ``alphas.jsonl`` holds."""
    return {
        (kind, f"n{node}", op, ", ".join(map(state_name, states)))
        for kind, cell in line["would_be"].items()
        for node, edges in enumerate(cell["nodes"])
        for op, states in edges
    }


def visible(visit: Any) -> set[tuple[str, str, str, str]]:
    """The same of the cells that the reader sees in the part on the epochs."""
    rows = visit.page.evaluate(
        """() => [...document.querySelectorAll('#epochs .frame')].filter(f => f.offsetHeight > 0).flatMap(
             f => [...f.querySelectorAll('.edge')].map(
               e => [f.dataset.kind, e.dataset.node, e.dataset.op, e.dataset.inputs]))"""
    )
    return {tuple(row) for row in rows}


def slide(visit: Any, position: int) -> None:
    slider = visit.page.locator("#epoch-slider")
    slider.evaluate("(e, at) => { e.value = at; e.dispatchEvent(new Event('input', {bubbles: true})); }", position)


def shown_epoch(visit: Any) -> list[str]:
    return visit.page.locator("#epochs .epoch").all_inner_texts()


@pytest.fixture
def unfinished(run: Path) -> Path:
    """A run that was interrupted after five of twelve epochs of its search."""
    for name in ("arch.json", "full_arch.json", "baseline/arch.json", "summary.json"):
        (run / name).unlink()
    write_lines(run, lines_of(run)[:5])
    metrics = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(metrics[:5]))
    (run / "config.yaml").write_text(
        "data: {source: digits}\nspace: {name: darts}\nstrategy: {name: darts}\n"
        "search: {epochs: 12}\nretrain: {epochs: 3}\nbaseline: {samples: 1}\n"
    )
    return run


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["run", "expert_run", "unfinished", "search_only"])
def test_pages_are_quiet_and_no_wider_than_the_window(
    browser: Any, request: pytest.FixtureRequest, kind: str, width: int
) -> None:
    visit = browser.open(write_report(request.getfixturevalue(kind)), width=width, touch=width < 500)
    for details in visit.page.locator("details").all():
        details.evaluate("e => { e.open = true; }")
    visit.check_fits()
    visit.check_quiet()


def test_slider_shows_the_cells_of_each_epoch(browser: Any, run: Path) -> None:
    visit, lines = browser.open(write_report(run)), lines_of(run)
    assert len({frozenset(recorded(line)) for line in lines}) > 5  # else the test says little
    assert visible(visit) == recorded(lines[-1])
    for position in (0, 7, 3, len(lines) - 1):
        slide(visit, position)
        assert visible(visit) == recorded(lines[position])
        assert set(shown_epoch(visit)) == {str(lines[position]["epoch"])}
    visit.check_quiet()


def test_epochs_go_by_their_number_and_not_by_their_place(browser: Any, run: Path) -> None:
    lines = [line for line in lines_of(run) if line["epoch"] not in (0, 1, 4)]
    write_lines(run, [lines[3], *lines])  # as a resumed run may leave it
    visit = browser.open(write_report(run))
    slide(visit, 2)
    assert set(shown_epoch(visit)) == {"5"}
    assert visible(visit) == recorded(lines[2])
    panel = visit.page.locator("#epochs svg[aria-label^='regular cell, s0 → n0:']")
    weights = [f"{weight:.2f}" for weight in lines[2]["cells"]["regular"]["weights"][0]]
    assert panel.locator(".weight text").all_text_contents() == weights


def test_slider_moves_the_frame_and_the_weights_of_the_heat_maps(browser: Any, run: Path) -> None:
    visit, lines = browser.open(write_report(run)), lines_of(run)
    page = visit.page
    before = page.locator("#epochs .now").first.bounding_box()
    for position in (4, 9):
        slide(visit, position)
        for kind in ("regular", "reduction"):
            cell = lines[position]["cells"][kind]
            for edge in (0, 3, 13):
                name = f"s{edge}" if edge < 2 else {3: "s1", 13: "n2"}[edge]
                node = f"n{cell['edges'][edge][0]}"
                panel = page.locator(f"#epochs svg[aria-label^='{kind} cell, {name if edge else 's0'} → {node}:']")
                texts = panel.locator(".weight text").all_text_contents()
                assert texts == [f"{weight:.2f}" for weight in cell["weights"][edge]]
    after = page.locator("#epochs .now").first.bounding_box()
    step = float(page.locator("#epochs .now").first.get_attribute("data-step"))
    scale = page.locator("#epochs .panels svg").first.evaluate(
        "e => e.getBoundingClientRect().width / e.viewBox.baseVal.width"
    )
    assert after["x"] - before["x"] == pytest.approx((9 - 11) * step * scale, abs=0.6)


def test_what_changed_is_said_in_words(browser: Any, run: Path) -> None:
    lines = lines_of(run)
    for line in lines:
        line["would_be"] = json.loads(json.dumps(lines[-1]["would_be"]))
    old, new = "skip_connect", "sep_conv_5x5"
    for line in lines[:3]:
        line["would_be"]["regular"]["nodes"][1] = [["sep_conv_3x3", [0]], [old, [1]]]
    for line in lines[3:]:
        line["would_be"]["regular"]["nodes"][1] = [["sep_conv_3x3", [0]], [new, [1]]]
    write_lines(run, lines)
    visit = browser.open(write_report(run))
    change = visit.page.locator("#epochs .change")
    assert change.inner_text() == "the would-be cells stay as they were."
    slide(visit, 3)
    assert change.inner_text() == f"regular cell: n1 reads s1 through {new} instead of {old}."
    slider = visit.page.locator("#epoch-slider")
    assert slider.get_attribute("aria-valuetext") == f"3: {change.inner_text()}"
    slide(visit, 0)
    assert change.inner_text() == "the first cells that the weights imply."


def test_a_step_is_announced_once(browser: Any, run: Path) -> None:
    """By the slider where it has the focus, by the paragraph where the buttons are used."""
    visit = browser.open(write_report(run))
    page, told = visit.page, visit.page.locator("#epochs [aria-live]")
    assert told.count() == 1
    assert page.locator("#epochs output").count() == 0
    page.get_by_role("slider", name="Epoch", exact=True).focus()
    page.keyboard.press("ArrowLeft")
    assert told.get_attribute("aria-live") == "off"
    page.get_by_label("Previous epoch").click()
    assert told.get_attribute("aria-live") == "polite"
    assert "After epoch 9:" in told.inner_text()


def test_the_tables_of_weights_fit_their_boxes_and_keep_their_words(browser: Any, run: Path) -> None:
    for dark in (False, True):
        visit = browser.open(write_report(run), width=390, dark=dark)
        for details in visit.page.locator("details").all():
            details.evaluate("e => { e.open = true; }")
        strongest = visit.page.locator('td[style="--share: 100%"]')
        assert strongest.count() >= 2
        box = visit.page.get_by_role("region", name="Weights of the regular cell")
        box.focus()
        assert box.evaluate("e => e === document.activeElement && e.scrollWidth > e.clientWidth")
        assert strongest.first.evaluate("e => getComputedStyle(e).color") == visit.page.locator("h1").evaluate(
            "e => getComputedStyle(e).color"
        )


def test_keyboard_and_buttons_move_the_slider(browser: Any, run: Path) -> None:
    visit = browser.open(write_report(run))
    page, lines = visit.page, lines_of(run)
    page.get_by_role("slider", name="Epoch").focus()
    assert page.evaluate("document.activeElement.id") == "epoch-slider"
    page.keyboard.press("ArrowLeft")
    assert visible(visit) == recorded(lines[10])
    page.keyboard.press("Home")
    assert visible(visit) == recorded(lines[0])
    assert page.get_by_label("Previous epoch").is_disabled()
    page.get_by_label("Next epoch").click()
    assert visible(visit) == recorded(lines[1])
    page.keyboard.press("Tab")
    page.get_by_label("Previous epoch").click()
    assert shown_epoch(visit)[0] == "0"
    slide(visit, 11)
    assert page.get_by_label("Next epoch").is_disabled()


def test_touch_targets_on_a_phone_are_large_enough(browser: Any, run: Path) -> None:
    visit = browser.open(write_report(run), width=390, touch=True)
    for target in visit.page.locator("#epochs .controls input, #epochs .controls button").all():
        box = target.bounding_box()
        assert min(box["width"], box["height"]) >= 44
    slider = visit.page.locator("#epoch-slider")
    box = slider.bounding_box()
    assert box["width"] >= 250
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    visit.page.touchscreen.tap(box["x"] + 10, box["y"] + box["height"] / 2)
    assert shown_epoch(visit)[0] == "0"
    assert all(height >= 24 for height in visit.page.locator("summary").evaluate_all("l => l.map(e => e.offsetHeight)"))


def test_without_scripts_the_last_cells_are_shown_and_no_dead_control(browser: Any, run: Path) -> None:
    visit = browser.open(write_report(run), javascript=False)
    assert not visit.page.locator("#epochs .controls").is_visible()
    shown = visit.page.locator("#epochs .frame:visible")
    assert shown.count() == 2
    edges = shown.locator(".edge")
    read = {
        (kind, edge.get_attribute("data-node"), edge.get_attribute("data-op"), edge.get_attribute("data-inputs"))
        for kind, frame in zip(("regular", "reduction"), shown.all(), strict=True)
        for edge in frame.locator(".edge").all()
    }
    assert edges.count() == 16
    assert read == recorded(lines_of(run)[-1])


def test_print_shows_the_last_cells_and_no_slider(browser: Any, run: Path) -> None:
    visit = browser.open(write_report(run))
    slide(visit, 2)
    visit.page.emulate_media(media="print")
    assert visible(visit) == recorded(lines_of(run)[-1])
    visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert visible(visit) == recorded(lines_of(run)[-1])
    assert set(visit.page.locator("#epochs .epoch").all_text_contents()) == {"11"}
    assert not visit.page.locator("#epochs .controls").is_visible()
    assert visit.page.locator("#epochs details.secondary").count() == 3
    assert not visit.page.locator("details.secondary:visible").count()
    assert visit.page.locator("#reproduce details pre").is_visible()  # what one needs to repeat the run is on paper
    visit.page.emulate_media(media="screen")
    visit.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert visible(visit) == recorded(lines_of(run)[2])


def test_after_an_early_stop_the_returned_epoch_is_shown_first(browser: Any, run: Path) -> None:
    lines = lines_of(run)
    write_lines(run, [*lines, lines[6] | {"epoch": 11, "returned_epoch": 6}])
    visit = browser.open(write_report(run))
    assert visible(visit) == recorded(lines[6])
    assert set(shown_epoch(visit)) == {"6"}
    visit.page.emulate_media(media="print")
    assert visible(visit) == recorded(lines[6])


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(browser: Any, unfinished: Path, dark: bool) -> None:
    visit = browser.open(write_report(unfinished), dark=dark)
    for selector in ("h1", "header p", "#search p", ".note", "#status p", "dt", "dd", "summary", "pre", "footer"):
        assert visit.contrast(selector) >= 4.5, selector
    assert visit.contrast(".controls label") >= 4.5


def test_dark_screens_get_other_colors_on_page_and_in_drawings(browser: Any, run: Path) -> None:
    path = write_report(run)
    colors = []
    for dark in (False, True):
        visit = browser.open(path, dark=dark)
        colors.append(
            visit.page.evaluate(
                """() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
                          getComputedStyle(document.querySelector('#architecture svg rect')).fill,
                          getComputedStyle(document.querySelector('#epochs .panels svg text')).fill]"""
            )
        )
    assert all(light != dark for light, dark in zip(*colors, strict=True))
    visit.page.emulate_media(media="print", color_scheme="dark")
    paper = visit.page.evaluate("getComputedStyle(document.querySelector('#architecture svg rect')).fill")
    assert paper == "rgb(255, 255, 255)"


def test_an_unfinished_run_says_what_is_missing_and_shows_its_cells(browser: Any, unfinished: Path) -> None:
    visit = browser.open(write_report(unfinished))
    status = visit.page.locator("#status").inner_text()
    assert "The search has run 5 of 12 epochs." in status
    assert "After it comes the retraining and random baseline." in status
    assert f"To go on: gradnas resume {unfinished}" in status
    assert visible(visit) == recorded(lines_of(unfinished)[-1])
    slide(visit, 1)
    assert visible(visit) == recorded(lines_of(unfinished)[1])
    visit.check_quiet()


def test_wiped_out_experts_have_no_weight_and_a_cross(browser: Any, expert_run: Path) -> None:
    visit, lines = browser.open(write_report(expert_run)), lines_of(expert_run)
    for position in (0, 25, 49):
        slide(visit, position)
        cell = lines[position]["cells"]["regular"]
        texts = visit.page.locator("#epochs svg[aria-label^='regular cell, s0 → n0:'] .weight text").all_text_contents()
        rows = zip(cell["weights"][0], cell["survivors"][0], strict=True)
        assert texts == [f"{weight:.2f}" if alive else "out" for weight, alive in rows]
    assert "out" in texts
    crosses = visit.page.locator("#epochs svg[aria-label^='regular cell, s0 → n0:'] .row").evaluate_all(
        "rows => rows.map(row => row.querySelectorAll('.stroke-ink').length)"
    )
    assert [count > 0 for count in crosses] == [not alive for alive in lines[-1]["cells"]["regular"]["survivors"][0]]


def test_markup_in_any_name_is_shown_and_not_obeyed(browser: Any, run: Path, tmp_path: Path) -> None:
    hostile = run.rename(tmp_path / "<b onclick=alert(3)>&'")
    summary = json.loads((hostile / "summary.json").read_text())
    names = dict.fromkeys(("dataset", "strategy", "space", "genotype", "arch_hash", "seed"), EVIL)
    summary |= {**names, "classes": [EVIL, *summary["classes"][1:]]}
    (hostile / "summary.json").write_text(json.dumps(summary))
    (hostile / "environment.json").write_text(json.dumps({"command": EVIL, EVIL: EVIL, "gradnas": EVIL}))
    (hostile / "config.yaml").write_text(json.dumps({"space": {"name": EVIL, "options": {EVIL: EVIL}}, "search": {}}))
    (hostile / "arch.json").write_text((hostile / "arch.json").read_text().replace('"sep_conv_3x3"', json.dumps(EVIL)))
    lines = lines_of(hostile)
    for line in lines:
        line["diagnosis"] = [EVIL]
        line["would_be"]["regular"]["nodes"][0][0][0] = f"{EVIL}{line['epoch'] % 3}"
        for cell in line["cells"].values():
            cell["ops"][0] = EVIL
    write_lines(hostile, lines)
    visit = browser.open(write_report(hostile))
    for position in range(5):
        slide(visit, position)
    visit.page.wait_for_timeout(100)
    visit.check_quiet()
    assert visit.page.locator("img").count() == 0
    assert visit.page.locator("script").count() == 1
    assert visit.page.locator("[onclick], [onerror], b").count() == 0
    assert EVIL in visit.page.locator("#epochs .change").inner_text()
    assert EVIL in visit.page.locator("h1").inner_text()


def test_policy_stops_a_script_that_is_not_ours(browser: Any, run: Path) -> None:
    path = write_report(run)
    path.write_text(path.read_text().replace("</main>", "<script>document.title = 'foreign'</script></main>"))
    visit = browser.open(path)
    assert visit.page.title() != "foreign"
    assert any("Content Security Policy" in text for text in visit.console)
    assert shown_epoch(visit)[0] == "11"
    slide(visit, 4)
    assert shown_epoch(visit)[0] == "4"
