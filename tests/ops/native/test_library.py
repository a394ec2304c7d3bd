"""Tests of ``src/gradnas/ops/native/library.py``: compiled once, and never in the way."""

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gradnas.ops.native import library as built
from gradnas.ops.native.library import NativeLibrary, _compiled, is_usable, library

needs_compiler = pytest.mark.skipif(not built().by_dtype, reason=f"compiled operations are {built()}")


@pytest.fixture(autouse=True)
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that has compiled nothing, and a process that has asked for nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GRADNAS_NATIVE", raising=False)
    monkeypatch.delenv("CC", raising=False)
    library.cache_clear()
    is_usable.cache_clear()
    yield
    library.cache_clear()
    is_usable.cache_clear()


def compiled(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "gradnas" / "native").iterdir())


@needs_compiler
def test_compiled_once_for_later_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(library().by_dtype) == {torch.float32, torch.float64}
    assert str(library()) == "compiled"
    names = compiled(tmp_path)
    assert [name.split("-")[0] for name in names] == ["double", "float"]

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(subprocess, "run", refuse)
    library.cache_clear()
    assert library().by_dtype
    assert compiled(tmp_path) == names


@needs_compiler
def test_another_compiler_makes_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library().by_dtype
    monkeypatch.setenv("CC", "cc -O2")
    library.cache_clear()
    assert library().by_dtype
    assert len(compiled(tmp_path)) == 4


def test_off_is_no_reason_to_warn(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("GRADNAS_NATIVE", "off")
    assert library() == NativeLibrary({}, "GRADNAS_NATIVE=off")
    assert str(library()) == "not used: GRADNAS_NATIVE=off"
    assert not is_usable()
    assert not caplog.records


def test_no_other_word_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADNAS_NATIVE", "0")
    with pytest.raises(ValueError, match="GRADNAS_NATIVE must be on or off, got '0'"):
        library()


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("no-such-compiler", "there is no C compiler 'no-such-compiler'"), ("false", "false failed with code 1")],
)
def test_without_a_compiler_one_warning_says_what_to_do(
    compiler: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", compiler)
    with caplog.at_level(logging.WARNING):
        assert not is_usable()
        assert not is_usable()
    (record,) = caplog.records
    assert reason in record.getMessage()
    assert "Install gcc or clang with OpenMP, or set GRADNAS_NATIVE=off" in record.getMessage()
    assert reason in str(library())
    assert not list(tmp_path.rglob("*.so"))


@needs_compiler
def test_a_folder_that_cannot_be_written_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert not is_usable()
    assert "Not a directory" in caplog.text


@needs_compiler
def test_a_damaged_library_is_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    path = _compiled("float")
    path.write_bytes(b"damaged")
    assert not is_usable()
    assert f"{path}: file too short" in caplog.text
