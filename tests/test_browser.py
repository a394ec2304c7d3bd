"""Tests of ``browser.py``: where it finds a Chromium, and when its absence is an error."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

HELPER = Path(__file__).with_name("browser.py")


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, on a machine that looks as if it had no browser."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.delenv("GRADNAS_NEEDS_BROWSER", raising=False)
    spec = importlib.util.spec_from_file_location("gradnas_tested_browser", HELPER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_without_a_browser_there_is_a_reason_to_skip(helper: ModuleType) -> None:
    assert "no Chromium: set CHROMIUM to one, or install one of chromium, " in helper.why_not()


def test_a_browser_that_must_be_there_is_missed(helper: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADNAS_NEEDS_BROWSER", "1")
    with pytest.raises(RuntimeError, match="GRADNAS_NEEDS_BROWSER is set, but no Chromium"):
        helper.why_not()


def test_a_wrong_program_is_an_error_and_no_reason_to_skip(
    helper: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "chromium")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CHROMIUM", "/no/such/chromium")
    with pytest.raises(FileNotFoundError, match="CHROMIUM is '/no/such/chromium', which is no program"):
        helper.why_not()


def test_the_named_program_wins_over_the_first_known_one(
    helper: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("google-chrome", "chromium-browser", "mine"):
        program(tmp_path / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert helper.find_chromium() == str(tmp_path / "chromium-browser")
    monkeypatch.setenv("CHROMIUM", "mine")
    assert helper.find_chromium() == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("chromium", "code", "out", "err"),
    [("", 1, "", "no Chromium: none of chromium, "), ("nope", 1, "", "CHROMIUM is 'nope', which is no program")],
)
def test_as_a_program_it_says_why_there_is_none(chromium: str, code: int, out: str, err: str) -> None:
    env = {"PATH": "/nowhere", "CHROMIUM": chromium}
    done = subprocess.run([sys.executable, HELPER], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, out)
    assert done.stderr.startswith(err)


def test_as_a_program_it_prints_what_it_found(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path), "CHROMIUM": ""}
    found = program(tmp_path / "google-chrome")
    done = subprocess.run([sys.executable, HELPER], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{found}\n"
