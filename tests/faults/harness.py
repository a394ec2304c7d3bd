"""Kills runs of the real command line again and again, resumes them, and counts what that cost.

A :class:`Timeline` is what an undisturbed run told of itself (``driver.py``). A :class:`Chain` repeats the run in
another folder: a process dies by SIGKILL at a moment drawn from the time line, the next one goes on with ``gradnas
resume``, until one lives to the end. Moments are of two kinds. A *timed* kill comes from outside, uniformly over the
time that is left of the run, start-up included. An *aimed* one strikes between two operations on the disk: before a
flush, around the renaming of a file, between a line of a log and the checkpoint after it.
"""

import json
import os
import random
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DRIVER = Path(__file__).with_name("driver.py")
AIMS = ("fsync", "replace", "replaced", "line", "lined", "commit", "committed", "step", "test")
PATIENCE_S = 300.0  # a process that takes longer hangs

Event = dict[str, Any]
Step = tuple[str, int]
"""Phase and step."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """When a process dies, or gets other signals.

    Args:
        event: Name of the event; ``start`` is the start of the process.
        step: Which ``step`` event, where the signal comes from outside; None is any.
        name: Which file the event is about, where the signal comes from outside; None is any.
        number: Which event of the name, counted from 1, where the process does it itself.
        delay: Seconds from the first such event to a signal from outside; None lets the process kill itself.
        signals: What is sent from outside, one after the other.
        between: Seconds between two signals.
        waits: Whether the process waits at the event for what comes.
    """

    event: str
    step: Step | None = None
    name: str | None = None
    number: int = 1
    delay: float | None = None
    signals: tuple[signal.Signals, ...] = (signal.SIGKILL,)
    between: float = 0.0
    waits: bool = False

    def meets(self, event: Event) -> bool:
        """Whether this is the event to be killed after."""
        right = self.step in (None, step_of(event)) and self.name in (None, event.get("name"))
        return event["event"] == self.event and right

    @property
    def orders(self) -> list[str]:
        """What the process is told to do itself."""
        if self.delay is None:
            return ["die", self.event, str(self.number)]
        return ["wait", self.event, str(self.number) if self.waits else "0"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that has ended."""

    code: int
    events: list[Event]
    out: str
    err: str
    begun: float
    ended: float
    signalled: float | None
    """When the first signal was sent, on the clock of the events; None when none was."""

    @property
    def steps(self) -> list[Step]:
        """The steps that it told of."""
        return [step for event in self.events if (step := step_of(event)) is not None]

    @property
    def uncommitted(self) -> list[Event]:
        """The steps after its last checkpoint."""
        last = max((at for at, event in enumerate(self.events) if event["event"] == "committed"), default=-1)
        return [event for event in self.events[last + 1 :] if event["event"] == "step"]


def step_of(event: Event) -> Step | None:
    """Phase and step of an event, if it is a step."""
    return (event["phase"], event["step"]) if event["event"] == "step" else None


def run_process(command: Sequence[str], kill: Kill | None = None, *, through: Sequence[str] = ()) -> Ended:
    """Run the command line in a new process, killed where that is wanted.

    Args:
        command: The arguments of ``gradnas``.
        kill: When and how it dies.
        through: A program that starts it, such as ``nohup``.

    Raises:
        RuntimeError: When it does not end in five minutes, with what it has said.
    """
    reader, writer = os.pipe()
    orders = ["die", "none", "0"] if kill is None else kill.orders
    arguments = [*through, sys.executable, str(DRIVER), str(writer), *orders, *command]
    quiet = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    begun = time.monotonic()
    with subprocess.Popen(
        arguments,
        pass_fds=(writer,),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **quiet},
        start_new_session=True,
    ) as process:
        os.close(writer)
        outside = kill if kill is not None and kill.delay is not None else None
        events, signalled = _follow(process, reader, outside, begun)
        out, err = process.communicate()
        ended = time.monotonic()
    return Ended(
        code=process.returncode, events=events, out=out, err=err, begun=begun, ended=ended, signalled=signalled
    )


def _follow(
    process: subprocess.Popen[str], reader: int, kill: Kill | None, begun: float
) -> tuple[list[Event], float | None]:
    """Read events to the end of the process, and signal it when its time has come."""
    events: list[Event] = []
    signalled: float | None = None
    pending = [] if kill is None else list(kill.signals)
    due = begun + (kill.delay or 0.0) if kill is not None and kill.event == "start" else None
    waiting = b""
    with selectors.DefaultSelector() as selector, os.fdopen(reader, "rb", buffering=0) as pipe:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            until = begun + PATIENCE_S if due is None else due
            ready = selector.select(max(0.0, until - time.monotonic()))
            now = time.monotonic()
            if not ready and kill is not None and due is not None and now >= due:
                signalled = now if signalled is None else signalled
                process.send_signal(pending.pop(0))
                due = now + kill.between if pending else None
            elif not ready and now >= begun + PATIENCE_S:
                process.kill()
                out, err = process.communicate()
                raise RuntimeError(f"no end after {PATIENCE_S:.0f} s; it said: {out} {err}")
            if not ready:
                continue
            chunk = pipe.read(65536)
            if not chunk:
                return events, signalled
            *lines, waiting = (waiting + chunk).split(b"\n")
            for line in lines:
                events.append(json.loads(line))
                if kill is not None and pending and due is None and kill.meets(events[-1]):
                    due = time.monotonic() + (kill.delay or 0.0)


