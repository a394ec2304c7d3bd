"""The compiled form of the C files of this room: made at first use, kept for later processes."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

_LOG = logging.getLogger(__name__)

SWITCH = "GRADNAS_NATIVE"
REALS = {torch.float32: "float", torch.float64: "double"}
_SOURCES = tuple(Path(__file__).with_name(name) for name in ("chains.c", "pools.c"))
_HEADERS = tuple(Path(__file__).with_name(name) for name in ("vectors.h", "convolutions.h", "columns.h"))
_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-Wno-psabi")
_SECONDS_TO_COMPILE = 120


class NoLibraryError(Exception):
    """Why there is no compiled library."""


@functools.cache
def find_library(dtype: torch.dtype) -> ctypes.CDLL | NoLibraryError:
    """The library for numbers of this precision on this processor, or why there is none; one attempt per process.

    It is compiled if no earlier process has done so. ``GRADNAS_NATIVE=off`` does without. The compiler is ``$CC``, by
    default ``cc``; what it makes lies in ``gradnas/native`` below ``$XDG_CACHE_HOME``, by default ``~/.cache``.
    Computing without it gives the same results to rounding, and takes longer.

    Args:
        dtype: float32 or float64.

    Raises:
        ValueError: For a value of ``GRADNAS_NATIVE`` other than ``on`` and ``off``.
    """
    switch = os.environ.get(SWITCH) or "on"
    if switch not in ("on", "off"):
        raise ValueError(f"{SWITCH} must be on or off, got {switch!r}.")
    if switch == "off":
        return NoLibraryError(f"{SWITCH}=off")
    try:
        path = _compiled(REALS[dtype])
        try:
            return ctypes.CDLL(str(path))
        except OSError:  # a file that was cut off, or made for another system
            path.unlink()
            return ctypes.CDLL(str(_compiled(REALS[dtype])))
    except NoLibraryError as reason:
        return reason
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        return NoLibraryError(str(error))  # no home, a full disk, a compiler that hangs, a CC that is no command


@functools.cache
def is_usable(dtype: torch.dtype) -> bool:
    """Whether there is a library for this precision; a warning is logged if there could be one and is not."""
    if dtype not in REALS:
        return False
    found = find_library(dtype)
    if isinstance(found, NoLibraryError) and os.environ.get(SWITCH) != "off":
        _LOG.warning(
            "computing on the CPU without compiled operations, which takes longer: %s. They need gcc or clang with "
            "OpenMP, as cc or named by CC; %s=off does without, and without this warning.",
            found,
            SWITCH,
        )
    return not isinstance(found, NoLibraryError)


def _compiled(real: str) -> Path:
    """The path of the library for one precision."""
    compiler = _compiler()
    sources = [path.read_bytes() for path in (*_HEADERS, *_SOURCES)]
    settings = " ".join((*compiler, _version(compiler), *_FLAGS, *_libraries(), real, _processor()))
    folder = _folder()
    path = folder / f"{real}-{hashlib.sha256(b'|'.join([*sources, settings.encode()])).hexdigest()[:32]}.so"
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory(dir=folder, prefix=".compiling-") as temporary:
        made = Path(temporary) / path.name
        done = _run([*compiler, *_FLAGS, f"-DREAL={real}", *map(str, _SOURCES), *_libraries(), "-o", str(made)])
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["it says nothing"]
            telling = next((line for line in said if "error" in line.lower()), said[0])
            raise NoLibraryError(f"{compiler[0]} failed with code {done.returncode}: {telling}")
        os.replace(made, path)  # of two processes that compile, either may be the last
    return path


def _compiler() -> list[str]:
    named = os.environ.get("CC", "")
    try:
        compiler = shlex.split(named) or ["cc"]
    except ValueError as error:
        raise NoLibraryError(f"CC={named} is no command: {error}") from error
    if shutil.which(compiler[0]) is None:
        raise NoLibraryError(f"there is no C compiler {compiler[0]!r}")
    return compiler


def _version(compiler: list[str]) -> str:
    return _run([*compiler, "--version"]).stdout


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_SECONDS_TO_COMPILE, check=False
    )


def _libraries() -> list[str]:
    """The mathematical one, and on Linux the OpenMP that torch has loaded, so that gcc's code shares its threads."""
    of_torch = sorted(Path(torch.__file__).parent.glob("lib/libgomp*.so*"))
    return ["-lm", *(["-Wl,--as-needed", str(of_torch[0])] if sys.platform == "linux" and of_torch else [])]


def _folder() -> Path:
    """Where libraries are kept; code that others may have put there is not run."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gradnas" / "native"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise NoLibraryError(f"others may write into {folder}: make it yours alone (chmod 700), or set XDG_CACHE_HOME")
    return folder


def _processor() -> str:
    """What the code is compiled for: a home folder may be shared by machines with other processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return "\n".join([platform.machine(), platform.processor(), *named])
