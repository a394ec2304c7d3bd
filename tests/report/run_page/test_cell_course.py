"""Tests of ``src/gradnas/report/run_page/cell_course.py`` and of what the page makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from gradnas.arch import PUBLISHED
from gradnas.report import write_report
from gradnas.report.records.run_folder import read_run_folder
from gradnas.report.run_page.cell_course import CellCourse, cell_course


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "alphas.jsonl").read_text().splitlines()]


def write_lines(run: Path, lines: list[dict[str, Any]]) -> None:
    (run / "alphas.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def course_of(run: Path) -> CellCourse:
    course = cell_course(read_run_folder(run))
    assert course is not None
    return course


def test_each_distinct_cell_is_one_frame_with_all_its_epochs(run: Path) -> None:
    lines = lines_of(run)
    for line in lines:  # two cells of each type, in turn
        line["would_be"] = lines[line["epoch"] % 2]["would_be"]
    write_lines(run, lines)
    course = course_of(run)
    assert [(frame.cell.kind, frame.epochs) for frame in course.frames] == [
        ("regular", (0, 2, 4, 6, 8, 10)),
        ("regular", (1, 3, 5, 7, 9, 11)),
        ("reduction", (0, 2, 4, 6, 8, 10)),
        ("reduction", (1, 3, 5, 7, 9, 11)),
    ]
    assert [epoch for epoch, _ in course.changes] == list(range(1, 12))
    assert course.shown == 11


def test_every_epoch_has_one_frame_of_each_type(run: Path) -> None:
    course = course_of(run)
    for kind in ("regular", "reduction"):
        assert sorted(e for f in course.frames if f.cell.kind == kind for e in f.epochs) == list(range(12))


def test_changes_are_told_by_cell_type_and_only_where_there_are_any(run: Path) -> None:
    lines = lines_of(run)
    base = json.dumps(lines[0]["would_be"])
    for line in lines:
        line["would_be"] = json.loads(base)
    for line in lines[4:]:
        line["would_be"]["regular"]["nodes"][0][0][0] = "identity"
    for line in lines[7:]:
        line["would_be"]["reduction"]["nodes"][2][1][0] = "identity"
    for line in lines[7:]:
        line["would_be"]["regular"]["nodes"][0][0][0] = "sep_conv_7x7"
    write_lines(run, lines)
    assert course_of(run).changes == (
        (4, "regular cell: n0 reads s0 through identity instead of max_pool_3x3."),
        (
            7,
            "regular cell: n0 reads s0 through sep_conv_7x7 instead of identity; "
            "reduction cell: n2 reads s1 through identity instead of max_pool_3x3.",
        ),
    )


def test_an_epoch_that_ran_twice_counts_with_its_last_record(run: Path) -> None:
    lines = lines_of(run)
    again = lines[5] | {"would_be": lines[0]["would_be"]}
    write_lines(run, [*lines[:6], again, *lines[6:]])
    course = course_of(run)
    assert course.epochs == tuple(range(12))
    first = course.at("regular", 0)
    assert first is not None
    assert course.at("regular", 5) == first != course.at("regular", 4)


def test_the_epoch_that_an_early_stop_returned_is_shown(run: Path) -> None:
    lines = lines_of(run)
    write_lines(run, [*lines, lines[4] | {"epoch": 11, "returned_epoch": 4}])
    assert course_of(run).shown == 4
    write_lines(run, [*lines, lines[4] | {"epoch": 11, "returned_epoch": 99}])
    assert course_of(run).shown == 11


def test_older_runs_are_drawn_from_their_genotype(run: Path) -> None:
    lines = lines_of(run)
    for line in lines:
        del line["would_be"]
        line["genotype"] = str(PUBLISHED["DARTS_V1" if line["epoch"] < 6 else "DARTS_V2"])
    write_lines(run, lines)
    course = course_of(run)
    assert [frame.epochs for frame in course.frames] == [tuple(range(6)), tuple(range(6, 12))] * 2
    assert [epoch for epoch, _ in course.changes] == [6]


def test_without_wiring_and_genotype_the_weights_are_shown_and_the_cells_said_to_be_unknown(run: Path) -> None:
    lines = lines_of(run)
    for line in lines:
        del line["would_be"]
    write_lines(run, lines)
    course = course_of(run)
    assert (course.frames, course.changes, course.epochs) == ((), (), tuple(range(12)))
    page = write_report(run).read_text()
    assert "The would-be cells were not recorded" in page
    assert 'data-same="the would-be cells of this epoch were not recorded."' in page
    assert page.count('class="now"') == 28


def test_an_epoch_of_which_the_cells_are_damaged_is_between_those_of_the_others(run: Path) -> None:
    lines = lines_of(run)
    lines[3]["would_be"] = {"regular": "broken"}
    write_lines(run, lines)
    course = course_of(run)
    assert course.epochs == tuple(range(12))
    assert course.at("regular", 3) is None
    assert course.at("regular", 4) is not None


def test_no_record_is_no_course(run: Path) -> None:
    (run / "alphas.jsonl").unlink()
    assert cell_course(read_run_folder(run)) is None


@pytest.mark.parametrize("name", ["arch.json", "summary.json", "config.yaml"])
def test_cells_need_no_other_file(run: Path, name: str) -> None:
    before = course_of(run)
    (run / name).unlink()
    assert course_of(run) == before
