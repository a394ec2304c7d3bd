"""Tests of ``calibration.py`` and ``class_counts.py``: values of a summary that anybody may have edited."""

from typing import Any

import pytest

from gradnas.report.records.calibration import Calibration, read_calibration
from gradnas.report.records.class_counts import read_class_counts
from gradnas.training.test_report import ConfidenceBin, TestReport


def summary(*bins: tuple[int, float | None, float | None], error: Any = 5.0) -> dict[str, Any]:
    stored = [{"count": n, "confidence": confidence, "accuracy": accuracy} for n, confidence, accuracy in bins]
    return {"test_calibration_bins": stored, "test_calibration_error": error}


def read(values: dict[str, Any]) -> Calibration:
    problems: list[str] = []
    found = read_calibration(values, problems)
    assert problems == []
    assert found is not None
    return found


def test_bins_are_equal_parts_of_all_confidences() -> None:
    found = read(summary((0, None, None), (2, 40.0, 50.0), (1, 60.0, 0.0), (7, 90.0, 100.0)))
    assert [(each.low, each.high, each.count) for each in found.bins] == [
        *[(0.0, 25.0, 0.0), (25.0, 50.0, 2.0), (50.0, 75.0, 1.0), (75.0, 100.0, 7.0)]
    ]
    assert found.error == 5.0


@pytest.mark.parametrize(
    ("accuracy", "judgment"),
    [(90.0, "about as sure as it should be"), (80.0, "surer than it should be"), (97.0, "less sure than it could be")],
)
def test_mean_confidence_is_judged_by_the_accuracy(accuracy: float, judgment: str) -> None:
    words = read(summary((0, None, None), (30, 90.0, accuracy))).words()
    assert f"a probability of 90.00 %, and {accuracy:.2f} % of its answers are right: it is {judgment}." in words
    assert words.endswith("The calibration error is 5.00 points.")


def test_means_are_weighted_by_images() -> None:
    words = read(summary((3, 40.0, 40.0), (1, 80.0, 80.0), error=None)).words()
    assert "a probability of 50.00 %, and 50.00 %" in words
    assert words.endswith("as it should be.")


def test_without_an_image_there_is_nothing_to_say() -> None:
    assert read(summary((0, None, None))).words() == ""
    assert read_calibration({}, []) is None


def test_what_a_test_reports_can_be_read() -> None:
    from dataclasses import asdict

    from gradnas.training import Score

    report = TestReport(
        score=Score(1.0, 75.0),
        confusion=((3, 0), (1, 0)),
        bins=(ConfidenceBin(0, None, None), ConfidenceBin(4, 90.0, 75.0)),
    )
    values = {
        "test_calibration_bins": [asdict(each) for each in report.bins],
        "test_calibration_error": report.calibration_error,
    }
    assert "calibration error is 15.00 points" in read(values).words()


@pytest.mark.parametrize(
    "bins", [[], "x", 3, {}, [{}], [{"count": -1}], [{"count": 3}, {"count": "x"}], [[1, 2, 3]], [None]]
)
def test_damaged_bins_are_named_and_left_out(bins: Any) -> None:
    problems: list[str] = []
    assert read_calibration({"test_calibration_bins": bins}, problems) is None
    assert problems == ["The calibration of summary.json is not a list of bins with counts; it is left out here."]


@pytest.mark.parametrize("value", ["x", -1.0, 101.0, None, True])
def test_shares_that_are_none_are_not_known(value: Any) -> None:
    found = read(summary((3, value, value)))
    assert (found.bins[0].confidence, found.bins[0].accuracy) == (None, None)
    assert found.words() == ""


def test_class_counts_and_warnings() -> None:
    found = read_class_counts({"class_balance": {"counts": {"a": 3, "b": 40}, "ratio": 13.3, "warnings": ["few of a"]}})
    assert found is not None
    assert dict(found.counts) == {"a": 3, "b": 40}
    assert found.warnings == ("few of a",)


@pytest.mark.parametrize(
    "stored", [None, 3, {}, {"counts": []}, {"counts": {}}, {"counts": {"a": -1}}, {"counts": {"a": 1, "b": "x"}}]
)
def test_counts_that_are_none_are_left_out(stored: Any) -> None:
    assert read_class_counts({"class_balance": stored}) is None
