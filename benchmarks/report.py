"""Size of a report and the time to write it, for searches of 50 epochs in spaces like that of DARTS.

    python benchmarks/report.py [--epochs 50] [--repeats 5]

Writes ``benchmarks/results/report.json``, a result for each case: the DARTS space (4 nodes, 14 edges with 8 candidates,
2 cell types), the same with 7 nodes (35 edges), and the DARTS space searched by a strategy that wipes out candidates.
The folder is that of a whole run: an untrained supergraph whose architecture parameters walk at random from epoch to
epoch and are described and finalized as those of a search are, so that the would-be cells change in nearly every epoch;
logs of search, retraining and baseline; the matrix of a test with 10 classes. Where candidates are wiped out, that
befalls each at an epoch drawn at random, but for the first of each edge. Each repeat writes the page in a new process;
``seconds`` is the writing itself, ``seconds_with_imports`` the whole process. Other programs may run meanwhile;
``load`` is the load of the machine at the start and in the end.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _steps import machine, spread, write_result

import gradnas as gn
from gradnas.config import load_preset, to_yaml
from gradnas.finalizers import Finalizers
from gradnas.pipeline.diagnostics import describe_alphas, would_be
from gradnas.pipeline.run_folder import environment

WRITE = """
import json, sys, time
from gradnas.report import write_report
start = time.perf_counter()
write_report(sys.argv[1])
print(json.dumps(time.perf_counter() - start))
"""
CASES: dict[str, dict[str, Any]] = {
    "4 nodes": {"nodes": 4, "wipe_out": False},
    "7 nodes": {"nodes": 7, "wipe_out": False},
    "4 nodes, wipe-out": {"nodes": 4, "wipe_out": True},
}
BAR = {"bytes": 3_000_000, "seconds": 5.0}


def make_run(folder: Path, epochs: int, *, nodes: int = 4, wipe_out: bool = False) -> None:
    """What a run of ``epochs`` epochs leaves, by the functions of the pipeline."""
    torch.manual_seed(0)
    space = gn.spaces.DartsSpace(channels=16, cells=8, nodes=nodes)
    model = gn.supergraph.Model(space.build(), droppath=False, affine=False)
    found = would_be(model, Finalizers())
    lines: list[dict[str, Any]] = []
    chance = random.Random(0)
    for epoch in range(epochs):
        with torch.no_grad():
            for alphas in model.all_owned().param_by_kind("alphas"):
                alphas += 0.15 * torch.randn_like(alphas)
        found = would_be(model, Finalizers())
        lines.append({"epoch": epoch, **describe_alphas(model, found), "discretization_drop": 20.0 + epoch})
    if wipe_out:
        for kind, cell in lines[0]["cells"].items():
            falls = [[epochs] + [chance.randrange(1, 2 * epochs) for _ in row[1:]] for row in cell["weights"]]
            for line in lines:
                wipe(line["cells"][kind], falls, line["epoch"])
    write_lines(folder / "alphas.jsonl", lines)
    found.save(folder / "arch.json")
    full = space.grow(found, channels=36, cells=20)
    full.save(folder / "full_arch.json")
    (folder / "baseline").mkdir()
    found.save(folder / "baseline" / "arch.json")
    phases = {"search": epochs, "retrain": 600, "baseline_search_0": epochs, "baseline_retrain": 600}
    metrics = [
        {
            "phase": phase,
            "epoch": epoch,
            **{
                split: {"loss": 2 / (1 + epoch), "top1": 99 * epoch / total, "top5": 99.9} for split in ("train", "val")
            },
            "seconds": 100.0,
        }
        for phase, total in phases.items()
        for epoch in range(total)
    ]
    write_lines(folder / "metrics.jsonl", metrics)
    (folder / "config.yaml").write_text(to_yaml(load_preset("darts-cifar10")), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(environment()), encoding="utf-8")
    confusion = [[91 if row == column else 1 for column in range(10)] for row in range(10)]
    summary = {"dataset": "cifar10", "classes": [f"class {k}" for k in range(10)], "confusion": confusion}
    accuracy = {"test_accuracy": 91.0, "n_test": 1000, "random_baseline_accuracy": 90.0, "retrain_seconds": 1.0}
    (folder / "summary.json").write_text(json.dumps({**summary, **accuracy}), encoding="utf-8")


def wipe(cell: dict[str, Any], falls: list[list[int]], epoch: int) -> None:
    """Leave a cell of a record with the candidates that have not fallen by an epoch."""
    cell["survivors"] = [[fall > epoch for fall in row] for row in falls]
    for row, alive in zip(cell["weights"], cell["survivors"], strict=True):
        left = sum(weight for weight, lives in zip(row, alive, strict=True) if lives)
        row[:] = [weight / left if lives else 0.0 for weight, lives in zip(row, alive, strict=True)]


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--epochs", type=int, default=50)
    options.add_argument("--repeats", type=int, default=5)
    args = options.parse_args()
    before = os.getloadavg()
    cases = {name: measured(args.epochs, args.repeats, case) for name, case in CASES.items()}
    result = {
        "what": "writing report.html of a run in the DARTS space: 8 candidates on each edge of 2 cell types",
        "settings": vars(args),
        "n": args.repeats,
        "cases": cases,
        "bar": BAR,
        "within_bar": all(case["within_bar"] for case in cases.values()),
        "load": {"before": before, "after": os.getloadavg()},
        "note": "other programs ran on the same machine meanwhile: the seconds are upper bounds",
        "machine": machine(),
    }
    target = write_result("report", result)
    used = result["machine"]
    print(f"{used['processor']}, {used['threads']} threads, n={args.repeats}, {args.epochs} epochs")
    for name, case in cases.items():
        times = (
            f"{case['seconds']['median']:.2f} s to write, {case['seconds_with_imports']['median']:.2f} s with imports"
        )
        print(f"{name}: {times}; {case['bytes'] / 1e6:.2f} MB, {case['bytes_compressed'] / 1e6:.2f} MB compressed")
    print(f"-> {target}")


def measured(epochs: int, repeats: int, case: dict[str, Any]) -> dict[str, Any]:
    """Size and seconds of one case."""
    seconds, whole = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_run(folder, epochs, **case)
        for _ in range(repeats):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", WRITE, folder], capture_output=True, text=True, check=True)
            whole.append(time.perf_counter() - start)
            seconds.append(float(json.loads(done.stdout)))
        page = (folder / "report.html").read_bytes()
    return {
        "seconds": spread(seconds),
        "seconds_with_imports": spread(whole),
        "bytes": len(page),
        "bytes_compressed": len(gzip.compress(page, mtime=0)),
        "would_be_cells": page.count(b'<div class="frame"'),
        "within_bar": len(page) < BAR["bytes"] and spread(seconds)["median"] < BAR["seconds"],
    }


if __name__ == "__main__":
    main()
