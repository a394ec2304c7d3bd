"""A full disk and a read-only folder: one clear line, the last good state intact, the same result once there is room.

A real ``gradnas search`` runs in a process of its own, on a small file system where the machine lets the tests mount
one, and everywhere under a limit on the size of a file (a quota of its own process).
"""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gradnas.pipeline import RunFolder
from gradnas.training import CheckPoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts and quotas are those of Linux")

SEARCH = [
    *("search", "--data", "digits", "--epochs", "2", "--max-steps", "2", "--search.batch_size", "16"),
    *("--space.options.channels", "2", "--space.options.cells", "3", "--space.options.nodes", "2"),
    *("--space.options.reductions", "1", "--device", "cpu", "--seed", "3"),
]
PAGE = 4096
ROOM = 4 * 2**20  # more than the run needs


def gradnas(*arguments: object, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which may be allowed files of so many bytes only."""

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    command = [sys.executable, "-m", "gradnas", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, preexec_fn=limit, env=environment, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    done = gradnas(*SEARCH, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={ROOM}", "gradnas-test", place]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets the tests mount no file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def fill(disk: Path, free: int) -> None:
    """Leave so many bytes free."""
    with open(disk / "filler", "wb") as filler:
        filler.write(bytes(_free(disk) - free))
    assert _free(disk) <= free


def _free(disk: Path) -> int:
    stats = os.statvfs(disk)
    return stats.f_bavail * stats.f_frsize


def check_message(done: subprocess.CompletedProcess[str], why: str) -> str:
    """Exit code 1 and one line, without a traceback; returns the line."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert why in line
    assert "free some space" in line or "choose another output folder" in line
    return line


def check_good_state(folder: Path) -> None:
    """Every checkpoint and every file that is there can be read, and nothing half-written is left."""
    for path in (folder / "checkpoints").glob("*.pt"):
        assert CheckPoint(path).load_existing()
    assert not list(folder.rglob("*.tmp"))
    run = RunFolder(folder)
    if run.is_run():
        assert run.read_config().seed == 3
        assert run.read_json("environment.json")["gradnas"]
        for name in ("metrics.jsonl", "alphas.jsonl"):
            assert all("epoch" in record for record in run.read_lines(name))


def finish(folder: Path) -> None:
    """What a user does when there is room again."""
    again = ("resume", folder) if RunFolder(folder).is_run() else (*SEARCH, "--out", folder)
    done = gradnas(*again)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_quota_ends_in_one_line_and_the_run_can_be_finished(
    undisturbed: Path, final_state: ModuleType, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    done = gradnas(*SEARCH, "--out", folder, largest_file=60_000)
    check_message(done, os.strerror(errno.EFBIG))
    check_good_state(folder)
    finish(folder)
    assert final_state.differences(undisturbed, folder) == []


@pytest.mark.slow
def test_quota_that_leaves_no_room_for_the_configuration_leaves_no_run(tmp_path: Path) -> None:
    done = gradnas(*SEARCH, "--out", tmp_path / "run", largest_file=1000)
    check_message(done, os.strerror(errno.EFBIG))
    assert not RunFolder(tmp_path / "run").is_run()


def used(folder: Path) -> int:
    """Bytes that the files take, in whole pages."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


def after_checkpoint(folder: Path) -> int:
    """So much room that a run stops between its checkpoints."""
    return used(folder) - max(path.stat().st_size for path in (folder / "checkpoints").iterdir()) // 2


FREE: dict[str, Callable[[Path], int]] = {
    "first checkpoint": lambda _: 10 * PAGE,
    "later": after_checkpoint,
}


@pytest.mark.slow
@pytest.mark.parametrize("until", ["first checkpoint", pytest.param("later", marks=pytest.mark.long)])
def test_full_disk_ends_in_one_line_and_the_run_can_be_finished(
    undisturbed: Path, final_state: ModuleType, small_disk: Path, until: str
) -> None:
    folder = small_disk / "run"
    fill(small_disk, FREE[until](undisturbed))
    done = gradnas(*SEARCH, "--out", folder)
    check_message(done, os.strerror(errno.ENOSPC))
    check_good_state(folder)
    (small_disk / "filler").unlink()
    finish(folder)
    assert final_state.differences(undisturbed, folder) == []


@pytest.mark.slow
def test_disk_that_is_full_when_the_run_goes_on_costs_nothing(
    undisturbed: Path, final_state: ModuleType, small_disk: Path
) -> None:
    folder = small_disk / "run"
    shutil.copytree(undisturbed, folder)
    for name in ("summary.json", "report.html", "metrics.jsonl"):  # as if it had been killed before them
        (folder / name).unlink()
    fill(small_disk, 0)
    before = {path: path.read_bytes() for path in (folder / "checkpoints").iterdir()}
    check_message(gradnas("resume", folder), os.strerror(errno.ENOSPC))
    assert {path: path.read_bytes() for path in (folder / "checkpoints").iterdir()} == before
    (small_disk / "filler").unlink()
    finish(folder)
    assert final_state.differences(undisturbed, folder) == []


def test_line_on_a_full_disk_leaves_the_lines_before(small_disk: Path, undisturbed: Path) -> None:
    shutil.copytree(undisturbed, small_disk / "run")
    folder = RunFolder(small_disk / "run")
    before = (folder / "metrics.jsonl").read_bytes()
    fill(small_disk, 0)
    with pytest.raises(OSError, match=r"cannot add [\d,]+ bytes to .*metrics\.jsonl: No space left.* intact"):
        folder.append("metrics.jsonl", {"phase": "search", "epoch": 9, "words": "x" * 2 * PAGE})
    assert (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_read_only_disk_ends_in_one_line_and_changes_nothing(undisturbed: Path, small_disk: Path) -> None:
    shutil.copytree(undisturbed, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    line = check_message(gradnas("resume", small_disk / "run"), os.strerror(errno.EROFS))
    assert str(small_disk / "run") in line
    check_message(gradnas(*SEARCH, "--out", small_disk / "new"), os.strerror(errno.EROFS))
    check_good_state(small_disk / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write to any folder")
def test_read_only_folder_ends_in_one_line_and_changes_nothing(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    folder.chmod(0o500)
    try:
        line = check_message(gradnas("resume", folder), os.strerror(errno.EACCES))
        assert str(folder) in line
        tmp_path.chmod(0o500)
        check_message(gradnas(*SEARCH, "--out", tmp_path / "new"), os.strerror(errno.EACCES))
        check_good_state(folder)
    finally:
        tmp_path.chmod(0o700)
        folder.chmod(0o700)
