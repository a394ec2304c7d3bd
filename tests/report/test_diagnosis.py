"""What the page says of collapse, discretization and early stop."""

import json
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


def test_an_early_stop_is_told(run: Path) -> None:
    page = told(run, stop={"reason": "too many skips", "returned_epoch": 6})
    assert "stopped after epoch 11; the architecture is that of epoch 6" in page


@pytest.mark.parametrize(
    "last",
    [
        {"diagnosis": "no list"},
        {"diagnosis": [1, None]},
        {"stop": "yes"},
        {"stop": {"returned_epoch": "six"}},
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
