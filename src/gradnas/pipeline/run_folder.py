"""The run folder: everything a run leaves, and nothing outside it."""

import json
import math
import os
import platform
import shlex
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gradnas.config import RunConf, from_yaml, to_yaml
from gradnas.foundation.files import write_atomic
from gradnas.training import EpochRecord

MARKER = "environment.json"  # every folder that gradnas made has one


class RunFolder:
    """One run on disk. Files are written in one step; logs get one line at a time.

    Args:
        path: The folder, which must exist; see :meth:`create` and :meth:`open`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @staticmethod
    def create(path: str | os.PathLike[str], conf: RunConf) -> "RunFolder":
        """Make a new run folder with its configuration and environment.

        Raises:
            FileExistsError: When the folder exists and is not empty; nothing in it is touched.
            OSError: When it cannot be written.
        """
        folder = RunFolder(path)
        if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
            what = "a run" if folder.is_run() else "files"
            raise FileExistsError(
                f"{folder.path} already holds {what}. To continue a run use `gradnas resume {folder.path}` "
                "(in Python: resume=True); otherwise choose another name. Nothing was overwritten."
            )
        facts = environment()
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            folder.write_json(MARKER, facts)
            folder.write_config(conf)
        except BaseException:
            for name in (MARKER, "config.yaml"):  # an unfinished folder could be neither resumed nor used again
                (folder / name).unlink(missing_ok=True)
            raise
        return folder

    @staticmethod
    def open(path: str | os.PathLike[str]) -> "RunFolder":
        """An existing run folder. FileNotFoundError when there is none."""
        folder = RunFolder(path)
        if not folder.is_run():
            raise FileNotFoundError(f"{folder.path} is not a run folder: it has no config.yaml with {MARKER}.")
        return folder

    def is_run(self) -> bool:
        """True when gradnas made this folder."""
        return (self.path / MARKER).is_file() and (self.path / "config.yaml").is_file()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def checkpoint(self, phase: str) -> Path:
        """The checkpoint file of a phase."""
        return self.path / "checkpoints" / f"{phase}.pt"

    def read_config(self) -> RunConf:
        """The resolved configuration. ValueError when it is damaged, or of a gradnas with other settings."""
        path = self / "config.yaml"
        try:
            return from_yaml(path.read_text(encoding="utf-8"), str(path))
        except ValueError as error:
            writer, reader = self.version(), _version("gradnas")
            if writer in (None, reader):
                raise
            raise ValueError(
                f"{error} The run was written by gradnas {writer}, this is gradnas {reader}: install that version to "
                "go on with the run."
            ) from error

    def version(self) -> str | None:
        """The gradnas that made the folder; None when it does not say."""
        facts = self.read_json(MARKER)
        found = facts.get("gradnas") if isinstance(facts, dict) else None
        return found if isinstance(found, str) else None

    def write_config(self, conf: RunConf) -> None:
        """Store the resolved configuration."""
        write_atomic(self / "config.yaml", to_yaml(conf))

    def write_json(self, name: str, value: Any) -> None:
        """Store a value as indented JSON; numbers that are not finite, which JSON does not have, become null."""
        write_atomic(self / name, json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Read :meth:`write_json`; None when there is no such file. ValueError when it is damaged."""
        path = self / name
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Add one line to a log; numbers that are not finite become null.

        Raises:
            OSError: When it cannot be written, e.g. for a full disk; the lines before are intact.
        """
        line = (json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n").encode()
        path = self / name
        size = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "ab") as stream:
                stream.write(line)
        except OSError as error:
            if path.exists():
                os.truncate(path, size)
            raise OSError(
                error.errno,
                f"cannot add {len(line):,} bytes to {path}: {error.strerror}. The lines before are intact; free some "
                "space and continue with `gradnas resume`",
            ) from error

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The records of a log; a last line that a crash cut short is left out with a warning."""
        path = self / name
        if not path.is_file():
            return []
        records = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                records.append(json.loads(line))
            except ValueError:
                warnings.warn(f"{path}, line {number} is damaged and left out.", stacklevel=2)
        return records

    def rewind(self, name: str, epoch: int, phase: str | None = None) -> None:
        """Cut a log back to what a checkpoint knows: drop records of this epoch and later ones.

        Args:
            name: The log.
            epoch: The first epoch that will run again.
            phase: Only records of this phase; None where records carry none.
        """
        if not (self / name).is_file():
            return
        kept = [r for r in self.read_lines(name) if r.get("phase") != phase or r["epoch"] < epoch]
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
        write_atomic(self / name, text)

    def metrics(self, phase: str) -> list[EpochRecord]:
        """The records of one phase."""
        return [EpochRecord.from_dict(r) for r in self.read_lines("metrics.jsonl") if r["phase"] == phase]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def environment() -> dict[str, Any]:
    """Versions, machine, git revision and command: what one must know to repeat a run."""
    packages = ["gradnas", "torch", "torchvision", "numpy", "scikit-learn"]
    return {
        "gradnas": _version("gradnas"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git": _git_revision(),
        "command": shlex.join([*_program(Path(sys.argv[0])), *sys.argv[1:]]),
    }


def _program(script: Path) -> list[str]:
    """How the program was called: by its name, or as a module of Python."""
    return ["python", "-m", script.parent.name] if script.name == "__main__.py" else [script.name]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git_revision() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
