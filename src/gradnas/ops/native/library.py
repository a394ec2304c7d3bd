"""The compiled form of the C files of this room: made at first use, kept for later processes."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

_LOG = logging.getLogger(__name__)

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("separable.c", "normalize.c"))
_HEADER = Path(__file__).with_name("vectors.h")
SWITCH = "GRADNAS_NATIVE"
_REALS = {torch.float32: "float", torch.float64: "double"}
_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-Wno-psabi")
_SECONDS_TO_COMPILE = 120


@dataclass(frozen=True)
class NativeLibrary:
    """What the compiler gave, or why there is nothing.

    Attributes:
        by_dtype: The loaded library for each precision; empty without one.
        reason: Why there is none.
    """

    by_dtype: dict[torch.dtype, ctypes.CDLL]
    reason: str = ""

    def __str__(self) -> str:
        return "compiled" if self.by_dtype else f"not used: {self.reason}"


@functools.cache
def library() -> NativeLibrary:
    """The library for this processor, compiled if no earlier process has done so; one attempt per process.

    ``GRADNAS_NATIVE=off`` does without. The compiler is ``$CC``, by default ``cc``; what it makes lies in
    ``gradnas/native`` below ``$XDG_CACHE_HOME``, by default ``~/.cache``. Computing without it gives the same results
    to rounding, and takes longer.

    Raises:
        ValueError: For a value of ``GRADNAS_NATIVE`` other than ``on`` and ``off``.
    """
    switch = os.environ.get(SWITCH) or "on"
    if switch not in ("on", "off"):
        raise ValueError(f"{SWITCH} must be on or off, got {switch!r}.")
    if switch == "off":
        return NativeLibrary({}, f"{SWITCH}=off")
    try:
        return NativeLibrary({dtype: ctypes.CDLL(str(_compiled(real))) for dtype, real in _REALS.items()})
    except (OSError, subprocess.SubprocessError) as error:
        return NativeLibrary({}, str(error))


@functools.cache
def is_usable() -> bool:
    """Whether there is a library; a warning is logged if there could be one and is not."""
    found = library()
    if not found.by_dtype and os.environ.get(SWITCH) != "off":
        _LOG.warning(
            "computing on the CPU without compiled operations, which takes longer: %s. Install gcc or clang with "
            "OpenMP, or set %s=off to do without.",
            found.reason,
            SWITCH,
        )
    return bool(found.by_dtype)


def _compiled(real: str) -> Path:
    """The path of the library for one precision."""
    compiler = _compiler()
    sources = [path.read_bytes() for path in (_HEADER, *_SOURCES)]
    made_of = (*sources, " ".join((*compiler, *_FLAGS, *_libraries(), real)).encode(), _processor().encode())
    path = _folder() / f"{real}-{hashlib.sha256(b'|'.join(made_of)).hexdigest()[:32]}.so"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".compiling-") as folder:
        made = Path(folder) / path.name
        command = [*compiler, *_FLAGS, f"-DREAL={real}", *map(str, _SOURCES), *_libraries(), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_TO_COMPILE, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise OSError(f"{compiler[0]} failed with code {done.returncode}: {said[0] if said else 'it says nothing'}")
        os.replace(made, path)  # of two processes that compile, either may be the last
    return path


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(named[0]) is None:
        raise OSError(f"there is no C compiler {named[0]!r}")
    return named


def _libraries() -> list[str]:
    """The OpenMP that torch has brought and loaded, before any other: there shall be one pool of threads."""
    of_torch = sorted(Path(torch.__file__).parent.glob("lib/libgomp*.so*"))
    return ["-lm", "-Wl,--as-needed", *map(str, of_torch[:1])]


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gradnas" / "native"


def _processor() -> str:
    """What the code is compiled for: a home folder may be shared by machines with other processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return "\n".join([platform.machine(), platform.processor(), *named])
