"""How time and memory of a fused search step grow with its sizes, each beside the growth of its arithmetic.

    python benchmarks/scaling.py [--repeats 3] [--device cpu]

From a small search (8 channels, 5 cells, 3 nodes, 16×16, batch 8) one size at a time is changed. The growth of time and
memory is the ratio to the start, measured in turn in one run; that of the arithmetic is counted.
A step that grows slower than its arithmetic was bound by overhead before; one that grows faster meets a limit, such as
the cache. Writes ``benchmarks/results/scaling_<device>.json``.
"""

import argparse
from typing import Any

import torch
from _steps import Worker, machine, parser, spread, step_gflop, write_result

from gradnas.arch import DARTS_PRIMITIVES
from gradnas.strategies import Darts

START = {"channels": 8, "cells": 5, "nodes": 3, "image": 16, "batch": 8, "primitives": list(DARTS_PRIMITIVES)}
CHANGES: dict[str, list[Any]] = {
    "cells": [8, 11],
    "channels": [16, 32],
    "nodes": [2, 4, 5],
    "primitives": [["skip_connect", "sep_conv_3x3"], ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"]],
    "batch": [16, 32],
    "image": [32],
}


def variant(args: argparse.Namespace, **changes: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(args), **START, **changes})


def compare(first: Worker, args: argparse.Namespace, start: dict[str, float]) -> dict[str, Any]:
    """The changed step against the start, timed in turn."""
    changed = Worker("fused", "darts-1", args)
    ratios, seconds = [], []
    for repeat in range(args.repeats + 2):
        before, after = first.run(), changed.run()
        if repeat >= 2:  # the first ones warm up
            ratios.append(after / before)
            seconds.append(after)
    memory, gflop = changed.peak_memory(), step_gflop(Darts(), args)
    changed.close()
    return {
        "seconds": spread(seconds),
        "time_grows": spread(ratios),
        "peak_memory_mib": memory,
        "memory_grows": memory / start["peak_memory_mib"],
        "arithmetic_grows": gflop / start["gflop"],
    }


def main() -> None:
    args = parser(__doc__).parse_args()
    first = Worker("fused", "darts-1", variant(args))
    first.run()
    first.run()
    start = {"peak_memory_mib": first.peak_memory(), "gflop": step_gflop(Darts(), variant(args))}
    rows = []
    print("| size | from | to | time | memory | arithmetic |\n|---|---|---|---|---|---|")
    for name, values in CHANGES.items():
        for value in values:
            changed = compare(first, variant(args, **{name: value}), start)
            rows.append({"size": name, "from": START[name], "to": value, **changed})
            label = "candidates" if name == "primitives" else name
            old, new = (len(v) if isinstance(v, list) else v for v in (START[name], value))
            time, memory, arithmetic = (changed[f"{what}_grows"] for what in ("time", "memory", "arithmetic"))
            times = f"{time['median']:.2f} ({time['min']:.2f} to {time['max']:.2f})"
            print(f"| {label} | {old} | {new} | {times} | {memory:.2f} | {arithmetic:.2f} |", flush=True)
    first.close()
    result = {
        "what": "growth of a fused first-order DARTS step",
        "start": {**START, **start},
        "n": args.repeats,
        "rows": rows,
        "machine": machine(),
    }
    target = write_result("scaling_" + args.device.split(":")[0], result)
    print(f"torch {torch.__version__} -> {target}")


if __name__ == "__main__":
    main()
