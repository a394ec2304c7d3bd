"""Run folders with a file cut short or a bit flipped: every reading must notice it, or give what it gave before.

    python tests/faults/damage.py [TRIALS]

damages finished and interrupted runs so often (500 times by default) and writes ``benchmarks/results/damage.json``.
``test_damage.py`` does the same a few times.
"""

import contextlib
import io
import json
import multiprocessing
import os
import platform
import random
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import gradnas
from gradnas.arch import ModelDesc
from gradnas.cli.entry import main as command_line
from gradnas.cli.errors import EXPECTED
from gradnas.config import BaselineConf, ComponentConf, DataConf, RetrainConf, RunConf, SearchConf
from gradnas.pipeline import RunContext, RunFolder, load_source, prepare
from gradnas.pipeline.environment import environment
from gradnas.report import compare, write_report
from gradnas.report.records.run_folder import read_run_folder
from gradnas.training import EpochRecord, Silence

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "damage.json"
KINDS = ("cut", "flip")
MEASURED = ("seconds", "latency", "throughput", "checksum")
_SILENT = "another result in silence"
PHASES = ("search", "retrain", "baseline_search_0", "baseline_retrain")

CONF = RunConf(
    data=DataConf(source="digits"),
    space=ComponentConf(
        options={
            "channels": 2,
            "cells": 3,
            "nodes": 2,
            "reductions": 1,
            "primitives": ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"],
        }
    ),
    search=SearchConf(epochs=2, batch_size=16, max_steps_per_epoch=2),
    retrain=RetrainConf(epochs=3, batch_size=16, max_steps_per_epoch=2, channels=2, cells=3),
    baseline=BaselineConf(samples=1),
    device="cpu",
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A file of a folder, damaged.

    Args:
        folder: ``finished`` or ``interrupted``.
        file: The file in it.
        kind: ``cut`` at a random length, or ``flip`` of a random bit.
        seed: Where.
    """

    folder: str
    file: str
    kind: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a trial: ``detected``, ``harmless``, or what is wrong."""

    trial: Trial
    outcome: str
    faults: tuple[str, ...]


class Killed(Exception):  # noqa: N818 - not an error of ours
    """Stops a run as a kill would, as far as files are concerned."""


class _Killer(Silence):
    def on_epoch(self, record: EpochRecord) -> None:
        if (record.phase, record.epoch) == ("retrain", 1):
            raise Killed


class Damage:
    """The two folders, what their readings give, and the trials on copies of them.

    Args:
        place: An empty folder to work in.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        gradnas.run(CONF, out=place / "finished", progress=False)
        data = load_source(CONF)
        folder = RunFolder.create(place / "interrupted", CONF)
        context = RunContext(data=data, seed=CONF.seed, folder=folder, listener=_Killer())
        try:
            prepare(CONF, context).run()
        except Killed:
            pass
        else:
            raise AssertionError("the run was not interrupted")
        shutil.copytree(place / "interrupted", place / "resumed")
        _quiet(lambda: gradnas.resume(place / "resumed", progress=False))
        self.expected = {
            name: {what: read() for what, read in readings(place / name)} for name in ("finished", "resumed")
        }
        self.expected["interrupted"] = {what: read() for what, read in early_readings(place / "interrupted")}

    def trials(self, count: int, seed: int) -> list[Trial]:
        """So many trials, every file in turn, kinds alternating; of an interrupted folder a quarter."""
        chance = random.Random(seed)
        files = {name: self.files(name) for name in ("finished", "interrupted")}
        found = []
        for i in range(count):
            folder = "interrupted" if i % 4 == 3 else "finished"
            turn = i // 4 if folder == "interrupted" else i - i // 4
            file = files[folder][turn % len(files[folder])]
            kind = KINDS[turn // len(files[folder]) % 2]
            found.append(Trial(folder=folder, file=file, kind=kind, seed=chance.randrange(2**32)))
        return found

    def files(self, folder: str) -> list[str]:
        """Every file of a folder."""
        root = self.place / folder
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())

    def judge(self, trial: Trial) -> Verdict:
        """Damage a copy, read it by every way there is, continue it, and read it again."""
        copy = self.place / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.place / trial.folder, copy)
        _damage(copy / trial.file, trial)
        faults: list[str] = []
        named = Path(trial.file).name
        finished = trial.folder == "finished"
        before = readings(copy) if finished else early_readings(copy)
        noticed = self._compare(self.expected[trial.folder], before, named, faults)
        said, error = _quiet(lambda: gradnas.resume(copy, progress=False))
        warned = _is_named(said, named)
        noticed |= warned
        if isinstance(error, EXPECTED):
            noticed = True
            if named not in str(error):
                faults.append(f"resume: {type(error).__name__} does not name the file: {error}")
        elif error is not None:
            faults.append(f"resume: {type(error).__name__}: {error}")
        else:
            later: list[str] = []
            noticed |= self._compare(self.expected["finished" if finished else "resumed"], readings(copy), named, later)
            # what the user was told of while the run went on explains what is otherwise, but no crash
            faults += [f"after the resume, {fault}" for fault in later if not (warned and fault.endswith(_SILENT))]
        outcome = "wrong" if faults else "detected" if noticed else "harmless"
        return Verdict(trial=trial, outcome=outcome, faults=tuple(faults))

    def _compare(self, expected: dict[str, Any], found: "Iterator[Reading]", named: str, faults: list[str]) -> bool:
        """Whether a reading noticed the damage; what is wrong is added to the faults."""
        noticed = False
        for what, read in found:
            value: list[Any] = []
            said, error = _quiet(lambda read=read, value=value: value.append(read()))  # type: ignore[misc]
            if isinstance(error, EXPECTED):
                noticed = True
                if named not in str(error):
                    faults.append(f"{what}: {type(error).__name__} does not name the file: {error}")
            elif error is not None:
                faults.append(f"{what}: {type(error).__name__}: {error}")
            elif _is_named(said, named):
                noticed = True
            elif value[0] != expected[what]:
                faults.append(f"{what}: {_SILENT}")
        return noticed


Reading = tuple[str, Callable[[], Any]]


def readings(folder: Path) -> Iterator[Reading]:
    """Every way to read a finished run, as a name and a function that gives plain values."""
    yield "arch", lambda: gradnas.load(folder).arch.to_json()
    yield "config", lambda: gradnas.load(folder).config
    yield "summary", lambda: _timeless(gradnas.load(folder).summary)
    for phase in PHASES:
        yield f"metrics of {phase}", lambda phase=phase: _timeless(gradnas.load(folder).metrics(phase).to_list())  # type: ignore[misc]
    yield "model", lambda: {n: v.tolist() for n, v in gradnas.load(folder).model.state_dict().items()}
    yield from early_readings(folder)
    yield "export", lambda: _exported(folder)
    yield "comparison", lambda: _compared(folder)
    yield "baseline", lambda: ModelDesc.load(folder / "baseline" / "arch.json").to_json()


def early_readings(folder: Path) -> Iterator[Reading]:
    """The ways to read a run that is not finished."""
    yield "report", lambda: _reported(folder)
    yield "report of the command line", lambda: _commanded("report", folder)


def _reported(folder: Path) -> Any:
    """What a report is made of; its problems are told as warnings."""
    write_report(folder)
    run = read_run_folder(folder)
    for problem in run.problems:
        warnings.warn(problem, stacklevel=1)
    parts = (run.found, run.full, run.baseline, run.settings)
    metrics = [(record.phase, record.epoch, record.lr, _timeless(dict(record.values))) for record in run.metrics]
    return [*parts, metrics, run.mixtures, _timeless(dict(run.summary))]


def _exported(folder: Path) -> str:
    with tempfile.TemporaryDirectory() as place:
        gradnas.load(folder).export("source", place)
        text = (Path(place) / "model.py").read_text(encoding="utf-8")
    return re.sub(rf"\b{folder.name}\b", "RUN", text)


def _commanded(*words: object) -> list[str]:
    """What a command prints, the paths of this machine left out; its complaints are told as warnings."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command_line([str(word) for word in words])
    for line in err.getvalue().splitlines():
        warnings.warn(line, stacklevel=1)
    return [str(code), *(line for line in out.getvalue().splitlines() if os.sep not in line)]


def _compared(folder: Path) -> Any:
    comparison = compare(folder)
    for note in comparison.notes:
        warnings.warn(note, stacklevel=1)
    return [(row.name, [result.accuracy for result in row.results]) for row in comparison.rows]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(item) for name, item in value.items() if not str(name).endswith(MEASURED)}
    return [_timeless(item) for item in value] if isinstance(value, (list, tuple)) else value


