"""The sample run folder, written once."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

MakeRun = Callable[..., Path]


def _sample_module() -> MakeRun:
    # Loaded by path: test folders are no packages here.
    spec = importlib.util.spec_from_file_location("gradnas_sample_run", Path(__file__).with_name("sample_run.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: MakeRun = module.make_run
    return make


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; copy it before changing it."""
    return _sample_module()(tmp_path_factory.mktemp("runs") / "sample", epochs=12)


@pytest.fixture
def run(sample: Path, tmp_path: Path) -> Path:
    """A finished run to change at will."""
    return Path(shutil.copytree(sample, tmp_path / "run"))


@pytest.fixture
def search_only(tmp_path: Path) -> Path:
    """A run that was searched and not retrained."""
    return _sample_module()(tmp_path / "searched", retrained=False, epochs=5)


@pytest.fixture(scope="session")
def expert_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with XNAS, as long as a real one; copy it before changing it."""
    make = _sample_module()
    return make(
        tmp_path_factory.mktemp("runs") / "experts", strategy="xnas", genotype="XNAS", retrained=False, epochs=50
    )


@pytest.fixture
def expert_run(expert_sample: Path, tmp_path: Path) -> Path:
    """A search with XNAS to change at will."""
    return Path(shutil.copytree(expert_sample, tmp_path / "experts"))