@dataclass(frozen=True)
class Work:
    """A run to be had: the command that begins it, and its folder, which the command names with ``--out``."""

    command: tuple[str, ...]
    folder: Path

    def next_command(self) -> list[str]:
        """What a user types: the command itself as long as there is no run, then ``gradnas resume``."""
        begun = all((self.folder / name).is_file() for name in ("environment.json", "config.yaml"))
        return ["resume", str(self.folder)] if begun else [*self.command, "--out", str(self.folder)]


@dataclass(frozen=True)
class Timeline:
    """What an undisturbed run told of itself, and when."""

    whole: Ended

    @property
    def steps(self) -> list[Step]:
        """All its steps, in order."""
        return self.whole.steps

    def position(self, step: Step) -> int:
        """How many steps came before this one."""
        return self.steps.index(step)

    def timed(self, done: int, chance: random.Random) -> Kill:
        """A moment drawn uniformly over the start-up and all that comes after the first ``done`` steps."""
        told = [event for event in self.whole.events if event["event"] == "step"]
        starts = [self.whole.begun, *(event["at"] for event in told)]
        lengths = [end - start for start, end in zip(starts, [*starts[1:], self.whole.ended], strict=True)]
        kept = [0, *range(done + 1, len(starts))]
        drawn = chance.choices(kept, [lengths[k] for k in kept])[0]
        delay = chance.uniform(0.0, lengths[drawn])
        return (
            Kill(event="step", step=step_of(told[drawn - 1]), delay=delay)
            if drawn
            else Kill(event="start", delay=delay)
        )

    def aimed(self, done: int, chance: random.Random) -> Kill:
        """An event drawn uniformly from those on the disk, and steps and tests, that come after ``done`` steps."""
        seen = 0
        left = []
        for event in self.whole.events:
            if seen >= done and event["event"] in AIMS:
                left.append(event["event"])
            seen += event["event"] == "step"
        drawn = chance.choice(left)
        return Kill(event=drawn, number=chance.randint(1, left.count(drawn)))


@dataclass
class Chain:
    """One run that is killed and resumed until it has ended.

    Args:
        work: The run.
        timeline: Of the undisturbed run.
        interval_s: Seconds between two checkpoints, as the run was told.
    """

    work: Work
    timeline: Timeline
    interval_s: float
    kills: list[dict[str, Any]] = field(default_factory=list)
    resumes: int = 0
    faults: list[str] = field(default_factory=list)

    def run(self, kills: Iterator[str], chance: random.Random) -> None:
        """Run to the end, with a kill for each kind that ``kills`` has left (``timed`` or ``aimed``).

        A process that ends before its moment comes is no kill: the run is then done.
        """
        dead: Ended | None = None  # the last process that told of a step, as long as none has gone on from there
        dead_at, done = 0, 0
        while True:
            kind = next(kills, None)
            kill = None if kind is None else getattr(self.timeline, kind)(done, chance)
            command = self.work.next_command()
            process = run_process(command, kill)
            self.resumes += command[0] == "resume"
            self._judge(process, command)
            if dead is not None and (process.steps or process.code == 0):
                self.kills[dead_at].update(self._lost(dead, process))
                dead = None
            if process.code != -signal.SIGKILL:
                return
            assert kill is not None
            self.kills.append(
                {"kind": kind, "at": kill.event, "after_s": round(process.ended - process.begun, 3), "lost_steps": 0}
            )
            if process.steps:
                dead, dead_at = process, len(self.kills) - 1
                done = max(done, 1 + self.timeline.position(process.steps[-1]) - len(process.uncommitted))

    def _judge(self, process: Ended, command: Sequence[str]) -> None:
        """Note an end that is neither a kill nor a success, and a process that was not at peace with what it found."""
        said = f"{process.out}{process.err}"
        if process.code not in (0, -signal.SIGKILL):
            self.faults.append(f"gradnas {' '.join(command)} ended with {process.code}: {said.strip()}")
        if any(word in said for word in ("Traceback", "unreadable", "damaged")):
            self.faults.append(f"gradnas {' '.join(command)} says: {said.strip()}")

    def _lost(self, dead: Ended, alive: Ended) -> dict[str, Any]:
        """Steps that one process had done and the next one does again."""
        last = self.timeline.position(dead.steps[-1])
        first = self.timeline.position(alive.steps[0]) if alive.steps else len(self.timeline.steps)
        lost, since = max(0, last + 1 - first), dead.uncommitted
        if first > last + 1 and alive.steps:
            self.faults.append(f"a resumed process leaves out steps: it begins at {first}, {last + 1} were done")
        if lost > len(since):
            self.faults.append(f"{lost} steps lost, {len(since)} since the last checkpoint")
        overdue = self.overdue(dead)
        if overdue:
            self.faults.append(f"{overdue} steps ran although a checkpoint was due")
        return {"lost_steps": lost, "steps_since_checkpoint": len(since)}

    def overdue(self, process: Ended) -> int:
        """Steps since the last checkpoint that came after one that was due: all but one may come in the interval."""
        late = process.uncommitted
        if not late:
            return 0
        commits = [event["at"] for event in process.events if event["event"] == "committed"]
        since = commits[-1] if commits else late[0]["at"]
        return sum(event["at"] > since + self.interval_s for event in late[:-1])
