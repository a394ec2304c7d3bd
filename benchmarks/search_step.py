"""Time, memory and arithmetic rate of a search step: fused against plain against the way other libraries do it.

    python benchmarks/search_step.py [--batches 8 16] [--repeats 5] [--strategies darts-1 gdas …] [--device cpu]

A step is an architecture step and a weight step with their optimizers. Each execution is a process of its own; their
steps alternate, so a drift of the machine's speed favours none, and ratios are those of one repeat. The yardstick is
DARTS edge by edge in contiguous memory, in first order with every gradient in both passes, in second order as its
released code; without optimizers (``_yardstick.py``). The rate counts the arithmetic that the passes of the strategy
need, whoever runs them; beside it stands the rate of a large matrix product on the same machine.

Writes ``benchmarks/results/search_step_<device>.json`` with machine, versions, n and spread.
"""

import argparse
import time
from typing import Any

import torch
from _steps import STRATEGIES, Worker, machine, matmul_rate, parser, spread, step_gflop, write_result

from gradnas.data import Augmentation, BatchLoader, ImageSet, Normalization


def executions(strategy: str, device: str) -> list[str]:
    ours = ["plain", "fused", *(["fused-bfloat16"] if device.startswith("cuda") else [])]
    return ["yardstick", *ours] if strategy in ("darts-1", "darts-2") else ours


def measure(strategy: str, args: argparse.Namespace) -> dict[str, Any]:
    workers = {name: Worker(name, strategy, args) for name in executions(strategy, args.device)}
    if strategy != "darts-1":
        workers["darts"] = Worker("fused", "darts-1", args)  # beside each strategy, so that the ratio is of one run
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for repeat in range(args.repeats + 2):
        for name, worker in workers.items():
            elapsed = worker.run()
            if repeat >= 2:  # the first ones warm up
                seconds[name].append(elapsed)
    memory = {name: worker.peak_memory() for name, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    gflop = step_gflop(STRATEGIES[strategy](), args)
    rows = {}
    for name, own in seconds.items():
        rows[name] = {
            "seconds": spread(own),
            "gflop_per_s": gflop / spread(own)["median"],
            "peak_memory_mib": memory[name],
            **{
                f"{other}_over_this": spread([a / b for a, b in zip(seconds[other], own, strict=True)])
                for other in ("yardstick", "plain", "darts")
                if other in seconds and other != name
            },
        }
    rows.pop("darts", None)
    of_data = loading_seconds(args) / spread(seconds["fused"])["median"]
    return {"gflop": gflop, "data_share_of_fused_step": of_data, "executions": rows}


def loading_seconds(args: argparse.Namespace) -> float:
    """Seconds that the two batches of a step take to make: gather, crop, flip, normalize."""
    images = torch.randint(0, 256, (5000, 3, args.image, args.image), dtype=torch.uint8)
    labels = torch.randint(0, 10, (5000,))
    data = ImageSet(images=images, labels=labels, classes=tuple("0123456789"))
    normalization = Normalization(mean=(0.5,) * 3, std=(0.25,) * 3)
    augmentation = Augmentation(crop_padding=4, flip=True)
    loader = BatchLoader(
        data,
        batch_size=args.batch,
        normalization=normalization,
        augmentation=augmentation,
        seed=0,
        purpose="bench",
        shuffle=True,
        device=args.device,
    )
    start = time.perf_counter()
    count = min(100, len(loader))
    for index in range(count):
        x, _ = loader.batch(0, index)
    float(x.sum())
    return 2 * (time.perf_counter() - start) / count


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batches", type=int, nargs="+", default=[16])
    options.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    args = options.parse_args()
    rate = matmul_rate(args.device)
    rows = []
    for batch in args.batches:
        args.batch = batch
        rows += [{"strategy": name, "batch": batch, **measure(name, args)} for name in args.strategies]
    settings = {key: value for key, value in vars(args).items() if key != "batch"}
    result = {
        "what": "one search step of the DARTS space",
        "settings": settings,
        "n": args.repeats,
        "matmul_gflop_per_s": rate,
        "rows": rows,
        "bar": "batch 16: darts-1 yardstick / fused at least 5; darts-2 plain / fused at least 5; memory not above",
        "machine": machine(),
    }
    target = write_result(f"search_step_{args.device.split(':')[0]}", result)
    print_table(result)
    print(f"-> {target}")


def print_table(result: dict[str, Any]) -> None:
    """The table of the performance page."""
    used = result["machine"]
    print(
        f"{used['gpu'] or used['processor']}, {used['threads']} threads, torch {torch.__version__}, n={result['n']}\n"
    )
    print(
        "| strategy | batch | execution | s/step | yardstick / this | plain / this | fused DARTS / this | peak MiB "
        "| GFLOP/s (share) |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in result["rows"]:
        for name, own in row["executions"].items():
            ratios = [
                f"{own[key]['median']:.2f} ({own[key]['min']:.2f} to {own[key]['max']:.2f})" if key in own else ""
                for key in ("yardstick_over_this", "plain_over_this", "darts_over_this")
            ]
            share = own["gflop_per_s"] / result["matmul_gflop_per_s"]
            cost = f"{own['peak_memory_mib']:.0f} | {own['gflop_per_s']:.0f} ({100 * share:.0f} %)"
            head = f"{row['strategy']} | {row['batch']} | {name} | {own['seconds']['median']:.3f}"
            print(f"| {head} | {' | '.join(ratios)} | {cost} |")
        print(f"| | | data of a fused step | {100 * row['data_share_of_fused_step']:.2f} % of it | | | | | |")


if __name__ == "__main__":
    main()
