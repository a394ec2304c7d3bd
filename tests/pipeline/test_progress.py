"""Tests of ``src/gradnas/pipeline/progress.py``."""

import sys

import pytest

from gradnas.pipeline import progress_listener
from gradnas.pipeline.progress import ProgressBar
from gradnas.training import EpochRecord, Progress, Score, Silence


def event(epoch: int, step: int, entropy: float | None = 1.25) -> Progress:
    return Progress("search", epoch, 4, step, 10, Score(0.5, 75.0), entropy)


def test_without_a_terminal_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_listener(None) as listener:
        listener.on_progress(event(0, 5))
        listener.on_epoch(EpochRecord("search", 0))
    assert isinstance(listener, Silence)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert isinstance(progress_listener(None), ProgressBar)
    assert isinstance(progress_listener(False), Silence)


def test_bar_shows_phase_scores_and_entropy(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_listener(True) as listener:
        listener.on_progress(event(0, 5))
        listener.on_epoch(EpochRecord("search", 0, val=Score(0.1, 62.5)))
        listener.on_progress(event(1, 10))
        assert isinstance(listener, ProgressBar)
        task = listener._bars.tasks[0]
    assert (task.description, task.total, task.completed) == ("search", 4, 2.0)
    assert task.fields["scores"] == "loss 0.500  train 75.0 %  val 62.5 %  entropy 1.250"
    assert "search" in capsys.readouterr().out


def test_test_score_replaces_the_running_one() -> None:
    with progress_listener(True) as listener:
        listener.on_progress(event(3, 10, entropy=None))
        listener.on_epoch(EpochRecord("search", 4, test=Score(0.1, 91.234)))
        assert isinstance(listener, ProgressBar)
        assert listener._bars.tasks[0].fields["scores"] == "test 91.23 %"


def test_test_of_a_phase_that_showed_no_progress_is_no_error() -> None:
    with progress_listener(True) as listener:
        listener.on_epoch(EpochRecord("retrain", 4, test=Score(0.1, 91.0)))
