"""The harness, as fixtures: test folders are no packages here."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _module(name: str) -> ModuleType:
    known = f"gradnas_faults_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)  # dataclasses look it up
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


@pytest.fixture(scope="session")
def harness() -> ModuleType:
    """``harness.py``."""
    return _module("harness")


@pytest.fixture(scope="session")
def cases() -> ModuleType:
    """``cases.py``."""
    return _module("cases")
