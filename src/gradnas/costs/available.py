"""How much memory a process may still take, where that can be known."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

_KIB = 1024
# Both hierarchies of control groups: where they are mounted, the limit, the use, and what of it the kernel gives back.
_CGROUP_V2 = ("memory.max", "memory.current", "inactive_file")
_CGROUP_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@dataclass(frozen=True)
class AvailableMemory:
    """Memory that this process may still take.

    Args:
        n_bytes: Bytes; None where nobody can tell.
        reason: What sets the limit.
    """

    n_bytes: int | None
    reason: str


def available_memory(device: torch.device | str, *, root: Path = Path("/")) -> AvailableMemory:
    """The memory of a device that this process may still take.

    On a GPU what the driver calls free, and what torch holds without using it. On Linux the least of: what the kernel
    calls available, what the control groups of the process (a container, a batch system) leave, and what
    ``ulimit -v`` and ``ulimit -d`` leave. Elsewhere it is unknown.

    Args:
        device: The device.
        root: Where ``proc`` and ``sys`` are found.
    """
    device = torch.device(device)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return AvailableMemory(free + held, "free memory of the GPU")
    if device.type != "cpu":
        return AvailableMemory(None, f"nobody tells how much memory {device.type!r} has")
    limits = [*_machine(root), *_control_groups(root), *_resource_limits(root)]
    if not limits:
        return AvailableMemory(None, "this system does not tell how much memory is free")
    least = min(limits)
    return AvailableMemory(max(0, least[0]), least[1])


def _machine(root: Path) -> Iterator[tuple[int, str]]:
    available = _fields(root / "proc/meminfo").get("MemAvailable")
    if available is not None:
        yield available * _KIB, "free memory of the machine"


def _control_groups(root: Path) -> Iterator[tuple[int, str]]:
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        mounts: tuple[str, ...] = ()
        names = _CGROUP_V1
        if controllers == "":
            mounts, names = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), _CGROUP_V2
        elif "memory" in controllers.split(","):
            mounts = ("sys/fs/cgroup/memory",)
        for mount in mounts:
            for folder in _upwards(root / mount, path):
                left = _left(folder, *names)
                if left is not None:
                    yield left, "memory limit of the control group (container or batch system)"


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The folder of a control group and those above it, whose limits hold too.

    Inside a container the path may be that of the host, of which only the mount itself is seen.
    """
    inside = [part for part in path.split("/") if part not in ("", "..")]
    for n in range(len(inside), -1, -1):
        yield mount.joinpath(*inside[:n])


def _left(folder: Path, limit: str, use: str, reclaimable: str) -> int | None:
    texts = [next(iter(_lines(folder / name)), "") for name in (limit, use)]
    if not all(text.strip().isdigit() for text in texts):
        return None  # no such folder, or no limit: "max"
    return int(texts[0]) - int(texts[1]) + _fields(folder / "memory.stat").get(reclaimable, 0)


def _resource_limits(root: Path) -> Iterator[tuple[int, str]]:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    used = _fields(root / "proc/self/status")
    for kind, field, option in ((resource.RLIMIT_AS, "VmSize", "v"), (resource.RLIMIT_DATA, "VmData", "d")):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and field in used:
            yield limit - used[field] * _KIB, f"limit of the process (ulimit -{option})"


def _fields(path: Path) -> dict[str, int]:
    """Lines such as ``MemAvailable:  1024 kB`` or ``inactive_file 4096`` by name."""
    found = {}
    for line in _lines(path):
        name, *rest = line.replace(":", " ").split()
        if rest and rest[0].isdigit():
            found[name] = int(rest[0])
    return found


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        return []
