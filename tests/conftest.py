"""Fixtures for tests of every room."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

# A module that a test writes anew within a second, in the same size, would come from the bytecode of the one before.
sys.dont_write_bytecode = True


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Networks as small as those of the tests are slower on several threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _module(name: str) -> ModuleType:
    # Loaded by path: test folders are no packages here.
    spec = importlib.util.spec_from_file_location(f"gradnas_test_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def _chromium() -> Iterator[Any]:
    # Per file: Playwright keeps an event loop running in this thread, which tests after it must not find.
    helper = _module("browser")
    reason = helper.why_not()
    if reason is not None:
        pytest.skip(reason)
    with helper.running_browser() as running:
        yield running


@pytest.fixture
def browser(_chromium: Any) -> Iterator[Any]:
    """A Chromium, ``tests/browser.py``; the test is skipped where there is none, or fails where it must not."""
    yield _chromium
    _chromium.close_pages()


@pytest.fixture(scope="session")
def final_state() -> ModuleType:
    """What two finished runs differ in; see ``tests/final_state.py``."""
    return _module("final_state")


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder by name into ``tmp_path / "runs"``; see ``tests/compared_runs.py``."""
    helper = _module("compared_runs")

    def write(name: str, **wanted: Any) -> Path:
        folder: Path = helper.write_run(tmp_path / "runs" / name, **wanted)
        return folder

    return write
