"""Tests of ``src/gradnas/training/test_report.py``."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnas.training import ConfidenceBin, Score, TestReport

REPORT = TestReport(
    score=Score(0.5, 60.0),
    confusion=((2, 1, 0), (0, 0, 0), (1, 0, 1)),
    bins=(ConfidenceBin(0, None, None), ConfidenceBin(2, 40.0, 50.0), ConfidenceBin(3, 90.0, 66.0)),
)


def test_a_class_without_a_sample_has_no_accuracy() -> None:
    assert REPORT.class_accuracies == (pytest.approx(200 / 3), None, 50.0)


def test_calibration_error_is_the_mean_distance_weighted_by_samples() -> None:
    assert REPORT.n_samples == 5
    assert REPORT.calibration_error == pytest.approx((2 * 10 + 3 * 24) / 5)


BINS = st.builds(ConfidenceBin, st.integers(1, 99), st.floats(0, 100), st.floats(0, 100)) | st.just(
    ConfidenceBin(0, None, None)
)


@given(
    bins=st.lists(BINS, min_size=1, max_size=15),
    top5=st.none() | st.floats(0, 100),
    counts=st.lists(st.integers(0, 10**6), min_size=4, max_size=4),
)
def test_report_goes_to_json_and_back(bins: list[ConfidenceBin], top5: float | None, counts: list[int]) -> None:
    counts[0] += 1  # somebody was tested
    confusion = (tuple(counts[:2]), tuple(counts[2:]))
    report = TestReport(score=Score(0.1, 50.0, top5), confusion=confusion, bins=tuple(bins))
    values = json.loads(json.dumps(report.to_dict()))
    assert TestReport.from_dict(values) == report
    assert values["calibration_error"] == report.calibration_error
    assert values["class_accuracies"] == list(report.class_accuracies)
