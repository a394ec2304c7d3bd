"""Tests of ``harness.py``: what a kill costs is counted on events that are made up, so that the answer is known."""

import random
from pathlib import Path
from typing import Any

import pytest

INTERVAL_S = 0.2


def step(number: int, at: float, phase: str = "search") -> dict[str, Any]:
    return {"event": "step", "phase": phase, "step": number, "at": at}


def commit(at: float) -> dict[str, Any]:
    return {"event": "committed", "at": at}


def ended(harness: Any, *events: dict[str, Any], code: int = 0, said: str = "") -> Any:
    return harness.Ended(code=code, events=list(events), out="", err=said, begun=0.0, ended=10.0, signalled=None)


@pytest.fixture
def timeline(harness: Any) -> Any:
    """Ten steps, one each tenth of a second after a start-up of five seconds, and four seconds at the end."""
    return harness.Timeline(ended(harness, *(step(number, 5.0 + number / 10) for number in range(10))))


@pytest.fixture
def chain(harness: Any, timeline: Any) -> Any:
    return harness.Chain(harness.Work(("search",), Path("run")), timeline, INTERVAL_S)


@pytest.mark.parametrize(
    ("dead", "first", "lost", "fault"),
    [
        ([step(0, 0.0), step(1, 0.1), commit(0.11)], 2, 0, None),
        ([step(0, 0.0), commit(0.01), step(1, 0.1), step(2, 0.2)], 1, 2, None),
        ([step(0, 0.0), commit(0.01), step(1, 0.1), step(2, 0.2)], 3, 0, None),  # saved, and killed before it could say
        ([step(0, 0.0), commit(0.01), step(1, 0.1)], 0, 2, "2 steps lost, 1 since the last checkpoint"),
        ([step(0, 0.0), step(1, 0.1)], 3, 0, "begins at 3, 2 were done"),
        ([step(n, n / 10) for n in range(5)], 0, 5, "1 steps ran although a checkpoint was due"),
        ([step(0, 0.0), commit(0.01), step(1, 0.2), step(2, 0.22)], 1, 2, None),
        ([step(0, 0.0), commit(0.01), step(1, 0.3), step(2, 0.4)], 1, 2, "1 steps ran although"),
    ],
    ids=["none", "two", "not told", "too many", "left out", "never saved", "in time", "overdue"],
)
def test_lost_steps_are_those_that_are_done_again(
    harness: Any, chain: Any, dead: list[dict[str, Any]], first: int, lost: int, fault: str | None
) -> None:
    assert chain._lost(ended(harness, *dead), ended(harness, step(first, 9.0)))["lost_steps"] == lost
    assert len(chain.faults) == (fault is not None)
    assert (fault or "") in "".join(chain.faults)


def test_a_process_that_has_nothing_left_to_do_has_lost_nothing(harness: Any, chain: Any) -> None:
    dead = ended(harness, *(step(number, number / 100) for number in range(10)), commit(0.2))
    assert chain._lost(dead, ended(harness))["lost_steps"] == 0
    assert chain.faults == []


@pytest.mark.parametrize(
    ("code", "said", "faults"),
    [(0, "", 0), (-9, "", 0), (1, "error: no", 1), (0, "Traceback (most recent call last)", 1), (-9, "is damaged", 1)],
)
def test_an_end_that_is_neither_a_kill_nor_a_success_is_a_fault(
    harness: Any, chain: Any, code: int, said: str, faults: int
) -> None:
    chain._judge(ended(harness, code=code, said=said), ["resume"])
    assert len(chain.faults) == faults


def test_timed_kills_are_spread_over_the_time_that_is_left(timeline: Any) -> None:
    """Of ten seconds five are start-up, 0.9 are steps and 4.1 the end; after eight steps 5, 0.1 and 4.1 are left."""
    chance = random.Random(0)
    kills = [timeline.timed(0, chance) for _ in range(2000)]
    starts = [kill for kill in kills if kill.event == "start"]
    last = [kill for kill in kills if kill.step == ("search", 9)]
    assert len(starts) / 2000 == pytest.approx(0.5, abs=0.04)
    assert len(last) / 2000 == pytest.approx(0.41, abs=0.04)
    assert max(kill.delay for kill in starts) == pytest.approx(5.0, abs=0.05)
    assert {kill.step for kill in kills} == {None, *(("search", number) for number in range(10))}
    assert {timeline.timed(8, chance).step for _ in range(500)} == {None, ("search", 8), ("search", 9)}


def test_aimed_kills_strike_only_what_is_still_to_come(harness: Any) -> None:
    events = [step(0, 1.0), commit(1.1), step(1, 1.2), {"event": "fsync", "at": 1.3}, {"event": "fsync", "at": 1.4}]
    chance, timeline = random.Random(0), harness.Timeline(ended(harness, *events))
    assert {(kill.event, kill.number) for kill in (timeline.aimed(0, chance) for _ in range(300))} == {
        *(("step", 1), ("step", 2), ("committed", 1), ("fsync", 1), ("fsync", 2))
    }
    assert {kill.event for kill in (timeline.aimed(2, chance) for _ in range(100))} == {"fsync"}


def test_a_run_that_has_not_begun_is_begun_and_one_that_has_is_resumed(harness: Any, tmp_path: Path) -> None:
    work = harness.Work(("search", "--seed", "1"), tmp_path)
    begin = ["search", "--seed", "1", "--out", str(tmp_path)]
    assert work.next_command() == begin
    (tmp_path / "environment.json").touch()
    assert work.next_command() == begin
    (tmp_path / "config.yaml").touch()
    assert work.next_command() == ["resume", str(tmp_path)]
