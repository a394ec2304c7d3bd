"""Tests of ``src/gradnas/ops/native/library.py``: compiled once, and never in the way."""

import ctypes
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas.ops.native import NoLibraryError, find_library, is_usable
from gradnas.ops.native import library as module

needs_compiler = pytest.mark.skipif(not is_usable(torch.float32), reason="there is no C compiler with OpenMP")


@pytest.fixture(autouse=True)
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that has compiled nothing, and a process that has asked for nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GRADNAS_NATIVE", raising=False)
    monkeypatch.delenv("CC", raising=False)
    forget()
    yield
    forget()


def forget() -> None:
    find_library.cache_clear()
    is_usable.cache_clear()


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "gradnas" / "native").iterdir())


def compiler(path: Path, *lines: str) -> str:
    """A program that says something and fails."""
    path.write_bytes("\n".join(["#!/bin/sh", *lines, "exit 1"]).encode("latin-1"))
    path.chmod(0o755)
    return str(path)


@needs_compiler
def test_compiled_once_for_later_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(find_library(torch.float32), ctypes.CDLL)
    (name,) = kept(tmp_path)
    assert name.startswith("float-")
    commands: list[Any] = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **how: commands.append(command) or run(command, **how))
    forget()
    assert isinstance(find_library(torch.float32), ctypes.CDLL)
    assert kept(tmp_path) == [name]
    assert [command[1:] for command in commands] == [["--version"]]
    assert isinstance(find_library(torch.float64), ctypes.CDLL)
    assert len(kept(tmp_path)) == 2


@needs_compiler
def test_another_compiler_makes_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_version", lambda compiler: "cc 1.0")
    assert isinstance(find_library(torch.float32), ctypes.CDLL)
    monkeypatch.setattr(module, "_version", lambda compiler: "cc 2.0")
    forget()
    assert isinstance(find_library(torch.float32), ctypes.CDLL)
    assert len(kept(tmp_path)) == 2


@needs_compiler
def test_a_damaged_library_is_compiled_again(tmp_path: Path) -> None:
    path = module._compiled("float")
    path.write_bytes(b"damaged")
    assert is_usable(torch.float32)
    assert kept(tmp_path) == [path.name]


def test_off_is_no_reason_to_warn(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("GRADNAS_NATIVE", "off")
    assert str(find_library(torch.float32)) == "GRADNAS_NATIVE=off"
    assert not is_usable(torch.float32)
    assert not caplog.records


def test_no_other_word_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADNAS_NATIVE", "0")
    with pytest.raises(ValueError, match="GRADNAS_NATIVE must be on or off, got '0'"):
        find_library(torch.float32)


def test_other_precisions_have_none() -> None:
    assert not is_usable(torch.bfloat16)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("no-such-compiler", "there is no C compiler 'no-such-compiler'"),
        ('gcc "', 'CC=gcc " is no command: No closing quotation'),
        ("false", "false failed with code 1: it says nothing"),
    ],
)
def test_without_a_compiler_one_warning_says_what_to_do(
    named: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", named)
    with caplog.at_level(logging.WARNING):
        assert not is_usable(torch.float32)
        assert not is_usable(torch.float32)
    (record,) = caplog.records
    assert reason in record.getMessage()
    assert "They need gcc or clang with OpenMP, as cc or named by CC; GRADNAS_NATIVE=off" in record.getMessage()
    assert isinstance(find_library(torch.float32), NoLibraryError)
    assert not list(tmp_path.rglob("*.so"))


def test_the_line_with_the_error_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = ("echo 'x.c: warning: für nichts' >&2", "echo 'x.c:1: fatal error: nö' >&2")
    monkeypatch.setenv("CC", compiler(tmp_path / "cc", *says))
    assert "failed with code 1: x.c:1: fatal error: n" in str(find_library(torch.float32))


def test_a_user_without_a_home_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", nowhere)
    assert not is_usable(torch.float32)


@needs_compiler
def test_a_folder_that_cannot_be_written_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "Not a directory" in str(find_library(torch.float32))


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system knows no owners")
def test_code_that_others_may_have_written_is_not_run(tmp_path: Path) -> None:
    path = module._compiled("float")
    path.parent.chmod(0o777)
    assert "others may write into" in str(find_library(torch.float32))
