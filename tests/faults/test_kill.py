"""A real search and a real retraining, killed by SIGKILL and resumed: the result is that of the undisturbed run.

Six kills here, three of each; ``make faults`` makes fifty of each, over all strategies.
"""

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

KINDS = ("aimed", "timed", "timed")


@pytest.fixture(scope="module")
def searched(harness: ModuleType, cases: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The undisturbed search: its time line and folder."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    whole = harness.run_process([*cases.search("darts, order 1"), "--out", str(folder)])
    assert whole.code == 0, whole.err
    return harness.Timeline(whole), folder


def chain(harness: Any, cases: Any, work: Any, timeline: Any, seed: int) -> Any:
    chance, kinds = random.Random(seed), list(KINDS)
    chance.shuffle(kinds)
    made = harness.Chain(work, timeline, cases.INTERVAL_S)
    made.run(iter(kinds), chance)
    return made


@pytest.mark.slow
def test_killed_search_ends_as_if_nothing_had_happened(
    harness: Any, cases: Any, final_state: Any, searched: Any, tmp_path: Path
) -> None:
    timeline, expected = searched
    work = harness.Work(tuple(cases.search("darts, order 1")), tmp_path / "run")
    made = chain(harness, cases, work, timeline, seed=1)
    assert made.faults == []
    assert len(made.kills) == len(KINDS)
    assert final_state.differences(expected, work.folder) == []


@pytest.mark.slow
def test_killed_retraining_ends_as_if_nothing_had_happened(
    harness: Any, cases: Any, final_state: Any, searched: Any, tmp_path: Path
) -> None:
    command = cases.retrain(str(searched[1]), "drop path")
    whole = harness.run_process([*command, "--out", str(tmp_path / "whole")])
    assert whole.code == 0, whole.err
    work = harness.Work(tuple(command), tmp_path / "run")
    made = chain(harness, cases, work, harness.Timeline(whole), seed=2)
    assert made.faults == []
    assert len(made.kills) == len(KINDS)
    assert final_state.differences(tmp_path / "whole", work.folder) == []


@pytest.mark.slow
def test_killed_grid_ends_with_the_same_table(harness: Any, cases: Any, final_state: Any, tmp_path: Path) -> None:
    """Killed in the second search, behind a step that is not saved, and resumed."""
    expected, folder = tmp_path / "whole", tmp_path / "run"
    whole = harness.run_process([*cases.grid(), "--out", str(expected)])
    assert whole.code == 0, whole.err
    phase = "search_r1_c4_n2"
    number = 1 + [event.get("phase") for event in whole.events if event["event"] == "step"].index(phase) + 1
    killed = harness.run_process([*cases.grid(), "--out", str(folder)], harness.Kill(event="step", number=number))
    assert killed.code == -9
    assert (folder / "grid.tsv").read_text(encoding="utf-8").count("\n") == 2
    resumed = harness.run_process(["resume", str(folder)])
    assert resumed.code == 0, resumed.err
    again = {event["phase"] for event in resumed.events if event["event"] == "step"}
    assert again == {phase, f"{phase}_train"}
    assert final_state.differences(expected, folder) == []
