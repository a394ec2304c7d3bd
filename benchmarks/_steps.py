"""One search step on random images, for the step benchmarks: a supergraph with its trainer, and what a result says."""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _yardstick import Yardstick
from torch.utils.flop_counter import FlopCounterMode

import gradnas as gn
from gradnas.arch import DARTS_PRIMITIVES
from gradnas.config import SearchConf
from gradnas.pipeline import ArchTrainer
from gradnas.pipeline.run_folder import environment
from gradnas.strategies import (
    Darts,
    DiDarts,
    DrNas,
    FairDarts,
    Gdas,
    MetaOptimizer,
    PcDarts,
    SearchSchedule,
    Snas,
    StabilizeConf,
    Xnas,
)


class OneStep:
    """A supergraph of the DARTS space with its trainer; :meth:`run` does one whole search step."""

    def __init__(
        self, strategy: MetaOptimizer, args: argparse.Namespace, *, fused: bool = True, precision: str = "float32"
    ) -> None:
        space = gn.spaces.DartsSpace(
            3, args.image, 10, channels=args.channels, cells=args.cells, nodes=args.nodes, primitives=args.primitives
        )
        torch.manual_seed(0)
        desc = strategy.supergraph(space.build())
        model = gn.supergraph.Model(desc, droppath=False, affine=False, fused=fused)
        self.model = model.to(device=args.device, memory_format=torch.channels_last)
        self.strategy = strategy
        stabilize = StabilizeConf(warmup_epochs=0)  # the architecture learns from the first step on
        conf = SearchConf(epochs=1, precision=precision)
        self.trainer = ArchTrainer(conf, self.model, strategy=strategy, stabilize=stabilize)
        self.trainer.multi_optim = self.trainer.create_multi_optim(self.trainer.ordinary_params())
        steps = 1_000_000  # far from the end of any schedule
        schedule = SearchSchedule(epochs=1, steps_per_epoch=steps, val_samples=steps * args.batch)
        optimizer = self.trainer.multi_optim[0].optimizer
        strategy.prepare(self.model, self.trainer._batch_loss, optimizer, schedule=schedule)
        strategy.new_epoch(0)
        self.sums = gn.training.ScoreSums(args.device)
        self.batches = [random_batch(args) for _ in range(2)]
        self.device: str = args.device

    def run(self) -> float:
        """One step; returns wall-clock seconds."""
        start = time.perf_counter()
        self.strategy.step(self.batches[0], self.batches[1])
        self.trainer._weight_step(*self.batches[0], self.sums)
        synchronize(self.device)
        return time.perf_counter() - start


class YardstickStep:
    """The same for the yardstick: its step has no optimizers, which is in its favour."""

    def __init__(self, args: argparse.Namespace, *, unrolled: bool) -> None:
        torch.manual_seed(0)
        self.unrolled = unrolled
        self.model = Yardstick(args.channels, args.cells, args.nodes).to(args.device)
        self.batches = [(x.contiguous(), y) for x, y in (random_batch(args) for _ in range(2))]
        self.device: str = args.device

    def run(self) -> float:
        """One step; returns wall-clock seconds."""
        start = time.perf_counter()
        (self.model.unrolled_step if self.unrolled else self.model.step)(*self.batches)
        synchronize(self.device)
        return time.perf_counter() - start


STRATEGIES = {
    "darts-1": lambda: Darts(order=1),
    "darts-2": lambda: Darts(order=2),
    "xnas": Xnas,
    "didarts": DiDarts,
    "snas": Snas,
    "gdas": Gdas,
    "drnas": DrNas,
    "pcdarts": PcDarts,
    "fairdarts": FairDarts,
}


def create(execution: str, strategy: str, args: argparse.Namespace) -> OneStep | YardstickStep:
    """The step of an execution: yardstick, plain, fused or fused-bfloat16."""
    if execution == "yardstick":
        return YardstickStep(args, unrolled=strategy == "darts-2")
    made: MetaOptimizer = STRATEGIES[strategy]()
    precision = "bfloat16" if execution.endswith("bfloat16") else "float32"
    return OneStep(made, args, fused=execution.startswith("fused"), precision=precision)


class Worker:
    """An execution in a process of its own, so that none finds the memory as another has left it.

    Steps of several workers alternate; a worker that waits uses no processor.
    """

    def __init__(self, execution: str, strategy: str, args: argparse.Namespace) -> None:
        wanted = json.dumps({**vars(args), "execution": execution, "strategy": strategy})
        self._process = subprocess.Popen(
            [sys.executable, __file__, wanted], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self) -> float:
        """One step; returns its seconds."""
        return self._ask("step")

    def peak_memory(self) -> float:
        """MiB that the steps so far needed beyond the loaded library."""
        return self._ask("memory")

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, what: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(what, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


def serve(wanted: dict[str, Any]) -> None:
    """What a worker runs: answers the questions of :class:`Worker`."""
    args = argparse.Namespace(**wanted)
    on_gpu = args.device.startswith("cuda")
    random_batch(args)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark, which importing has set
    step = create(args.execution, args.strategy, args)
    for question in sys.stdin:
        if question.strip() == "step":
            print(step.run(), flush=True)
        else:
            print(torch.cuda.max_memory_allocated() / 2**20 if on_gpu else resident("VmHWM") - before, flush=True)


def resident(which: str) -> float:
    """MiB of this process in memory, now (``VmRSS``) or at most (``VmHWM``); Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) / 1024


def random_batch(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, channels_last, and targets."""
    x = torch.randn(args.batch, 3, args.image, args.image, device=args.device)
    return x.contiguous(memory_format=torch.channels_last), torch.randint(10, (args.batch,), device=args.device)


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def step_gflop(strategy: MetaOptimizer, args: argparse.Namespace) -> float:
    """Arithmetic of a step: that of a forward pass, counted, times the passes that the strategy says it takes."""
    model = OneStep(strategy, args, fused=False).model
    model.set_mixing_rule(gn.supergraph.Softmax())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(random_batch(args)[0])
    # A sparse rule would leave candidates out of the counted pass, which forward_equivalents leaves out as well.
    return strategy.forward_equivalents(len(args.primitives)) * counter.get_total_flops() / 1e9


def matmul_rate(device: str) -> float:
    """GFLOP/s of a large matrix product on this device, the best of ten."""
    n = 2048 if device == "cpu" else 8192
    a = torch.randn(n, n, device=device)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best / 1e9


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every step benchmark has."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--channels", type=int, default=16)
    options.add_argument("--cells", type=int, default=8)
    options.add_argument("--image", type=int, default=32)
    options.add_argument("--nodes", type=int, default=4)
    options.add_argument("--primitives", nargs="+", default=list(DARTS_PRIMITIVES))
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return options


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine() -> dict[str, Any]:
    """What ran the benchmark."""
    facts = environment()
    kept = {key: facts[key] for key in ("processor", "threads", "gpu", "packages", "python")}
    return {**kept, "system": platform.system()}


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write ``results/<name>.json`` beside the benchmarks."""
    target = Path(__file__).parent / "results" / f"{name}.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return target


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
