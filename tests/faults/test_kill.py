"""A real search and a real retraining, killed by SIGKILL and resumed: the result is that of the undisturbed run.

Four kills here, two of each; ``make faults`` makes fifty of each, over all strategies.
"""

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

KINDS = ("aimed", "timed")
MOST_RUNS = 5


@pytest.fixture(scope="module")
def searched(harness: ModuleType, cases: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The undisturbed search: its time line and folder."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    whole = harness.run_process([*cases.search("darts, order 1"), "--out", str(folder)])
    assert whole.code == 0, whole.err
    return harness.Timeline(whole), folder


def kill_and_resume(harness: Any, cases: Any, command: list[str], timeline: Any, place: Path, seed: int) -> list[Path]:
    """Run the command in new folders, killed and resumed, until all kinds of kills were made; the folders.

    One run is enough but where a process ends before its moment, which a machine that is less busy than before does.
    """
    chance, kinds = random.Random(seed), list(KINDS)
    chance.shuffle(kinds)
    kills, folders = 0, []
    while kills < len(kinds):
        assert len(folders) < MOST_RUNS, f"{kills} kills in {len(folders)} runs"
        folders.append(place / f"run-{len(folders)}")
        made = harness.Chain(harness.Work(tuple(command), folders[-1]), timeline, cases.INTERVAL_S)
        made.run(iter(kinds[kills:]), chance)
        assert made.faults == []
        kills += len(made.kills)
    return folders


@pytest.mark.slow
def test_killed_search_ends_as_if_nothing_had_happened(
    harness: Any, cases: Any, final_state: Any, searched: Any, tmp_path: Path
) -> None:
    timeline, expected = searched
    for folder in kill_and_resume(harness, cases, cases.search("darts, order 1"), timeline, tmp_path, seed=1):
        assert final_state.differences(expected, folder) == []


@pytest.mark.slow
@pytest.mark.long
def test_killed_retraining_ends_as_if_nothing_had_happened(
    harness: Any, cases: Any, final_state: Any, searched: Any, tmp_path: Path
) -> None:
    command = cases.retrain(str(searched[1]), "drop path")
    whole = harness.run_process([*command, "--out", str(tmp_path / "whole")])
    assert whole.code == 0, whole.err
    for folder in kill_and_resume(harness, cases, command, harness.Timeline(whole), tmp_path, seed=2):
        assert final_state.differences(tmp_path / "whole", folder) == []


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
