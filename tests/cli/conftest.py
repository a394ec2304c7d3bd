"""Runs the command line inside the test process."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from gradnas.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Gradnas = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks on a busy machine: threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def gradnas(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gradnas:
    """Call it with arguments; the current folder is a new, empty one."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: object) -> Outcome:
        capsys.readouterr()
        code = main([str(part) for part in argv])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
