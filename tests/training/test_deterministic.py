"""Tests of ``src/gradnas/training/deterministic.py``."""

import os

import pytest
import torch

from gradnas.training import deterministic_algorithms


def settings() -> tuple[object, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


def test_within_the_block_only_deterministic_algorithms_are_allowed() -> None:
    before = settings()
    with deterministic_algorithms(True):
        assert settings() == (True, False, True, False, ":4096:8")
    assert settings() == before


def test_disabled_changes_nothing() -> None:
    before = settings()
    with deterministic_algorithms(False):
        assert settings() == before


def test_an_operation_without_such_an_algorithm_is_an_error() -> None:
    index = torch.zeros(3, dtype=torch.int64)
    with deterministic_algorithms(True), pytest.raises(RuntimeError, match="does not have a deterministic"):
        torch.zeros(3).put_(index, torch.ones(3), accumulate=False)


def test_settings_come_back_after_an_error_and_own_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    before = settings()
    inside = []
    with pytest.raises(KeyError), deterministic_algorithms(True):
        {}[inside.append(os.environ["CUBLAS_WORKSPACE_CONFIG"])]
    assert inside == [":16:8"]
    assert settings() == before
