"""Tests of ``src/gradnas/foundation/locks.py``."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gradnas.foundation import locks
from gradnas.foundation.locks import InUseError, locked

HOLDER = """
import sys, time
from pathlib import Path
from gradnas.foundation.locks import locked
with locked(Path(sys.argv[1]), "x"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_file_is_there_while_it_is_held_and_gone_afterwards(tmp_path: Path) -> None:
    with locked(tmp_path / "run.lock", "x") as alone:
        assert alone
        assert f"process {os.getpid()} on " in (tmp_path / "run.lock").read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_told_who_holds_it_at_once(tmp_path: Path) -> None:
    with holder(tmp_path / "run.lock") as process:
        message = rf"^runs/x is in use by process {process.pid} on .+ since \d{{4}}-.*: wait for it, or stop it\.$"
        with pytest.raises(InUseError, match=message), locked(tmp_path / "run.lock", "runs/x"):
            pass
        assert (tmp_path / "run.lock").exists()  # it is the other's


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path / "run.lock") as process:
        process.kill()
        process.wait()
    assert (tmp_path / "run.lock").exists()
    with locked(tmp_path / "run.lock", "x") as alone:
        assert alone
        assert f"process {os.getpid()} " in (tmp_path / "run.lock").read_text()


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with locked(tmp_path / "run.lock", "x"):
        with pytest.raises(InUseError, match=rf"in use by process {os.getpid()}"), locked(tmp_path / "run.lock", "x"):
            pass
        assert (tmp_path / "run.lock").exists()
    with locked(tmp_path / "run.lock", "x") as alone:
        assert alone


def test_it_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "run.lock", "x"):
        raise KeyError
    with locked(tmp_path / "run.lock", "x") as alone:
        assert alone


def test_a_file_that_its_holder_removed_in_between_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock, calls = tmp_path / "run.lock", locks._lock, []

    def removed_first(stream: object) -> None:
        if not calls:
            path.unlink()
        calls.append(1)
        lock(stream)  # type: ignore[arg-type]

    monkeypatch.setattr(locks, "_lock", removed_first)
    with locked(path, "x"):
        assert path.exists()
        assert len(calls) == 2


def test_a_file_system_without_locks_is_said_to_hold_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(stream: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "_lock", unsupported)
    with pytest.warns(UserWarning, match="of runs/x has no locks: nothing keeps a second process out") as said:  # noqa: SIM117
        with locked(tmp_path / "run.lock", "runs/x") as alone:
            assert not alone
    assert len(said) == 1


def test_an_error_of_the_disk_is_not_called_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(stream: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(locks, "_lock", broken)
    with pytest.raises(OSError, match=r"cannot lock runs/x: Input/output error") as caught:  # noqa: SIM117
        with locked(tmp_path / "run.lock", "runs/x"):
            pass
    assert not isinstance(caught.value, InUseError)
    assert caught.value.errno == errno.EIO


FORKED = """
import os, sys
from pathlib import Path
from gradnas.foundation.locks import locked
path = Path(sys.argv[1])
with locked(path, "x"):
    if (child := os.fork()) == 0:
        raise RuntimeError
    os.waitpid(child, 0)
    assert path.exists()
assert not path.exists()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked")
def test_a_forked_child_that_fails_leaves_the_file_of_its_parent(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKED, tmp_path / "run.lock"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "RuntimeError" in done.stderr  # of the child


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot lock runs/x: No such file.*choose another"):  # noqa: SIM117
        with locked(tmp_path / "missing" / "run.lock", "runs/x"):
            pass


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "run.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="cannot lock x"), locked(tmp_path / "run.lock", "x"):
        pass
    assert (tmp_path / "precious").read_text() == "keep"


def test_a_full_disk_costs_the_text_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(stream: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(locks, "_sign", full)
    with locked(tmp_path / "run.lock", "x") as alone:
        assert alone
        with pytest.raises(InUseError, match="x is in use by another process:"), locked(tmp_path / "run.lock", "x"):
            pass
