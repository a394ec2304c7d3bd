"""Tests of ``tests/final_state.py``: a comparison that overlooks something would make the tests of resuming void."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas.training import CheckPoint

CONTENT: dict[str, Any] = {
    "epoch": 3,
    "rate": 0.1,
    "stopped": False,
    "found": None,
    "model": {"weight": torch.arange(4.0), "empty": torch.zeros(0)},
    "metrics": [{"epoch": 0, "loss": float("nan"), "seconds": 1.5}, {"epoch": 1, "loss": 0.0, "seconds": 2.5}],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a run leaves, as far as it is compared."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (
        "config.yaml",
        "weights.safetensors",
        "arch.json",
        "full_arch.json",
        "environment.json",
        "report.html",
    ):
        (folder / name).write_text(name)
    records = [{"epoch": epoch, "loss": 1.0 / (1 + epoch), "seconds": 0.1 * epoch} for epoch in range(3)]
    for name in ("metrics.jsonl", "alphas.jsonl"):
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "summary.json").write_text(json.dumps({"macs": 3, "search_seconds": 1.0, "latency": {"median_ms": 1.0}}))
    write(folder, CONTENT)
    return folder


def write(folder: Path, content: dict[str, Any]) -> None:
    checkpoint = CheckPoint(folder / "checkpoints" / "search.pt")
    checkpoint.update(content)
    checkpoint.commit()


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def rewrite(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / name).write_text(change((folder / name).read_text()))

    return act


def checkpoint_with(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder, {**CONTENT, **changes})


def test_a_run_does_not_differ_from_its_copy(final_state: Any, run: Path, copy: Path) -> None:
    assert final_state.differences(run, copy) == []


@pytest.mark.parametrize(
    "harmless",
    [
        rewrite("summary.json", lambda text: text.replace("1.0", "2.0")),
        rewrite("metrics.jsonl", lambda text: text.replace('"seconds": 0.1', '"seconds": 9.9')),
        rewrite("environment.json", lambda text: "another command"),
        rewrite("report.html", lambda text: "with other times"),
        checkpoint_with(metrics=[{**record, "seconds": 7.0} for record in CONTENT["metrics"]]),
        lambda folder: (folder / "checkpoints" / "search.pt.1").write_text("older"),
        lambda folder: (folder / ".lock").write_text("1"),
    ],
    ids=["summary", "log", "environment", "report", "checkpoint", "older checkpoint", "lock"],
)
def test_measured_times_and_older_checkpoints_may_differ(
    final_state: Any, run: Path, copy: Path, harmless: Callable[[Path], None]
) -> None:
    harmless(copy)
    assert final_state.differences(run, copy) == []


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        *((rewrite(name, lambda text: text + "!"), f"{name}: other bytes") for name in ("config.yaml", "arch.json")),
        (rewrite("full_arch.json", str.upper), "full_arch.json: other bytes"),
        (rewrite("weights.safetensors", str.upper), "weights.safetensors: other bytes"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "only expected: weights.safetensors"),
        (lambda folder: (folder / ".config.yaml.x.tmp").touch(), "only found: .config.yaml.x.tmp"),
        (rewrite("metrics.jsonl", lambda text: text + text.splitlines()[-1]), "metrics.jsonl: it has 4 entries, not 3"),
        (rewrite("alphas.jsonl", lambda text: text.partition("\n")[2]), "alphas.jsonl: it has 2 entries, not 3"),
        (rewrite("metrics.jsonl", lambda text: text.replace("0.5", "0.5000000000000001")), "metrics.jsonl: [1].loss"),
        (rewrite("metrics.jsonl", lambda text: text.replace('"loss": 1.0', '"loss": 1')), "[0].loss is int, not float"),
        (rewrite("summary.json", lambda text: text.replace("3", "4")), "summary.json: macs differs"),
        (checkpoint_with(epoch=4), "checkpoints/search.pt: epoch differs"),
        (checkpoint_with(rate=0.1 + 2e-17), "checkpoints/search.pt: rate differs"),
        (checkpoint_with(stopped=0), "stopped is int, not bool"),
        (checkpoint_with(more=1), "it has the keys"),
        (checkpoint_with(metrics=CONTENT["metrics"][:1]), "metrics has 1 entries, not 2"),
        (
            checkpoint_with(metrics=[CONTENT["metrics"][0], {"epoch": 1, "loss": -0.0, "seconds": 1.0}]),
            "[1].loss differs",
        ),
        (
            checkpoint_with(model={"weight": torch.arange(4.0).double(), "empty": torch.zeros(0)}),
            "model.weight differs",
        ),
        (
            checkpoint_with(model={"weight": torch.arange(4.0)[:, None], "empty": torch.zeros(0)}),
            "model.weight differs",
        ),
        (
            checkpoint_with(model={"weight": torch.tensor([0.0, 1, 2, 3 + 3e-7]), "empty": torch.zeros(0)}),
            "model.weight",
        ),
        (checkpoint_with(model={"weight": torch.tensor([-0.0, 1, 2, 3]), "empty": torch.zeros(0)}), "model.weight"),
    ],
)
def test_anything_else_that_differs_is_told(
    final_state: Any, run: Path, copy: Path, harm: Callable[[Path], None], told: str
) -> None:
    harm(copy)
    (difference,) = final_state.differences(run, copy)
    assert told in difference
