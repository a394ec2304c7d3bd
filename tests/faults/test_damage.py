"""Files of run folders cut short and with flipped bits: a few of the trials that ``damage.py`` beside this runs."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TRIALS = 4


@pytest.fixture(scope="module")
def helper() -> ModuleType:
    # Loaded by path: test folders are no packages here. Its dataclasses look their module up.
    spec = importlib.util.spec_from_file_location("gradnas_test_damage", Path(__file__).with_name("damage.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folders(helper: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return helper.Damage(tmp_path_factory.mktemp("damage"))


@pytest.mark.slow
def test_damage_is_noticed_or_harmless(folders: Any) -> None:
    verdicts = [folders.judge(trial) for trial in folders.trials(TRIALS, seed=1)]
    assert not [(verdict.trial, verdict.faults) for verdict in verdicts if verdict.faults]
    outcomes = {verdict.outcome for verdict in verdicts}
    assert outcomes == {"detected", "harmless"}


def test_every_file_of_a_run_gets_its_turn(folders: Any) -> None:
    trials = folders.trials(500, seed=0)
    assert len(trials) == 500
    for folder in ("finished", "interrupted"):
        for kind in ("cut", "flip"):
            told = {trial.file for trial in trials if (trial.folder, trial.kind) == (folder, kind)}
            assert told == set(folders.files(folder))


@pytest.mark.parametrize("file", ["config.yaml", "summary.json", "arch.json", "weights.safetensors", "metrics.jsonl"])
def test_a_wrong_value_is_judged_by_what_is_said_of_it(helper: Any, folders: Any, file: str) -> None:
    """The judge itself: of a file that lost everything something is always said."""
    trial = helper.Trial(folder="finished", file=file, kind="cut", seed=0)
    assert folders.judge(trial).outcome == "detected"


def test_a_reading_that_differs_in_silence_is_a_fault(folders: Any) -> None:
    faults: list[str] = []
    found = iter([("a", lambda: 2), ("b", lambda: 1 / 0), ("c", lambda: Path("/no/such/file").read_bytes())])
    noticed = folders._compare({"a": 1, "b": 1, "c": 1}, found, "arch.json", faults)
    assert noticed
    assert [fault.split(":")[0] for fault in faults] == ["a", "b", "c"]
    assert "another result in silence" in faults[0]
    assert "ZeroDivisionError" in faults[1]
    assert "does not name the file" in faults[2]
