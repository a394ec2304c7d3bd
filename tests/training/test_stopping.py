"""Tests of ``stopping.py`` and ``phase_clock.py`` in ``src/gradnas/training``; ``tests/faults`` has real processes."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.training.test_trainer import Net, assert_same_weights, loaders
from torch import Tensor

from gradnas.training import (
    CheckPoint,
    EpochRecord,
    Interrupted,
    Metrics,
    Silence,
    Stop,
    Terminated,
    TrainConf,
    Trainer,
)
from gradnas.training.phase_clock import PhaseClock


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Time that goes on when it is told."""
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


@pytest.mark.parametrize(
    ("number", "kind", "name"), [(signal.SIGINT, Interrupted, "Ctrl-C"), (signal.SIGTERM, Terminated, "SIGTERM")]
)
def test_a_signal_is_remembered_and_ends_the_run_when_asked(
    number: signal.Signals, kind: type[BaseException], name: str
) -> None:
    with Stop() as stop:
        assert not stop.asked
        stop.raise_if_asked("nothing happened")
        os.kill(os.getpid(), number)
        assert stop.asked
        with pytest.raises(kind, match=f"stopped by {name}; all is saved"):
            stop.raise_if_asked("all is saved")


def test_after_sigterm_the_process_ends_well() -> None:
    assert Terminated("saved").code == 0
    assert str(Terminated("saved")) == "saved"


def test_the_second_signal_ends_at_once() -> None:
    with Stop():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143


def test_handlers_are_put_back_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        own = signal.getsignal(signal.SIGINT)
        with Stop() as stop:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) == stop._on_signal
        assert signal.getsignal(signal.SIGINT) is own
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_takes_no_signals() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with Stop() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


def test_time_counts_from_the_start_with_that_of_earlier_processes(clock: Callable[[float], None]) -> None:
    stop, endless = Stop(60.0), Stop()
    clock(30.0)
    assert not stop.time_is_up()
    assert stop.time_is_up(reserve_s=30.0)
    stop.account_for(29.0)
    assert not stop.time_is_up()
    clock(1.0)
    assert stop.time_is_up()
    clock(1e12)
    assert not endless.time_is_up(1e12)


def test_a_phase_remembers_its_time(clock: Callable[[float], None]) -> None:
    first = PhaseClock()
    clock(5.0)
    first.begin_epoch()
    clock(2.0)
    first.closing_s = 0.5
    second = PhaseClock()
    second.load_state_dict(first.state_dict())
    assert (second.earlier_s, second.closing_s) == (7.0, 0.5)
    clock(1.0)
    assert second.state_dict() == {"phase": 8.0, "epoch": 3.0, "closing": 0.5}
    assert second.since_saved_s() == 1.0
    second.saved()
    assert second.since_saved_s() == 0.0


class Timed(Trainer):
    """A step takes ten seconds, ending an epoch four."""

    advance: Callable[[float], None]

    def post_step(self, x: Tensor, y: Tensor) -> None:
        self.advance(10.0)

    def post_epoch(self, *args: object) -> None:
        super().post_epoch(*args)  # type: ignore[arg-type]
        self.advance(4.0)


def timed(advance: Callable[[float], None], path: Path, max_time_s: float | None, *, resume: bool = False) -> Timed:
    checkpoint = CheckPoint(path)
    if resume:
        assert checkpoint.load_existing()
    stop = Stop(max_time_s)
    trainer = Timed(TrainConf(epochs=3, checkpoint_every_seconds=0), Net(), checkpoint, stop=stop)
    trainer.advance = advance
    return trainer


@pytest.mark.parametrize(
    ("max_time_s", "steps", "epochs"),
    [(0.1, 1, 1), (10.0, 1, 1), (10.1, 2, 1), (44.0, 4, 1), (54.1, 5, 2), (1000.0, 12, 3)],
)
def test_training_stops_in_time_and_its_epoch_is_closed(
    clock: Callable[[float], None], tmp_path: Path, max_time_s: float, steps: int, epochs: int
) -> None:
    """Four steps and four seconds make an epoch of 44 seconds, from the second on with a reserve of 4."""
    trainer = timed(clock, tmp_path / "a.pt", max_time_s)
    metrics = trainer.fit(loaders([3, 3, 3, 3]))
    assert (trainer.global_step, len(metrics)) == (steps, epochs)
    assert trainer.out_of_time == (steps < 12)
    assert trainer.stop.cut_short == {"train": steps < 12}


