"""Time of one DARTS search step (architecture step plus weight step), first and second order, in one run.

    python benchmarks/search_step.py [--batch 16] [--channels 16] [--cells 8] [--repeats 5] [--device cpu]

Prints medians and their ratio, and writes ``benchmarks/results/search_step_<device>.json`` with machine, versions, n
and spread. Steps of the two orders alternate, so a drift of the machine's speed does not favour either.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

import gradnas as gn
from gradnas.config import SearchConf
from gradnas.pipeline import ArchTrainer
from gradnas.pipeline.run_folder import environment


class OneStep:
    """A supergraph with its trainer; :meth:`run` does one whole search step."""

    def __init__(self, order: int, args: argparse.Namespace) -> None:
        space = gn.spaces.DartsSpace(3, args.image, 10, channels=args.channels, cells=args.cells)
        torch.manual_seed(0)
        model = gn.supergraph.Model(space.build(), droppath=False, affine=False)
        model = model.to(device=args.device, memory_format=torch.channels_last)
        self.trainer = ArchTrainer(SearchConf(epochs=1), model, strategy=gn.strategies.Darts(order=order))
        self.trainer.multi_optim = self.trainer.create_multi_optim(self.trainer.ordinary_params())
        optimizer = self.trainer.multi_optim[0].optimizer
        self.trainer.strategy.prepare(model, self.trainer._batch_loss, optimizer)
        self.sums = gn.training.ScoreSums(args.device)
        self.batches = [self._batch(args) for _ in range(2)]

    def _batch(self, args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(args.batch, 3, args.image, args.image, device=args.device)
        return x.contiguous(memory_format=torch.channels_last), torch.randint(10, (args.batch,), device=args.device)

    def run(self, device: str) -> float:
        """One step; returns wall-clock seconds."""
        start = time.perf_counter()
        self.trainer.strategy.step(self.batches[0], self.batches[1])
        self.trainer._weight_step(*self.batches[0], self.sums)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--image", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    steps = {order: OneStep(order, args) for order in (1, 2)}
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(args.repeats + 1):
        for order, step in steps.items():
            elapsed = step.run(args.device)
            if repeat > 0:  # the first one warms up
                seconds[order].append(elapsed)
    ratios = [b / a for a, b in zip(seconds[1], seconds[2], strict=True)]
    median = {order: statistics.median(values) for order, values in seconds.items()}
    result = {
        "what": "one DARTS search step in seconds, plain execution",
        "settings": vars(args),
        "n": args.repeats,
        "order_1": {"median_s": median[1], "min_s": min(seconds[1]), "max_s": max(seconds[1])},
        "order_2": {"median_s": median[2], "min_s": min(seconds[2]), "max_s": max(seconds[2])},
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "bar": "order 2 costs at most 2.6 times order 1",
        "machine": {key: environment()[key] for key in ("processor", "threads", "gpu", "packages", "python")},
        "system": platform.system(),
    }
    target = Path(__file__).parent / "results" / f"search_step_{args.device.split(':')[0]}.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    machine = result["machine"]
    print(f"{machine['gpu'] or machine['processor']}, {machine['threads']} threads, torch {torch.__version__}")
    print(f"order 1  {median[1]:7.3f} s/step   order 2  {median[2]:7.3f} s/step   n={args.repeats}")
    print(f"ratio    {statistics.median(ratios):7.2f}   ({min(ratios):.2f} to {max(ratios):.2f})   -> {target}")


if __name__ == "__main__":
    main()
