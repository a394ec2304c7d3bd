"""Predicted peak memory beside what a fresh process really takes: every strategy, fused and plain, and retraining.

    python benchmarks/memory.py [--out benchmarks/results/memory.json] [--only darts-2-plain …]

Measured is the growth of the peak resident set (VmHWM) of a process of its own from before the phase to its end: twice,
as it is, and with MALLOC_MMAP_THRESHOLD_=131072, with which malloc gives memory back as soon as a tensor is freed
("exact"). Beside tensors it holds the scratch memory of oneDNN. Predicted are tensors alone, from tiny batches. Needs
Linux. The phase is one step in each of two epochs and an evaluation of as many images, on noise.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import torch

from gradnas import __version__
from gradnas.config import STRATEGIES, ComponentConf, DataConf, RetrainConf, RunConf, SearchConf
from gradnas.costs import AvailableMemory
from gradnas.data import Augmentation, DataFacts, DataSource, ImageSet, Normalization
from gradnas.pipeline import RunContext, Searcher, prepare
from gradnas.pipeline.plan import plan_phases
from gradnas.pipeline.random_searcher import RandomSearcher
from gradnas.strategies import RandomSearch

SPACE = {"channels": 16, "cells": 3, "nodes": 2, "reductions": 1}
BATCH = 48
MIB = 2**20


def cases() -> dict[str, RunConf]:
    found = {}
    for name in STRATEGIES:
        for options in [{"order": 1}, {"order": 2}] if name == "darts" else [{}]:
            for fused in (True, False):
                label = "-".join([name, *map(str, options.values()), "fused" if fused else "plain"])
                search = SearchConf(
                    epochs=2, batch_size=BATCH, eval_batch_size=BATCH, max_steps_per_epoch=1, fused=fused
                )
                strategy = ComponentConf(
                    name=name, options={"samples": 1, "epochs": 2} if name == "random" else options
                )
                found[label] = RunConf(space=ComponentConf(options=SPACE), strategy=strategy, search=search)
    del found["random-plain"]  # a network has one execution
    retrain = RetrainConf(epochs=2, batch_size=BATCH, eval_batch_size=BATCH, max_steps_per_epoch=1, cells=8)
    found["retrain"] = RunConf(space=ComponentConf(options=SPACE), retrain=retrain)
    return {
        label: RunConf(**{**vars(conf), "data": DataConf(source=None), "device": "cpu"})
        for label, conf in found.items()
    }


def noise() -> DataSource:
    def images(n: int) -> ImageSet:
        pixels = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8)
        return ImageSet(images=pixels, labels=torch.arange(n) % 10, classes=tuple("0123456789"))

    train = images(4 * BATCH)
    return DataSource(
        name="noise",
        train=train,
        test=images(2 * BATCH),
        augmentation=Augmentation(crop_padding=4, flip=True),
        normalization=Normalization.of(train),
    )


def resident(field: str) -> int:
    return int(re.search(rf"{field}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]


def one(label: str, measure: bool) -> dict[str, float]:
    """In a process of its own: the prediction, or the measurement."""
    torch.set_num_threads(1)
    conf, data = cases()[label], noise()
    experiment = prepare(conf, RunContext(data=data))
    phase = "retrain" if label == "retrain" else "search"
    member = RandomSearcher(experiment.context, RandomSearch(samples=1)).members(experiment.space)[0]
    if not measure:
        planned = next(iter(plan_phases(experiment, DataFacts.of(data), AvailableMemory(None, ""), member, only=phase)))
        return {"predicted_mib": (planned.peak_bytes - planned.data_bytes) / MIB}
    torch.nn.functional.conv2d(torch.ones(2, 3, 8, 8), torch.ones(4, 3, 3, 3)).sum()  # oneDNN is loaded
    torch.optim.SGD([torch.zeros(1)], lr=0.1)  # and the rest of torch
    start = resident("VmRSS")
    if phase == "search":
        experiment.search()
    else:
        grown = experiment.space.grow(
            member, channels=conf.retrain.channels, cells=conf.retrain.cells, nodes=SPACE["nodes"], aux_weight=0.0
        )
        Searcher(experiment.context, phase="retrain").train_model_desc(grown, conf.retrain)
    return {"measured_mib": (resident("VmHWM") - start) / MIB}


def child(label: str, what: str, **environment: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", label, what]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "memory.json")
    parser.add_argument("--only", nargs="*", choices=list(cases()), help="Some cases only; the file keeps the others.")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(one(args.child[0], args.child[1] == "measure")))
        return
    known = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    rows = {row["case"]: row for row in known}
    for label in args.only or cases():
        exact = child(label, "measure", MALLOC_MMAP_THRESHOLD_="131072")["measured_mib"]
        row = {"case": label, **child(label, "predict"), "exact_mib": exact, **child(label, "measure")}
        row["predicted_over_exact"] = row["predicted_mib"] / exact
        row["measured_over_predicted"] = row["measured_mib"] / row["predicted_mib"]
        rows[label] = {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        print(
            f"{label:18} predicted {row['predicted_mib']:5.0f} MiB, exact {exact:5.0f} "
            f"({row['predicted_over_exact']:.2f}), as it is {row['measured_mib']:5.0f} "
            f"({row['measured_over_predicted']:.2f})",
            flush=True,
        )
        ratios = [row["predicted_over_exact"] for row in rows.values()]
        document = {
            "command": "python benchmarks/memory.py",
            "machine": {"cpu": cpu(), "threads": 1, "system": platform.system()},
            "versions": {"gradnas": __version__, "torch": torch.__version__, "python": platform.python_version()},
            "n": 1,
            "batch": BATCH,
            "image": [3, 32, 32],
            "space": SPACE,
            "predicted_over_exact": [min(ratios), max(ratios)],
            "measured_over_predicted": max(row["measured_over_predicted"] for row in rows.values()),
            "rows": [rows[label] for label in cases() if label in rows],
        }
        args.out.write_text(json.dumps(document, indent=1) + "\n")


def cpu() -> str:
    names = re.findall(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
