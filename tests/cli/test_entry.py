"""Entry point: overview, exit codes, one line per error or warning."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import gradnas as gn
from gradnas import api
from gradnas.config import RunConf
from gradnas.pipeline import RunFolder


def test_help_names_every_command_and_none_that_does_not_exist(gradnas: Any) -> None:
    outcome = gradnas("--help")
    assert outcome.code == 0
    listed = [line.split()[0] for line in outcome.out.split("commands:\n")[1].split("\n\n")[0].splitlines()]
    names = [
        "plan",
        "run",
        "search",
        "retrain",
        "train",
        "resume",
        "report",
        "watch",
        "export",
        "draw",
        "compare",
        "list",
    ]
    assert listed == names
    for command in listed:
        assert gradnas(command, "--help").code == 0


def test_nothing_at_all_shows_the_help_and_fails(gradnas: Any) -> None:
    outcome = gradnas()
    assert outcome.code == 2
    assert outcome.out == gradnas("-h").out


def test_version(gradnas: Any) -> None:
    outcome = gradnas("--version")
    assert (outcome.code, outcome.out) == (0, f"gradnas {gn.__version__}\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("serch", "unknown command 'serch'. Did you mean 'search'?"),
        ("bake", "unknown command 'bake'."),
        ("--verson", "unknown option '--verson'. Did you mean '--version'?"),
    ],
)
def test_an_unknown_command_names_the_nearest(gradnas: Any, name: str, message: str) -> None:
    outcome = gradnas(name)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("first line\n  second line"), "first line second line"),
        (KeyError("no operation 'x'. Did you mean 'y'?"), "no operation 'x'. Did you mean 'y'?"),
        (OSError(28, "cannot write a/b: disk full"), "cannot write a/b: disk full"),
        (PermissionError(13, "Permission denied", "a/b"), "a/b: Permission denied"),
        (FloatingPointError("the loss is not finite."), "the loss is not finite."),
        (ConnectionError("no network."), "no network."),
        (ImportError("needs jinja2."), "needs jinja2."),
        (TypeError(), "TypeError"),
    ],
)
def test_an_error_of_the_library_is_one_line(
    gradnas: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api, "resume", fail)
    outcome = gradnas("resume", "x")
    assert (outcome.code, outcome.err) == (1, f"gradnas: error: {message}\n")


def test_debug_shows_the_traceback(gradnas: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        gradnas("resume", tmp_path, "--debug")


def test_a_fault_of_ours_is_not_hidden(gradnas: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("impossible")

    monkeypatch.setattr(api, "resume", fail)
    with pytest.raises(AssertionError, match="impossible"):
        gradnas("resume", "x")


def test_an_interruption_says_how_to_go_on(gradnas: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(conf: RunConf, *, out: Path) -> None:
        RunFolder.create(out, conf)
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "run", interrupt)
    outcome = gradnas("run", "--preset", "demo", "--out", "here")
    assert outcome.code == 130
    assert outcome.err == "gradnas: interrupted. Continue with `gradnas resume here`.\n"


def test_a_folder_with_spaces_is_quoted_in_the_advice(gradnas: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(conf: RunConf, *, out: Path) -> None:
        RunFolder.create(out, conf)
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "run", interrupt)
    outcome = gradnas("run", "--preset", "demo", "--out", "my run")
    assert outcome.err == "gradnas: interrupted. Continue with `gradnas resume 'my run'`.\n"


def test_an_interruption_before_the_folder_exists_does_not_speak_of_resuming(
    gradnas: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "run", interrupt)
    outcome = gradnas("run", "--preset", "demo")
    assert (outcome.code, outcome.err) == (130, "gradnas: interrupted before anything was written.\n")
    assert outcome.out == "run folder: runs/run-1\n"


def test_a_warning_is_one_line(gradnas: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object, **__: object) -> None:
        warnings.warn("mind\nthe gap", stacklevel=1)
        raise ValueError("end")

    monkeypatch.setattr(api, "resume", warn)
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        outcome = gradnas("resume", "x")
    assert outcome.err == "gradnas: warning: mind the gap\ngradnas: error: end\n"
    assert warnings.showwarning is before


def test_the_default_folder_is_the_next_free_one(gradnas: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("stop")

    monkeypatch.setattr(api, "run", fail)
    (tmp_path / "runs" / "search-1").mkdir(parents=True)
    assert gradnas("search").out == "run folder: runs/search-2\n"


def test_the_module_runs_and_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys; from gradnas.cli import main; assert main(['--help']) == 0; "
        "print([m for m in ('torchvision', 'sklearn', 'matplotlib', 'rich', 'networkx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    version = subprocess.run([sys.executable, "-m", "gradnas", "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"gradnas {gn.__version__}\n"
