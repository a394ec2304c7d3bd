"""Where a run computes: versions, machine, threads, revision and command, and what of it changed when it went on."""

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gradnas.ops.native import NoLibraryError, find_library

_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "safetensors")
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "KMP_AFFINITY", "GOMP_CPU_AFFINITY")
_OF_THE_MOMENT = ("time", "command")  # of each start, and never the same

_MATTERS = {
    "gradnas": "gradnas",
    "packages.torch": "torch",
    "processor": "processor",
    "gpu": "GPU",
    "cuda": "CUDA",
    "threads": "number of threads",
    "native": "use of compiled operations",
    "deterministic": "setting deterministic",
}
"""What moves the last bits of a result, by its place among the facts, and what it is called."""


def environment(*, deterministic: bool = False) -> dict[str, Any]:
    """What one must know to repeat a run; None stands for what there is not, or cannot be found out.

    Args:
        deterministic: Whether the run takes torch's deterministic algorithms alone.
    """
    native = find_library(torch.float32)
    is_native = not isinstance(native, NoLibraryError)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "gradnas": version_of("gradnas"),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in _PACKAGES},
        "cuda": _cuda() if gpus else None,
        "platform": platform.platform(),
        "host": platform.node(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpu": gpus[0] if gpus else None,
        "gpus": gpus,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "thread_settings": {name: os.environ[name] for name in _THREAD_SETTINGS if name in os.environ},
        "native": "compiled" if is_native else "not used",
        "native_reason": None if is_native else str(native),
        "deterministic": deterministic,
        "git": _git(),
        "command": shlex.join([*_program(Path(sys.argv[0])), *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def changed_facts(known: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What is otherwise than it was known: the new values, time and command always among them."""
    return {name: value for name, value in now.items() if name in _OF_THE_MOMENT or known.get(name, value) != value}


def doubts(known: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences on changes that may move the last bits of a result; none where nothing of the kind changed."""
    return tuple(
        f"the {what} was {before}, now it is {after}: from here on the last bits may differ from those of a run that "
        "was not interrupted."
        for place, what in _MATTERS.items()
        for before, after in [(_at(known, place), _at(now, place))]
        if _known(known, place) and before != after
    )


def version_of(package: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _known(facts: Mapping[str, Any], place: str) -> bool:
    outer, _, name = place.rpartition(".")
    inner = _at(facts, outer) if outer else facts
    return isinstance(inner, Mapping) and name in inner


def _at(facts: Mapping[str, Any], place: str) -> Any:
    value: Any = facts
    for name in place.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _program(script: Path) -> list[str]:
    """How the program was called: by its name, or as a module of Python."""
    return ["python", "-m", script.parent.name] if script.name == "__main__.py" else [script.name]


def _cuda() -> dict[str, str | None]:
    cudnn = torch.backends.cudnn.version()
    return {
        "cuda": torch.version.cuda,
        "cudnn": None if cudnn is None else str(cudnn),
        "driver": _first(r"Kernel Module.*?\s(\d[\d.]*)\s", Path("/proc/driver/nvidia/version")),
    }


def _processor() -> str:
    return _first(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo")) or platform.processor()


def _memory_gib() -> float | None:
    kib = _first(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo"))
    return None if kib is None else round(int(kib) / 2**20, 1)


def _first(pattern: str, path: Path) -> str | None:
    """What the group of a pattern finds in a file of the system; None where it finds nothing."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(pattern, text, flags=re.MULTILINE)
    return found[1].strip() if found else None


def _git() -> dict[str, Any] | None:
    """Revision of the folder where the command was given, and whether it had changes; None where it is no checkout."""
    revision = _said_by_git("rev-parse", "HEAD")
    if not revision:
        return None
    changes = _said_by_git("status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def _said_by_git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
