"""Run folders as the pipeline leaves them, with settings and numbers as a test wants them."""

import dataclasses
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from gradnas.arch import PUBLISHED
from gradnas.config import DataConf, RetrainConf, RunConf, SearchConf, from_values, to_yaml
from gradnas.config.layers import layered
from gradnas.spaces import DartsSpace

BASE = dataclasses.replace(
    RunConf(), data=DataConf(source="digits"), search=SearchConf(epochs=6), retrain=RetrainConf(epochs=5)
)


def write_run(
    folder: Path,
    *,
    strategy: str = "darts",
    options: dict[str, Any] | None = None,
    seed: int = 0,
    accuracy: float | None = 98.0,
    baseline: float | None = None,
    macs: float = 500_000,
    settings: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    found: bool = True,
    genotype: str = "DARTS_V2",
) -> Path:
    """Write a run folder.

    Args:
        folder: Where; made anew.
        strategy: Name of the strategy.
        options: Its options.
        seed: The seed.
        accuracy: Test accuracy in percent; None for a run without.
        baseline: Test accuracy of its random baseline.
        macs: Multiply-adds; parameters are a thirtieth.
        settings: Further settings, nested as in a configuration file.
        summary: Further entries of the summary; an entry None takes one out.
        environment: Further entries of ``environment.json``.
        found: Whether the search has ended.
        genotype: Name of the published cells it found.
    """
    folder.mkdir(parents=True)
    samples = 0 if baseline is None else 2
    values = layered(
        {**dataclasses.asdict(BASE), "seed": seed, "baseline": {"samples": samples}},
        {"strategy": {"name": strategy, "options": options or {}}, **(settings or {})},
    )
    conf = from_values(values)
    (folder / "config.yaml").write_text(to_yaml(conf), encoding="utf-8")
    facts = {
        "gradnas": metadata.version("gradnas"),
        "processor": "a processor",
        "threads": 2,
        "gpu": None,
        **(environment or {}),
    }
    (folder / "environment.json").write_text(json.dumps(facts))
    if not found:
        return folder
    space = DartsSpace(1, 8, 10, channels=4, cells=3, nodes=4, reductions=1)
    space.from_genotype(PUBLISHED[genotype]).save(folder / "arch.json")
    known: dict[str, Any] = {
        "dataset": "digits",
        "classes": [str(k) for k in range(10)],
        "n_train": 1437,
        "n_test": 360,
        "strategy": strategy,
        "seed": seed,
        "arch_hash": f"{strategy} {options} {seed} {genotype}",
        "genotype": str(PUBLISHED[genotype]),
        "search_seconds": 10.0 + seed,
        "params": macs / 30,
        "macs": macs,
    }
    if accuracy is not None:
        known |= {"test_accuracy": accuracy, "retrain_seconds": 2.0 + seed}
    if baseline is not None:
        known |= {
            "random_baseline_accuracy": baseline,
            "random_baseline_params": 22_000,
            "random_baseline_macs": 620_000,
            "random_baseline_search_seconds": 11.0,
            "random_baseline_genotype": f"random {seed}",
        }
    known |= summary or {}
    written = {name: value for name, value in known.items() if value is not None}
    (folder / "summary.json").write_text(json.dumps(written), encoding="utf-8")
    return folder
