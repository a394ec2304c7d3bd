"""SIGTERM, Ctrl-C, SIGHUP and a limit of time, on real processes and in threads; nothing they stop is lost."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import gradnas as gn
from gradnas.data import ImageSet
from gradnas.training import EpochRecord, Silence

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
STRATEGY = "darts, order 1"


@pytest.fixture(scope="module")
def searched(harness: ModuleType, cases: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The undisturbed search, and its folder."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    whole = harness.run_process([*cases.search(STRATEGY), "--out", str(folder)])
    assert whole.code == 0, whole.err
    return whole, folder


def assert_stopped(ended: Any, folder: Path, code: int, by: str) -> None:
    """The process has said in one line what stopped it, what is saved, and how to go on."""
    assert ended.code == code, ended.err
    (line,) = (line for line in ended.err.splitlines() if "stopped" in line)
    assert by in line
    assert "saved in" in line
    assert line.endswith(f"Continue with `gradnas resume {folder}`.")
    assert "Traceback" not in ended.err


def steps_after(ended: Any) -> int:
    """How many steps were finished after the signal was sent."""
    return sum(event["event"] == "step" and event["at"] > ended.signalled for event in ended.events)


@pytest.mark.slow
def test_whatever_stops_a_run_it_goes_on_to_the_same_end(
    harness: Any, cases: Any, final_state: Any, searched: Any, tmp_path: Path
) -> None:
    """One run in four processes: stopped in a step, in a validation, by two signals, and not by a line that is gone."""
    folder = tmp_path / "run"
    begin, go_on = [*cases.search(STRATEGY), "--out", str(folder)], ["resume", str(folder)]

    in_a_step = harness.Kill(event="step", number=3, waits=True, step=("search", 2), delay=0.2, signals=(TERM,))
    first = harness.run_process(begin, in_a_step)
    assert_stopped(first, folder, 0, "SIGTERM")
    assert steps_after(first) == 0, "no other step is begun"
    assert first.ended - first.signalled > 3.0, "the step in progress has waited"

    in_validation = harness.Kill(event="test", waits=True, delay=0.2, signals=(INT,))
    second = harness.run_process(go_on, in_validation)
    assert_stopped(second, folder, 130, "Ctrl-C")
    assert second.steps[0] == ("search", 3), "it goes on after the step that was saved"

    twice = harness.Kill(event="step", number=2, waits=True, delay=0.2, signals=(TERM, TERM), between=0.5)
    third = harness.run_process(go_on, twice)
    assert third.code == 128 + TERM, third.err
    assert third.events[-1]["event"] == "step", "nothing is finished or saved after the second signal"
    assert "Traceback" not in third.err

    hung_up = harness.Kill(event="step", number=2, waits=False, delay=0.0, signals=(HUP,))
    fourth = harness.run_process(go_on, hung_up, through=("nohup",))
    assert fourth.code == 0, fourth.err
    assert fourth.signalled is not None
    assert final_state.differences(searched[1], folder) == []


@pytest.mark.slow
def test_a_signal_while_the_report_is_written_leaves_a_whole_run(
    harness: Any, cases: Any, final_state: Any, searched: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    in_the_report = harness.Kill(event="replaced", name="summary.json", delay=0.0, signals=(TERM,))
    ended = harness.run_process([*cases.search(STRATEGY), "--out", str(folder)], in_the_report)
    assert ended.signalled is not None
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    if final_state.differences(searched[1], folder):
        assert harness.run_process(["resume", str(folder)]).code == 0
    assert final_state.differences(searched[1], folder) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, -TERM)], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_before_the_run_begins_ends_the_program_at_once(
    harness: Any, cases: Any, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "run"
    kill = harness.Kill(event="imported", delay=0.2, signals=(number,))
    ended = harness.run_process([*cases.search(STRATEGY), "--out", str(folder)], kill)
    assert ended.code == code, ended.err
    assert [event["event"] for event in ended.events] == ["imported"]
    assert not folder.exists()
    assert "Traceback" not in ended.err


@pytest.mark.slow
@pytest.mark.long
def test_time_that_is_up_ends_a_run_which_more_time_continues(
    harness: Any, cases: Any, final_state: Any, searched: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    long_step = harness.Kill(event="step", number=12, waits=True, delay=0.0, signals=())
    ended = harness.run_process([*cases.search(STRATEGY), "--max-time", "3s", "--out", str(folder)], long_step)
    assert ended.code == 0, ended.err
    assert 0 < len(ended.steps) <= 12, "the twelfth takes longer than the limit; no step begins after it"

    result = gn.load(folder)
    assert result.arch.genotype() is not None
    assert result.summary["out_of_time"] == ["search"]
    assert (folder / "report.html").is_file()

    more = harness.run_process(["resume", str(folder), "--max-time", "1h"])
    assert more.code == 0, more.err
    assert more.steps[0] == ("search", len(ended.steps))
    different = final_state.differences(searched[1], folder)
    assert different == ["config.yaml: other bytes"], "its limit of time alone"


def images(n: int = 16) -> ImageSet:
    values = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return ImageSet(images=values, labels=torch.arange(n) % 2, classes=("a", "b"))


def search(folder: Path, **settings: Any) -> gn.Result:
    space = gn.spaces.DartsSpace(1, 8, 2, channels=2, cells=3, nodes=1, reductions=1)
    return gn.search(space, images(), epochs=1, batch_size=8, out=folder, device="cpu", progress=False, **settings)


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """The handlers of SIGINT and SIGTERM after each epoch that is told from now on."""
    seen: list[tuple[Any, Any]] = []

    def on_epoch(self: Silence, record: EpochRecord) -> None:
        seen.append((signal.getsignal(INT), signal.getsignal(TERM)))

    monkeypatch.setattr(Silence, "on_epoch", on_epoch)
    return seen


@pytest.fixture
def own_handlers() -> Any:
    """Handlers of the caller, put back in the end."""

    def mine(number: int, frame: object) -> None:
        raise AssertionError("not to be called")

    before = {number: signal.signal(number, mine) for number in (INT, TERM)}
    yield mine
    for number, handler in before.items():
        signal.signal(number, handler)


def test_handlers_are_those_of_the_run_while_it_goes_on_and_put_back_afterwards(
    tmp_path: Path, handlers: list[Any], own_handlers: Callable[..., None]
) -> None:
    search(tmp_path / "run")
    assert len(handlers) == 1
    assert own_handlers not in handlers[0]
    assert (signal.getsignal(INT), signal.getsignal(TERM)) == (own_handlers, own_handlers)


def test_handlers_are_put_back_after_an_error(
    tmp_path: Path, own_handlers: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Silence, record: EpochRecord) -> None:
        raise OSError("the listener fails")

    monkeypatch.setattr(Silence, "on_epoch", fail)
    with pytest.raises(OSError, match="the listener fails"):
        search(tmp_path / "run")
    assert (signal.getsignal(INT), signal.getsignal(TERM)) == (own_handlers, own_handlers)


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path, handlers: list[Any], own_handlers: Any) -> None:
    signal.signal(INT, signal.SIG_IGN)
    search(tmp_path / "run")
    assert handlers[0][0] is signal.SIG_IGN
    assert handlers[0][1] is not own_handlers
    assert signal.getsignal(INT) is signal.SIG_IGN


def test_a_search_in_another_thread_leaves_the_handlers_alone(
    tmp_path: Path, handlers: list[Any], own_handlers: Callable[..., None]
) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(search(tmp_path / "run")))
    thread.start()
    thread.join(60)
    assert len(found) == 1, "the search failed"
    assert handlers == [(own_handlers, own_handlers)]