def _quiet(act: Callable[[], Any]) -> tuple[list[str], Exception | None]:
    """The warnings of an action and its error."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        error: Exception | None = None
        try:
            act()
        except Exception as caught:  # noqa: BLE001 - any is judged
            error = caught
    return [str(warning.message) for warning in said], error


def _is_named(said: list[str], named: str) -> bool:
    return any(named in text for text in said)


def _damage(path: Path, trial: Trial) -> None:
    chance = random.Random(trial.seed)
    data = bytearray(path.read_bytes())
    if trial.kind == "cut":
        del data[chance.randrange(len(data)) :]
    else:
        place = chance.randrange(8 * len(data))
        data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


def judged(count: int, part: int, parts: int) -> list[tuple[str, str, list[str]]]:
    """(file and kind, outcome, faults) of every ``parts``-th of so many trials, on runs of this process."""
    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory() as place:
        damage = Damage(Path(place))
        for trial in damage.trials(count, seed=0)[part::parts]:
            verdict = damage.judge(trial)
            told = [f"{trial}: {fault}" for fault in verdict.faults]
            found.append((f"{trial.folder}/{trial.file}, {trial.kind}", verdict.outcome, told))
    return found


def main() -> int:
    """Run the trials, one process per core, print and store the counts."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    parts = os.cpu_count() or 1
    begun = time.monotonic()
    counts: dict[str, Counter[str]] = {}
    faults = []
    with ProcessPoolExecutor(parts, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(judged, [count] * parts, range(parts), [parts] * parts):
            for place, outcome, told in part:
                counts.setdefault(place, Counter())[outcome] += 1
                faults += told
    totals = sum(counts.values(), Counter())
    facts = environment()
    result = {
        "command": f"python tests/faults/damage.py {count}",
        "gradnas": metadata.version("gradnas"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": {name: facts[name] for name in ("processor", "cores", "memory_gib", "platform")},
        "n": count,
        "seconds": round(time.monotonic() - begun),
        "totals": {"detected": 0, "harmless": 0, "wrong": 0} | dict(totals),
        "files": {name: dict(counts[name]) for name in sorted(counts)},
        "faults": faults,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join([*faults, str(result["totals"])]))  # noqa: T201 - a script
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
