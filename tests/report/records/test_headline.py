"""Tests of ``src/gradnas/report/records/headline.py``."""

import json
from pathlib import Path

import pytest

from gradnas.report.records.headline import headline, honest_sentences
from gradnas.report.records.run_folder import RunFolder, read_run_folder


def with_summary(run: Path, **changes: object) -> RunFolder:
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return read_run_folder(run)


@pytest.mark.parametrize(
    ("accuracy", "baseline", "n_test", "sentence"),
    [
        (
            94.72,
            91.11,
            360,
            "The found network is not shown to differ from the random baseline: the choice of test images alone may "
            "explain +3.61 points (95 % interval of the difference −0.17 to +7.48 points).",
        ),
        (
            91.11,
            94.72,
            360,
            "The found network is not shown to differ from the random baseline: the choice of test images alone may "
            "explain −3.61 points (95 % interval of the difference −7.48 to +0.17 points).",
        ),
        (
            94.72,
            91.11,
            3600,
            "The found network is 3.61 points better than the random baseline, more than the choice of test images "
            "explains (95 % interval of the difference +2.43 to +4.80 points).",
        ),
        (
            91.11,
            94.72,
            3600,
            "The found network is 3.61 points worse than the random baseline, more than the choice of test images "
            "explains (95 % interval of the difference −4.80 to −2.43 points): this search did not pay.",
        ),
        (
            94.72,
            91.11,
            None,
            "Without the number of test images nobody can say whether the random baseline differs by more than luck.",
        ),
        (
            94.72,
            911,
            360,
            "Without the number of test images nobody can say whether the random baseline differs by more than luck.",
        ),
    ],
)
def test_both_networks_depend_on_the_choice_of_test_images(
    run: Path, accuracy: float, baseline: float, n_test: int | None, sentence: str
) -> None:
    read = with_summary(run, test_accuracy=accuracy, random_baseline_accuracy=baseline, n_test=n_test)
    assert honest_sentences(read)[1:] == (sentence,)


@pytest.mark.parametrize(
    ("baseline", "words"), [(92.5, "2.50 points below random"), (87.5, "2.50 points above random")]
)
def test_a_loss_is_not_called_a_gain(run: Path, baseline: float, words: str) -> None:
    figures = headline(with_summary(run, test_accuracy=90.0, random_baseline_accuracy=baseline))
    note = next(figure.note for figure in figures if figure.name == "Random baseline")
    assert note == f"a random architecture, same budget; the found network is {words}"


def test_small_networks_and_slow_passes_are_told_in_fitting_units(run: Path) -> None:
    latency = {"median_ms": 1099.7, "low_ms": 998.0, "high_ms": 1203.0}
    values = {f.name: f for f in headline(with_summary(run, params=14_330, macs=512, latency=latency))}
    assert values["Parameters"].value == "14.3 k"
    assert values["MACs"].value == "512"
    assert values["Latency"].value == "1.1 s"
    assert values["Latency"].note == "half of them between 998 ms and 1.2 s"


@pytest.mark.parametrize("arch", ["DARTS_V2", "Genotype(normal=[], normal_concat=[], reduce=[], reduce_concat=[])"])
def test_given_architecture_that_is_not_trained_yet_is_not_called_found(search_only: Path, arch: str) -> None:
    (search_only / "config.yaml").write_text(f"arch: {arch!r}\nretrain: {{epochs: 5}}\n")
    for name in ("alphas.jsonl", "metrics.jsonl"):
        (search_only / name).unlink()
    assert honest_sentences(read_run_folder(search_only)) == (
        "The given architecture has not been retrained yet, so there is no test accuracy.",
    )


def test_retrained_network_without_test_images_is_not_called_unfinished(run: Path) -> None:
    untested = with_summary(run, test_accuracy=None, n_test=None)
    assert honest_sentences(untested) == (
        "The network was retrained and not tested, as its data set has no test images.",
    )
    begun = with_summary(run, test_accuracy=None, retrain_seconds=None)
    assert honest_sentences(begun) == ("The retraining has not finished: there is no test accuracy yet.",)
