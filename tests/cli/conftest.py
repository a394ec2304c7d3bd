"""Runs the command line inside the test process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradnas.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Gradnas = Callable[..., Outcome]


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
