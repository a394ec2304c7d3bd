"""The networks that are exported, and one thread: networks this small are slower on several."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _networks() -> ModuleType:
    # Loaded by path: test folders are no packages here.
    spec = importlib.util.spec_from_file_location("gradnas_export_networks", Path(__file__).with_name("networks.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


NETWORKS = _networks()


@pytest.fixture(scope="session")
def nets() -> ModuleType:
    """``networks.py``."""
    return NETWORKS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``desc`` runs once for each description of ``networks.py``."""
    if "desc" in metafunc.fixturenames:
        metafunc.parametrize("desc", [make() for make in NETWORKS.CASES.values()], ids=list(NETWORKS.CASES))
