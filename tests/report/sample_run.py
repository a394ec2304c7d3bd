"""A run folder as the pipeline leaves it, with invented but plausible numbers."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradnas.arch import DARTS_PRIMITIVES, PUBLISHED, CellType, Genotype, ModelDesc, concat_ids
from gradnas.spaces import DartsSpace

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
EDGES = [[node, source] for node in range(4) for source in range(node + 2)]
STEPS, BATCH, SPREAD = 20, 64, 0.4  # of the game of XNAS: steps per epoch, images, standard deviation of a reward


def make_run(
    folder: Path,
    *,
    retrained: bool = True,
    genotype: str = "DARTS_V2",
    epochs: int = 50,
    strategy: str = "darts",
    bound: float = 1.0,
) -> Path:
    """Write the files; without ``retrained`` only what a search leaves. ``bound`` limits the rewards of ``xnas``."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    space = DartsSpace(channels=16, cells=8)
    found = space.from_genotype(PUBLISHED[genotype])
    found.save(folder / "arch.json")
    settings = "order: 2" if strategy == "darts" else f"bound: {bound}"
    (folder / "config.yaml").write_text(
        f"space:\n  name: darts\n  channels: 16\nstrategy:\n  name: {strategy}\n  {settings}\n"
    )
    environment = {
        "command": f"gradnas run --preset {strategy}-cifar10 --seed 0 --out runs/{strategy}",
        "gradnas": "0.1.0",
        "torch": "2.6.0",
        "python": "3.11.9",
        "gpu": "NVIDIA H200",
        "processor": "Intel Xeon Platinum 8480+",
        "n_gpus": 1,
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    metrics = _curve("search", epochs, 62.0, 89.0, chance)
    if strategy == "xnas":
        _write_experts(folder, epochs, PUBLISHED[genotype], bound, found)
    else:
        _write_mixtures(folder, epochs, PUBLISHED[genotype], chance, found)
    summary: dict[str, object] = {
        "arch_hash": found.hash(),
        "genotype": str(PUBLISHED[genotype]),
        "search_seconds": 8123.4,
        "seed": 0,
        "dataset": "CIFAR-10",
        "strategy": strategy,
        "space": "darts",
        "classes": CLASSES,
    }
    if retrained:
        full = space.from_genotype(PUBLISHED[genotype], channels=36, cells=20, aux_weight=0.4)
        full.save(folder / "full_arch.json")
        (folder / "baseline").mkdir(exist_ok=True)
        space.from_genotype(PUBLISHED["PNASNet"]).save(folder / "baseline" / "arch.json")
        metrics += _curve("retrain", 4 * epochs, 90.0, 97.1, chance)
        metrics.append(_line("retrain", 4 * epochs, test={"loss": 0.104, "top1": 97.21, "top5": 99.9}))
        metrics += _curve("baseline_retrain", 4 * epochs, 89.0, 96.5, chance)
        metrics.append(_line("baseline_retrain", 4 * epochs, test={"loss": 0.131, "top1": 96.58}))
        summary |= {
            "test_accuracy": 97.21,
            "test_accuracy_ci95": [96.87, 97.52],
            "random_baseline_accuracy": 96.58,
            "params": 3_349_342,
            "macs": 530_000_000,
            "retrain_seconds": 71234.0,
            "n_test": 10_000,
            "confusion": _confusion(chance),
        }
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def _line(phase: str, epoch: int, **values: object) -> dict[str, object]:
    return {
        "phase": phase,
        "epoch": epoch,
        "train": None,
        "val": None,
        "test": None,
        "lr": None,
        "seconds": 1.5,
    } | values


def _curve(phase: str, epochs: int, start: float, end: float, chance: random.Random) -> list[dict[str, object]]:
    lines = []
    for epoch in range(epochs):
        done = 1 - math.exp(-4 * epoch / epochs)
        top1 = start - 25 + (end - start + 25) * done + chance.gauss(0, 0.6)
        train = {"loss": 1.9 * (1 - done) + 0.12 + abs(chance.gauss(0, 0.01)), "top1": min(99.9, top1 + 2.0 * done)}
        val = {"loss": 1.8 * (1 - done) + 0.2 + abs(chance.gauss(0, 0.03)), "top1": top1, "top5": 99.0}
        lr = 0.025 * (1 + math.cos(math.pi * epoch / epochs)) / 2
        lines.append(_line(phase, epoch, train=train, val=val, lr=lr, seconds=162.0))
    return lines


def _would_be(weights: list[list[float]], kind: str, desc: ModelDesc) -> dict[str, Any]:
    """The rule of DARTS by hand: of each edge the strongest operation but ``none``, of each node the two best edges."""
    alike = desc.first_cell(CellType(kind))
    assert alike is not None
    best = [max(range(len(DARTS_PRIMITIVES) - 1), key=lambda op: row[op]) for row in weights]
    nodes = []
    for node in range(4):
        edges = [e for e, (reader, _) in enumerate(EDGES) if reader == node]
        two = sorted(edges, key=lambda e: (-weights[e][best[e]], e))[:2]
        nodes.append([[DARTS_PRIMITIVES[best[e]], [EDGES[e][1]]] for e in two])
    return {
        "nodes": nodes,
        "stems": [stem.name for stem in alike.stems],
        "merge": alike.post_op.name,
        "merged": list(concat_ids(alike)),
        "shapes": [list(shape) for shape in (*alike.stem_shapes, *alike.node_shapes, alike.out_shape)],
    }


def _write_mixtures(folder: Path, epochs: int, found: Genotype, chance: random.Random, desc: ModelDesc) -> None:
    sway = random.Random(2)  # so that the would-be cells change on the way
    drift = {
        kind: [[chance.gauss(0, 0.6) for _ in DARTS_PRIMITIVES] for _ in EDGES] for kind in ("regular", "reduction")
    }
    for kind, pairs in (("regular", found.normal), ("reduction", found.reduce)):
        for i, (op, source) in enumerate(pairs):
            drift[kind][EDGES.index([i // 2, source])][DARTS_PRIMITIVES.index(op)] = 2.2 + chance.random()
    lines = []
    for epoch in range(epochs):
        cells, entropies = {}, []
        for kind, table in drift.items():
            done = epoch / epochs
            alphas = [[done * (1.3 * v + sway.gauss(0, 1.5 * (1 - done))) for v in row] for row in table]
            weights = []
            for row in alphas:
                total = sum(map(math.exp, row))
                weights.append([math.exp(value) / total for value in row])
            entropy = [-sum(w * math.log(w) for w in row) for row in weights]
            entropies += entropy
            cells[kind] = {
                "edges": EDGES,
                "ops": list(DARTS_PRIMITIVES),
                "alphas": alphas,
                "weights": weights,
                "entropy": entropy,
            }
        lines.append(
            {
                "epoch": epoch,
                "cells": cells,
                "would_be": {kind: _would_be(cell["weights"], kind, desc) for kind, cell in cells.items()},
                "genotype": None,
                "entropy": sum(entropies) / len(entropies),
                "skips": 0 if epoch < 9 else 1 if epoch < 37 else 2,
                "parameter_free": 0.6,
                "changed_edges": 3 if epoch in (1, 4, 9, 37) else 0,
            }
        )
    (folder / "alphas.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_experts(folder: Path, epochs: int, found: Genotype, bound: float, desc: ModelDesc) -> None:
    """Exponentiated weights with wipe-out, played with invented rewards; the found ops earn the most."""
    chance = random.Random(1)
    games = {
        "regular": _Game(found.normal, epochs * STEPS, 6 * BATCH, bound, chance),
        "reduction": _Game(found.reduce, epochs * STEPS, 2 * BATCH, bound, chance),
    }
    lines = []
    for epoch in range(epochs):
        for game in games.values():
            for _ in range(STEPS):
                game.step()
        cells = {kind: game.cell() for kind, game in games.items()}
        entropies = [value for cell in cells.values() for value in cell["entropy"]]
        lines.append(
            {
                "epoch": epoch,
                "cells": cells,
                "would_be": {kind: _would_be(cell["weights"], kind, desc) for kind, cell in cells.items()},
                "genotype": None,
                "entropy": sum(entropies) / len(entropies),
                "skips": 2 if epoch < 9 else 1,
                "parameter_free": 0.5,
                "changed_edges": 3 if epoch in (1, 4, 9, 37) else 0,
                "strategy": {
                    "bound_hits": {kind: game.bound_hits() for kind, game in games.items()},
                    "rounds": {kind: [game.played, game.horizon] for kind, game in games.items()},
                    "eta": {kind: game.eta for kind, game in games.items()},
                },
            }
        )
    (folder / "alphas.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


class _Game:
    """The forecasters of one cell type; a step is the rounds of one batch, with a normal sum of rewards."""

    def __init__(
        self, pairs: Sequence[tuple[str, int]], steps: int, rounds: int, bound: float, chance: random.Random
    ) -> None:
        self.rounds, self.horizon, self.played, self.bound, self.chance = rounds, steps * rounds, 0, bound, chance
        self.eta = math.sqrt(2 * math.log(len(DARTS_PRIMITIVES)) / self.horizon) / bound
        self.means = [[chance.gauss(0, 0.16) for _ in DARTS_PRIMITIVES] for _ in EDGES]
        for i, (op, source) in enumerate(pairs):
            row = self.means[EDGES.index([i // 2, source])]
            row[DARTS_PRIMITIVES.index(op)] = max(row) + 0.05 + 0.1 * chance.random()
        self.phases = [[chance.random() for _ in row] for row in self.means]  # qualities sway while the weights learn
        self.log_weights = [[0.0] * len(row) for row in self.means]
        self.active = [[True] * len(row) for row in self.means]

    def step(self) -> None:
        self.played += self.rounds
        margin = 2 * self.eta * self.bound * (self.horizon - self.played)
        for e, (values, active) in enumerate(zip(self.log_weights, self.active, strict=True)):
            playing = [i for i, alive in enumerate(active) if alive]
            for i in playing:
                sway = 0.15 * math.sin(2 * math.pi * (1.5 * self.played / self.horizon + self.phases[e][i]))
                mean = min(self.bound, max(-self.bound, self.means[e][i] + sway))
                values[i] += self.eta * (mean * self.rounds + math.sqrt(self.rounds) * self.chance.gauss(0, SPREAD))
            leader = max(values[i] for i in playing)
            for i in playing:
                values[i] -= leader
                active[i] = values[i] >= -margin

    def bound_hits(self) -> float:
        """Share of normal rewards beyond the bound."""
        means = [mean for row in self.means for mean in row]
        scale = SPREAD * math.sqrt(2)
        tails = [math.erfc((self.bound - m) / scale) / 2 + math.erfc((self.bound + m) / scale) / 2 for m in means]
        return sum(tails) / len(tails)

    def cell(self) -> dict[str, list[Any]]:
        weights = []
        for values, active in zip(self.log_weights, self.active, strict=True):
            row = [math.exp(v) if alive else 0.0 for v, alive in zip(values, active, strict=True)]
            weights.append([value / sum(row) for value in row])
        return {
            "edges": EDGES,
            "ops": list(DARTS_PRIMITIVES),
            "alphas": [list(row) for row in self.log_weights],
            "survivors": [list(row) for row in self.active],
            "weights": weights,
            "entropy": [-sum(w * math.log(w) for w in row if w > 0) for row in weights],
        }


def _confusion(chance: random.Random) -> list[list[int]]:
    counts = [[chance.randrange(0, 6) for _ in CLASSES] for _ in CLASSES]
    counts[3][5], counts[5][3] = 48, 39
    for c, row in enumerate(counts):
        row[c] = 1000 - sum(row) + row[c]
    return counts