@pytest.mark.parametrize("max_time_s", [5.0, 25.0, 44.0, 60.0])
def test_more_time_goes_on_as_if_it_had_never_been_short(
    clock: Callable[[float], None], tmp_path: Path, max_time_s: float
) -> None:
    data = loaders([3, 4, 5, 3])
    cut = timed(clock, tmp_path / "a.pt", max_time_s)
    cut.fit(data)
    again = timed(clock, tmp_path / "a.pt", max_time_s, resume=True)
    closed = again.fit(data)
    assert_same_weights(cut.model, again.model)
    assert [record.train for record in closed] == [record.train for record in cut.metrics]
    longer, whole = timed(clock, tmp_path / "a.pt", None, resume=True), timed(clock, tmp_path / "b.pt", None)
    finished, expected = longer.fit(data), whole.fit(data)
    assert_same_weights(longer.model, whole.model)
    assert [record.train for record in finished] == [record.train for record in expected]
    assert [record.seconds for record in expected] == [40.0] * 3


def test_a_signal_is_followed_after_the_step_in_progress(tmp_path: Path) -> None:
    class Signalled(Trainer):
        def pre_step(self, x: Tensor, y: Tensor) -> None:
            if self.global_step == 6:
                os.kill(os.getpid(), signal.SIGINT)

    checkpoint = CheckPoint(tmp_path / "a.pt")
    conf = TrainConf(epochs=3, checkpoint_every_seconds=0)
    data = loaders([3, 4, 5, 3])
    with (
        Stop() as stop,
        pytest.raises(Interrupted, match=r"stopped by Ctrl-C; saved in .*a\.pt after epoch 1, step 3 of phase 'train'"),
    ):
        Signalled(conf, Net(), checkpoint, stop=stop).fit(data)
    stored = CheckPoint(tmp_path / "a.pt")
    stored.load_existing()
    assert (stored["epoch"], stored["step"], stored["global_step"]) == (1, 3, 7)
    resumed, whole = Trainer(conf, Net(), stored), Trainer(conf, Net())
    resumed.fit(data)
    whole.fit(data)
    assert_same_weights(resumed.model, whole.model)


def test_without_a_checkpoint_a_signal_says_that_nothing_is_saved() -> None:
    class Signalled(Trainer):
        def pre_step(self, x: Tensor, y: Tensor) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with Stop() as stop, pytest.raises(Terminated, match="nothing is saved"):
        Signalled(TrainConf(epochs=1), Net(), stop=stop).fit(loaders([3, 4]))


def test_a_signal_that_no_step_was_left_to_follow_is_followed_at_the_end() -> None:
    with pytest.raises(Interrupted, match="stopped by Ctrl-C; everything is saved"), Stop():
        os.kill(os.getpid(), signal.SIGINT)


def test_another_error_goes_before_a_signal() -> None:
    def fail() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise KeyError

    with pytest.raises(KeyError), Stop():
        fail()


def test_without_time_for_another_epoch_the_last_one_is_validated(
    clock: Callable[[float], None], tmp_path: Path
) -> None:
    data = replace(loaders([3, 3]), val=loaders([5]).train)
    told: list[EpochRecord] = []

    class Noting(Silence):
        def on_start(self, phase: str, metrics: Metrics) -> None:
            told[:] = metrics

    conf = TrainConf(epochs=3, validate_every_epochs=3, checkpoint_every_seconds=0)
    trainer = Timed(conf, Net(), CheckPoint(tmp_path / "a.pt"), stop=Stop(24.0), listener=Noting())
    trainer.advance = clock
    metrics = trainer.fit(data)
    assert trainer.global_step == 2
    assert [record.val is not None for record in metrics] == [True]
    assert told == list(metrics)
    stored = CheckPoint(tmp_path / "a.pt")
    stored.load_existing()
    assert stored["metrics"][0]["val"] is None, "more time goes on as if there had been no limit"
