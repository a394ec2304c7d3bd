"""Tests of ``src/gradnas/costs/available.py``, on made-up trees of ``/proc`` and ``/sys``, and on this machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from gradnas.costs import AvailableMemory, available_memory

MACHINE = {"proc/meminfo": "MemTotal:  9000 kB\nMemAvailable:    4000 kB\nHugePages_Total: 0\n"}
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def left(root: Path, files: dict[str, str]) -> AvailableMemory:
    return available_memory("cpu", root=tree(root, files))


def v2(folder: str, limit: str, used: int, inactive: int = 0) -> dict[str, str]:
    at = f"{V2}/{folder}".rstrip("/")
    return {
        f"{at}/memory.max": limit,
        f"{at}/memory.current": str(used),
        f"{at}/memory.stat": f"anon 5\ninactive_file {inactive}\nactive_file 7\n",
    }


def v1(folder: str, limit: int, used: int, inactive: int = 0) -> dict[str, str]:
    at = f"{V1}/{folder}".rstrip("/")
    return {
        f"{at}/memory.limit_in_bytes": f"{limit}\n",
        f"{at}/memory.usage_in_bytes": f"{used}\n",
        f"{at}/memory.stat": f"inactive_file 1\ntotal_inactive_file {inactive}\n",
    }


def test_a_machine_without_limits_has_what_the_kernel_calls_available(tmp_path: Path) -> None:
    assert left(tmp_path, MACHINE) == AvailableMemory(4000 * 1024, "free memory of the machine")


def test_nothing_known_is_unknown(tmp_path: Path) -> None:
    unknown = left(tmp_path, {})
    assert unknown.n_bytes is None
    assert "does not tell" in unknown.reason
    assert left(tmp_path, {"proc/meminfo": "MemTotal: 5 kB\n"}).n_bytes is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", **v2("a/b", "1000000", 300_000, 50_000)}, 750_000),
        ({"proc/self/cgroup": "0::/a/b\n", **v2("a/b", "max", 300_000), **v2("a", "900000", 400_000)}, 500_000),
        ({"proc/self/cgroup": "0::/a\n", **v2("a", "900000", 400_000), **v2("", "800000", 500_000)}, 300_000),
        ({"proc/self/cgroup": "0::/not/seen/here\n", **v2("", "800000", 500_000)}, 300_000),
        ({"proc/self/cgroup": "0::/../outside\n", **v2("", "800000", 500_000)}, 300_000),
        ({"proc/self/cgroup": "7:cpu:/x\n4:memory:/job\n0::/\n", **v1("job", 2_000_000, 700_000, 60_000)}, 1_360_000),
        ({"proc/self/cgroup": "4:hugetlb,memory:/job\n", **v1("", 2_000_000, 700_000)}, 1_300_000),
        ({"proc/self/cgroup": "4:memory:/job\n", **v1("job", 100_000, 700_000)}, 0),
        ({"proc/self/cgroup": "0::/a\n", **v2("a", "90000000", 400_000)}, 4000 * 1024),
        ({"proc/self/cgroup": "4:memory:/job\n", **v1("job", 9223372036854771712, 700_000)}, 4000 * 1024),
        ({"proc/self/cgroup": "nonsense\n0::/a\n", f"{V2}/a/memory.max": "5000"}, 4000 * 1024),
    ],
)
def test_the_least_limit_of_the_control_groups_counts(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    found = left(tmp_path, {**MACHINE, **files})
    assert found.n_bytes == expected
    assert ("control group" in found.reason) == (expected != 4000 * 1024)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("limit", ["AS", "DATA"])
def test_a_limit_of_the_process_counts(limit: str) -> None:
    code = (
        "import resource\n"
        "from gradnas.costs import available_memory\n"
        f"kind = resource.RLIMIT_{limit}\n"
        "import re, pathlib\n"
        "field = {'AS': 'VmSize', 'DATA': 'VmData'}['" + limit + "']\n"
        "used = int(re.search(field + r':\\s*(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]) * 1024\n"
        "resource.setrlimit(kind, (used + 2**26, resource.RLIM_INFINITY))\n"
        "found = available_memory('cpu')\n"
        "print(found.n_bytes / 2**26, found.reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    share, reason = done.stdout.split(" ", 1)
    assert 0.8 < float(share) <= 1.05
    assert f"ulimit -{'v' if limit == 'AS' else 'd'}" in reason


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs Linux")
def test_this_machine_has_memory() -> None:
    found = available_memory("cpu")
    assert found.n_bytes is not None
    assert 2**20 < found.n_bytes < 2**50


def test_of_other_devices_nobody_knows() -> None:
    assert available_memory("meta").n_bytes is None
    assert "'meta'" in available_memory("meta").reason
