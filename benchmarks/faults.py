"""Kills real searches and retrainings by SIGKILL, resumes them, and compares the end with that of undisturbed runs.

    python benchmarks/faults.py [--kills 50] [--seed 0]

Writes ``benchmarks/results/faults.json``: for searches, spread over all strategies, for retrainings, spread over
recipes, and for runs of all phases: kills, resumes, differences from the undisturbed run (bit by bit, but for measured
times; the bar is 0), and the steps that each kill cost beside those done since the last checkpoint. Half of the kills
come at a random moment from outside, half between two operations on the disk; ``tests/faults/harness.py`` says how.
A difference or a fault is told in full and makes the exit status 1. About an hour on one core.
"""

import argparse
import itertools
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _steps import machine, write_result

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]

import cases  # noqa: E402 - found by the path above
import final_state  # noqa: E402
import harness  # noqa: E402

KINDS = ("timed", "aimed")
KILLS_PER_RUN = 4  # the next run then begins, in a new folder


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=50, help="of searches, of retrainings, and a fifth of it of runs")
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        searched = base / "searched"
        undisturbed(cases.search("darts, order 1"), searched)
        commands: dict[str, dict[str, Callable[[], list[str]]]] = {
            "search": {name: lambda name=name: cases.search(name) for name in cases.STRATEGIES},
            "retrain": {name: lambda name=name: cases.retrain(str(searched), name) for name in cases.RECIPES},
            "run": {"all phases": cases.whole},
        }
        wanted = {"search": args.kills, "retrain": args.kills, "run": max(1, args.kills // 5)}
        results = {
            kind: killed(base / kind, named, wanted[kind], f"{args.seed}.{kind}") for kind, named in commands.items()
        }
    result = {
        "what": "real processes killed by SIGKILL and resumed; the end compared bit for bit with an undisturbed run",
        "settings": vars(args),
        "checkpoint_interval_s": cases.INTERVAL_S,
        "bar": {"differences": 0, "faults": 0, "lost_steps": "at most those since the last checkpoint"},
        **results,
        "within_bar": all(not part["differences"] and not part["faults"] for part in results.values()),
        "seconds": time.monotonic() - start,
        "machine": machine(),
    }
    target = write_result("faults", result)
    for kind, part in results.items():
        print(
            f"{kind}: {part['kills']} kills, {part['resumes']} resumes, {part['differences']} differences, "
            f"lost steps {part['lost_steps']}"
        )
    print(f"-> {target}")
    return 0 if result["within_bar"] else 1


def killed(base: Path, commands: dict[str, Callable[[], list[str]]], kills: int, seed: str) -> dict[str, Any]:
    """Kill runs of these commands in turn until each had its share."""
    chance = random.Random(seed)
    kinds = itertools.cycle(KINDS)
    chains: dict[str, list[Any]] = {}
    told: list[str] = []
    shares = Counter(itertools.islice(itertools.cycle(commands), kills))
    for name, share in shares.items():
        expected = base / name / "undisturbed"
        expected.parent.mkdir(parents=True)
        timeline = harness.Timeline(undisturbed(commands[name](), expected))
        chains[name] = []
        while (left := share - sum(len(chain.kills) for chain in chains[name])) > 0:
            work = harness.Work(tuple(commands[name]()), base / name / f"run {len(chains[name])}")
            chain = harness.Chain(work, timeline, cases.INTERVAL_S)
            chain.run(planned(kinds, min(left, KILLS_PER_RUN)), chance)
            chains[name].append(chain)
            different = final_state.differences(expected, work.folder)
            told += [f"{name}, {work.folder.name}: {what}" for what in [*different, *chain.faults]]
            print(f"{name}: {len(chain.kills)} kills, {[kill['lost_steps'] for kill in chain.kills]} steps lost")
            for what in [*different, *chain.faults]:
                print(f"  {what}", file=sys.stderr)
        shutil.rmtree(base / name)
    return summary(chains, told)


def planned(kinds: Iterator[str], number: int) -> Iterator[str]:
    """So many of the kinds."""
    return itertools.islice(kinds, number)


def undisturbed(command: list[str], folder: Path) -> Any:
    """A whole run. RuntimeError when it fails."""
    ended = harness.run_process([*command, "--out", str(folder)])
    if ended.code != 0:
        raise RuntimeError(f"gradnas {' '.join(command)} ended with {ended.code}: {ended.err}")
    return ended


def summary(chains: dict[str, list[Any]], told: list[str]) -> dict[str, Any]:
    """The figures of one kind of run."""
    all_chains = [chain for named in chains.values() for chain in named]
    kills = [kill for chain in all_chains for kill in chain.kills]
    lost = [kill["lost_steps"] for kill in kills]
    faults = [fault for chain in all_chains for fault in chain.faults]
    return {
        "kills": len(kills),
        "timed": sum(kill["kind"] == "timed" for kill in kills),
        "aimed": dict(Counter(kill["at"] for kill in kills if kill["kind"] == "aimed")),
        "runs": len(all_chains),
        "resumes": sum(chain.resumes for chain in all_chains),
        "differences": len(told) - len(faults),
        "faults": len(faults),
        "told": told,
        "lost_steps": {"median": statistics.median(lost), "max": max(lost), "each": lost},
        "steps_since_checkpoint": [kill.get("steps_since_checkpoint", 0) for kill in kills],
        "kills_by_case": {name: sum(len(chain.kills) for chain in named) for name, named in chains.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
