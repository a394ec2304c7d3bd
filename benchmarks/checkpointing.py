"""What saving costs, and how soon a resumed run goes on.

    python benchmarks/checkpointing.py [--repeats 5] [--epochs 5]

Writes ``benchmarks/results/checkpointing.json``. *Small*: the search of the ``demo`` preset on digits at its own
settings; the time spent in checkpoints (state gathered, serialized, checksum, flush to the disk) and in lines of the
logs, as a share of the whole training. *Large*: the DARTS supergraph for 32×32 images (8 cells, 16 channels, 4 nodes,
batch 64) on this machine: seconds of a checkpoint, of a search step and thus of an epoch on half of CIFAR-10; the
share at the default interval and after each epoch. The bar is 2 %. *Resume*: a search of the ``demo`` preset is stopped
in its first epoch; seconds from the start of ``gradnas resume`` to the end of its first step, and without the imports
of gradnas. The bar is 5 s. About four minutes on one core, which nothing else should use meanwhile.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from _steps import OneStep, machine, parser, spread, write_result

import gradnas as gn
from gradnas.config import BaselineConf, RetrainConf, RunConf, load_preset
from gradnas.pipeline import RunFolder
from gradnas.strategies import Darts
from gradnas.training import CheckPoint, TrainConf, Trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "faults"))

import harness

BAR = {"share": 0.02, "resume_seconds": 5.0}
EPOCH_IMAGES = 25_000  # half of CIFAR-10 trains the weights


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--epochs", type=int, default=5, help="of the small search")
    args = options.parse_args()
    before = os.getloadavg()
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        small_search = small(base, args.repeats, args.epochs)
        large_search = large(base, args.repeats)
        resumed = resume(base, args.repeats)
    within = {
        "small": small_search["share"]["median"] < BAR["share"],
        "large": max(large_search["share_by_time"], large_search["share_by_epoch"]) < BAR["share"],
        "resume": resumed["seconds"]["median"] < BAR["resume_seconds"],
    }
    result = {
        "what": "time spent in checkpoints and logs as a share of a search, and time until a resumed run goes on",
        "settings": vars(args),
        "n": args.repeats,
        "bar": BAR,
        "small": small_search,
        "large": large_search,
        "resume": resumed,
        "within_bar": within,
        "load": {"before": before, "after": os.getloadavg()},
        "machine": machine(),
    }
    target = write_result("checkpointing", result)
    print(f"{result['machine']['processor']}, {result['machine']['threads']} threads, n={args.repeats}")
    print(
        f"small: {percent(small_search['share']['median'])} of the search in checkpoints and logs, "
        f"{percent(small_search['checkpoint_share']['median'])} in checkpoints alone"
    )
    print(
        f"large: {large_search['checkpoint_seconds']['median']:.2f} s for {large_search['bytes'] / 1e6:.0f} MB; "
        f"{percent(large_search['share_by_time'])} every {large_search['interval_seconds']:.0f} s, "
        f"{percent(large_search['share_by_epoch'])} each epoch"
    )
    print(
        f"resume: first step after {resumed['seconds']['median']:.2f} s, "
        f"{resumed['seconds_without_imports']['median']:.2f} s without imports"
    )
    print(f"-> {target}; within the bar: {within}")


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def demo(epochs: int) -> RunConf:
    """The search of the demo preset alone, at its own settings, for so many epochs."""
    conf = load_preset("demo")
    search = replace(conf.search, epochs=epochs)
    return replace(conf, search=search, retrain=RetrainConf(epochs=0), baseline=BaselineConf(samples=0), device="cpu")


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Within the block the seconds of training, checkpoints (their state included) and logs are added up."""
    places: list[tuple[type, str, str]] = [
        (Trainer, "fit", "training"),
        (Trainer, "_commit", "checkpoints"),
        (RunFolder, "append", "logs"),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for (owner, name, original), (_, _, what) in zip(originals, places, strict=True):
        setattr(owner, name, adding(original, spent, what))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def adding(call: Callable[..., Any], spent: dict[str, float], what: str) -> Callable[..., Any]:
    def measured(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            spent[what] += time.perf_counter() - start

    return measured


def small(base: Path, repeats: int, epochs: int) -> dict[str, Any]:
    """The share of checkpoints and logs in a search on digits, at the default interval and after each epoch."""
    runs: list[dict[str, float]] = []
    gn.run(demo(1), out=base / "warm-up", progress=False)
    for i in range(repeats):
        spent: dict[str, float] = defaultdict(float)
        with timed(spent):
            gn.run(demo(epochs), out=base / f"small {i}", progress=False)
        runs.append(spent)
    return {
        "share": spread([(run["checkpoints"] + run["logs"]) / run["training"] for run in runs]),
        "checkpoint_share": spread([run["checkpoints"] / run["training"] for run in runs]),
        "training_seconds": spread([run["training"] for run in runs]),
        "checkpoint_seconds_each": spread([run["checkpoints"] / epochs for run in runs]),
        "log_seconds_each_epoch": spread([run["logs"] / epochs for run in runs]),
        "bytes": (base / "small 0" / "checkpoints" / "search.pt").stat().st_size,
        "epochs": epochs,
    }


def large(base: Path, repeats: int) -> dict[str, Any]:
    """Seconds of a checkpoint and of an epoch of the DARTS supergraph on this machine."""
    args = parser(None).parse_args(["--batch", "64", "--device", "cpu"])
    step = OneStep(Darts(order=1), args)
    steps = [step.run() for _ in range(1 + repeats)][1:]
    checkpoint = CheckPoint(base / "large" / "search.pt")
    step.trainer.checkpoint = checkpoint
    seconds = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        step.trainer._commit()
        seconds.append(time.perf_counter() - start)
    each, epoch = spread(seconds[1:]), spread(steps)["median"] * (EPOCH_IMAGES // args.batch)
    interval = TrainConf().checkpoint_every_seconds
    return {
        "checkpoint_seconds": each,
        "bytes": checkpoint.path.stat().st_size,
        "step_seconds": spread(steps),
        "epoch_seconds": epoch,
        "interval_seconds": interval,
        "share_by_time": each["median"] / interval,
        "share_by_epoch": each["median"] / epoch,
    }


def resume(base: Path, repeats: int) -> dict[str, Any]:
    """Seconds from the start of a process to its first step, for a run that was stopped in its first epoch."""
    folder = base / "resume"
    command = ["search", "--preset", "demo", "--search.checkpoint_every_seconds", "0.1", "--out", str(folder)]
    stopped = harness.run_process(command, harness.Kill(event="step", number=8))
    if not stopped.steps:
        raise RuntimeError(f"the run did not begin: {stopped.err}")
    whole, own = [], []
    for _ in range(repeats):
        ended = harness.run_process(["resume", str(folder)], harness.Kill(event="step", delay=0.0))
        at = {event["event"]: event["at"] for event in reversed(ended.events)}
        whole.append(at["step"] - ended.begun)
        own.append(at["step"] - at["imported"])
    return {"seconds": spread(whole), "seconds_without_imports": spread(own)}


if __name__ == "__main__":
    main()
