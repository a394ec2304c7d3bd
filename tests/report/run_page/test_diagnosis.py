"""What the page says of collapse, discretization and early stop."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gradnas.report import write_report


def told(run: Path, **last: Any) -> str:
    """The page when the last epoch of the search recorded this."""
    path = run / "alphas.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[-1] |= last
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return write_report(run).read_text(encoding="utf-8")


def test_the_diagnosis_of_the_last_epoch_is_the_warning(run: Path) -> None:
    page = told(run, diagnosis=["7 of the 8 operations have no parameters.", "The search stops."])
    assert 'id="warning"' in page
    assert "7 of the 8 operations have no parameters. The search stops." in page


def test_without_a_diagnosis_there_is_no_warning(run: Path) -> None:
    assert 'id="warning"' not in told(run, diagnosis=[])


def test_the_lead_of_the_first_candidate_is_told(run: Path) -> None:
    assert "leads the second by 12.3% of its weights" in told(run, gap=0.123)


@pytest.mark.parametrize(
    ("drop", "words"),
    [(41.25, "the supergraph loses 41.2 points of validation accuracy"), (-0.5, "loses no validation accuracy")],
)
def test_what_discretization_costs_is_told_and_drawn(run: Path, drop: float, words: str) -> None:
    page = told(run, discretization_drop=drop)
    assert words in page
    assert "Accuracy lost by discretization" in page


def test_the_eigenvalue_is_drawn_where_it_was_recorded(run: Path) -> None:
    title = "Dominant Hessian eigenvalue"
    assert title in told(run, eigenvalue=0.25)
    assert title not in told(run, eigenvalue=None)


# ----------------------------------------------------------------------------------------------------------- early stop


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "alphas.jsonl").read_text().splitlines()]


def write_lines(run: Path, lines: list[dict[str, Any]]) -> None:
    (run / "alphas.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def stopped(run: Path, **returned: Any) -> str:
    """The page when the search stopped after its last epoch with the architecture of epoch 6."""
    lines = lines_of(run)
    for line in lines:
        line |= {"discretization_drop": 5.0 + line["epoch"], "eigenvalue": 0.5, "diagnosis": [], "gap": 0.2}
    lines[-1] |= {"stop": {"reason": "too many skips", "returned_epoch": 6}, "diagnosis": ["too many skips."]}
    more = {"epoch": 11, "returned_epoch": 6, "discretization_drop": None, "eigenvalue": None, "changed_edges": 9}
    write_lines(run, [*lines, lines[6] | more | {"stop": lines[-1]["stop"]} | returned])
    return write_report(run).read_text(encoding="utf-8")


def drawings(page: str, title: str) -> list[str]:
    """The drawings in which this stands."""
    return [drawing for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if title in drawing]


def test_an_early_stop_is_told(run: Path) -> None:
    said = "stopped after epoch 11; the architecture is that of epoch 6"
    assert said in stopped(run)
    assert said not in told(run, stop={"reason": "too many skips", "returned_epoch": 6}, returned_epoch=None)


def test_what_is_returned_is_in_no_chart_over_epochs(run: Path) -> None:
    """Its entropy, skips, … would be another value of the last epoch."""
    titles = ("Entropy", "Skip connections", "Accuracy lost by discretization", "Dominant Hessian eigenvalue")
    page = stopped(run, entropy=0.01, skips=8, discretization_drop=77.0, eigenvalue=99.0)
    write_lines(run, lines_of(run)[:-1])
    plain = write_report(run).read_text(encoding="utf-8")
    for title in titles:
        found = drawings(page, title)
        assert found == drawings(plain, title) != [], title


def test_words_on_the_course_are_those_of_the_epochs(run: Path) -> None:
    page = stopped(run, entropy=0.01, changed_edges=9)
    assert "In 12 epochs the mean entropy of the mixing weights fell" in page
    assert "to 0.01 of at most" not in page
    assert "still changed in the last epoch" not in page


def test_the_epoch_is_named_where_sentences_are_of_different_ones(run: Path) -> None:
    page = stopped(run, gap=0.345, discretization_drop=7.5)
    assert "; after epoch 11 it is as if " in page
    assert "After epoch 6 the first candidate of an edge leads the second by 34.5% of its weights on average." in page
    assert "the weights as they are after epoch 6, the supergraph loses 7.5 points of validation accuracy." in page
    assert "The would-be cells last changed in epoch 9, 2 epochs before the last, 11." in page


def test_weight_maps_are_those_of_what_is_returned(run: Path) -> None:
    page = stopped(run)
    assert "Mixing weights after epoch 6," in page
    lines = lines_of(run)
    write_lines(run, lines[:7])
    at_six = write_report(run).read_text(encoding="utf-8")
    assert "Mixing weights after epoch 6," in at_six
    write_lines(run, lines[:12])
    at_the_end = write_report(run).read_text(encoding="utf-8")
    assert "Mixing weights after epoch 11," in at_the_end
    maps = [
        re.findall(r'<table class="dense weights">.*?</table>', text, re.DOTALL) for text in (page, at_six, at_the_end)
    ]
    assert maps[0] == maps[1] != maps[2]
    assert len(maps[0]) == 2


def test_gap_and_skips_are_those_of_what_is_returned(run: Path) -> None:
    (run / "arch.json").unlink()
    (run / "full_arch.json").unlink()
    page = stopped(run, gap=0.314, skips=5)
    assert "leads the second by 31.4% of its weights" in page
    assert "The regular cell would hold 5 skip connections." in page


def test_warning_is_that_of_what_is_returned(run: Path) -> None:
    assert "too many skips." not in stopped(run)
    write_lines(run, lines_of(run)[:-1])
    assert 'id="warning"' in write_report(run).read_text(encoding="utf-8")
    page = stopped(run, diagnosis=["5 of the 8 operations have no parameters."])
    assert 'id="warning"' in page
    assert "5 of the 8 operations have no parameters." in page


def test_experts_are_those_of_the_epochs_though_others_were_returned(expert_run: Path) -> None:
    """How many are left, and after how many rounds, is said of the search; the record has no such thing."""
    before = write_report(expert_run).read_text(encoding="utf-8")
    lines = lines_of(expert_run)
    more = {key: value for key, value in lines[20].items() if key != "strategy"}
    write_lines(expert_run, [*lines, more | {"epoch": 49, "returned_epoch": 20}])
    after = write_report(expert_run).read_text(encoding="utf-8")
    for title in ("In the regular cell", "In the reduction cell"):
        sentence = re.search(rf"{title} .*? experts are left.*?</p>", before, re.DOTALL)
        assert sentence is not None
        assert "after round" in sentence[0]
        assert sentence[0] in after
    for title in ("active experts", "log-weight"):
        assert drawings(after, title) == drawings(before, title) != []
    assert "Mixing weights after epoch 20," in after


@pytest.mark.parametrize(
    "last",
    [
        {"diagnosis": "no list"},
        {"diagnosis": [1, None]},
        {"stop": "yes"},
        {"stop": {"returned_epoch": "six"}},
        {"returned_epoch": "six"},
        {"returned_epoch": [6]},
        {"returned_epoch": 6, "cells": {}, "epoch": 11},
        {"gap": "wide", "discretization_drop": [], "eigenvalue": {}},
    ],
)
def test_damaged_values_leave_the_page_whole(run: Path, last: dict[str, Any]) -> None:
    assert "What the search did" in told(run, **last)


def test_the_processor_is_named_where_there_is_no_gpu(run: Path) -> None:
    path = run / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"gpu": None}))
    page = write_report(run).read_text(encoding="utf-8")
    assert "Intel Xeon Platinum 8480+" in page
    assert "null" not in page
