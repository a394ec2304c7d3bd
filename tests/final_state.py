"""What two finished runs differ in, bit by bit; measured times alone may differ."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradnas.training import CheckPoint

SAME_BYTES = ("config.yaml", "weights.safetensors", "arch.json", "full_arch.json", "pareto.tsv", "pareto.svg")
LOGS = ("metrics.jsonl", "alphas.jsonl")
DOCUMENTS = ("summary.json", "model.json", "grid.json", "metrics.json")
MEASURED = ("seconds", "latency", "throughput", "peak_memory_bytes")
"""A name that ends so is that of a measured time."""
ABOUT_THE_RUN = ("checksum", "sha256")  # of what holds measured times


def differences(expected: Path, found: Path) -> list[str]:
    """Everything in which a run folder differs from another one; empty when nothing does.

    Compared are the names of the files, the bytes of configuration, architectures and weights, each line of the logs,
    the summary and what a grid has given, and every tensor and number of the newest checkpoint of each phase.
    """
    told = [
        f"only {'expected' if name in names(expected) else 'found'}: {name}"
        for name in sorted(names(expected) ^ names(found))
    ]
    for name in sorted(names(expected) & names(found)):
        if name.endswith(SAME_BYTES):
            told += [f"{name}: other bytes"] * ((expected / name).read_bytes() != (found / name).read_bytes())
        elif name.endswith(LOGS):
            told += [f"{name}: {what}" for what in unequal(lines(expected / name), lines(found / name))]
        elif name.endswith(DOCUMENTS):
            told += [f"{name}: {what}" for what in unequal(document(expected / name), document(found / name))]
        elif name.endswith(".pt"):
            told += [f"{name}: {what}" for what in unequal(checkpoint(expected / name), checkpoint(found / name))]
    return told


def names(folder: Path) -> set[str]:
    """The files of a run, without older checkpoints, whose number depends on the clock."""
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in files if ".pt." not in name and not name.endswith(".lock")}


def lines(path: Path) -> list[Any]:
    """The records of a log; a line that is none raises a ValueError."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def document(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, which must be readable itself."""
    content = CheckPoint(path)
    assert content.load_existing(), f"{path} is not there"
    return dict(content)


def unequal(expected: Any, found: Any, at: str = "") -> Iterator[str]:
    """Where two nested values differ in type, shape, bits, keys or order, but for measured times."""
    if type(expected) is not type(found):
        yield f"{at or 'it'} is {type(found).__name__}, not {type(expected).__name__}"
    elif isinstance(expected, dict):
        if list(expected) != list(found):
            yield f"{at or 'it'} has the keys {list(found)}, not {list(expected)}"
            return
        for key, value in expected.items():
            if not str(key).endswith((*MEASURED, *ABOUT_THE_RUN)):
                yield from unequal(value, found[key], f"{at}.{key}".lstrip("."))
    elif isinstance(expected, (list, tuple)):
        if len(expected) != len(found):
            yield f"{at or 'it'} has {len(found)} entries, not {len(expected)}"
            return
        for place, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
            yield from unequal(ours, theirs, f"{at}[{place}]")
    elif bits(expected) != bits(found):
        yield f"{at or 'it'} differs"


def bits(value: Any) -> Any:
    """Something that is equal for equal bits alone: not a number is itself, and 0.0 is not -0.0."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        return value.dtype, tuple(value.shape), flat.view(torch.uint8).numpy().tobytes()
    return struct.pack("d", value) if isinstance(value, float) else value
