"""Tests of the parts of pages that ``svg.py`` paints: they look as the file of the same scene does."""

import re
from pathlib import Path as FilePath
from typing import Any

from gradnas.arch import PUBLISHED
from gradnas.report.drawing.cell_drawing import cell_scene
from gradnas.report.drawing.palette import COLORS
from gradnas.report.drawing.scene import Box, Group, Label, Path, Scene
from gradnas.report.drawing.svg import to_svg, to_svg_part
from gradnas.report.run_page.first_cells import first_cells
from gradnas.report.web_page import page_template
from gradnas.spaces import DartsSpace


def test_a_part_of_a_page_looks_like_the_file(browser: Any, tmp_path: FilePath) -> None:
    cells = first_cells(DartsSpace(cells=8).from_genotype(PUBLISHED["AmoebaNet_A"]))
    scenes = [cell_scene(cell) for cell in cells]
    style = page_template("page_style.css.j2").render(colors=COLORS)
    for scene in scenes:
        pictures = []
        for name, svg in (("file", to_svg(scene)), ("part", to_svg_part(scene))):
            page = tmp_path / f"{name}.html"
            page.write_text(f"<!DOCTYPE html><meta charset=utf-8><style>{style}</style>{svg}", encoding="utf-8")
            visit = browser.open(page)
            pictures.append(
                visit.page.evaluate(
                    """() => [...document.querySelectorAll('svg rect, svg path, svg text')].flatMap(e => {
                         const style = getComputedStyle(e), box = e.getBoundingClientRect();
                         const look = [e.tagName, style.fill, style.stroke, style.fontSize, style.fontWeight,
                                       style.textAnchor, e.textContent];
                         return e.tagName === 'path' ? [] : [[look.join('|'), Math.round(box.x), Math.round(box.y)]];
                       })"""
                )
            )
        assert [look for look, _, _ in pictures[0]] == [look for look, _, _ in pictures[1]]
        for (_, x, y), (_, other_x, other_y) in zip(*pictures, strict=True):
            assert abs(x - other_x) <= 1
            assert abs(y - other_y) <= 1
        assert len(to_svg_part(scene)) < 0.65 * len(to_svg(scene))


def test_steps_go_from_the_end_of_the_one_before() -> None:
    corner = Path(
        commands=(
            ("M", (10, 10)),
            ("L", (14, 10)),
            ("L", (14, 12.5)),
            ("Z", ()),
            ("L", (9.5, 10)),
            ("C", (1, 2, 3, 4, 5, 6)),
        ),
        stroke="wire",
    )
    scene = Scene(width=20, height=20, items=(corner,), title="x")
    assert re.findall(' d="([^"]*)"', to_svg_part(scene)) == ["m10 10h4v2.5zh-.5c-8.5-8-6.5-6-4.5-4"]


def test_lines_that_look_alike_are_one_and_others_are_not() -> None:
    first = Path(commands=(("M", (0, 0)), ("L", (1, 0))), stroke="wire")
    second = Path(commands=(("M", (5, 5)), ("L", (5, 6))), stroke="wire")
    other = Path(commands=second.commands, stroke="ink")
    group = Group(items=(first, second, other), kind="g")
    part = to_svg_part(Scene(width=9, height=9, items=(group,), title="x"))
    assert re.findall(' d="([^"]*)"', part) == ["m0 0h1m4 5v1", "m5 5v1"]


def test_only_what_differs_from_the_style_sheet_is_said() -> None:
    items = (Label(x=1, y=2, text="a"), Box(x=0, y=0, width=2, height=2, stroke="wire"))
    part = to_svg_part(Scene(width=9, height=9, items=items, title="x"))
    assert '<text x="1" y="6.2">a</text><rect x="0" y="0" width="2" height="2" class="stroke-wire"/>' in part
