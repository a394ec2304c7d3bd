"""The run folder: everything a run leaves, and nothing outside it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradnas.arch import DatasetConf, ModelDesc
from gradnas.config import RunConf, from_stored, same_run, to_stored
from gradnas.foundation.files import leftovers, write_atomic
from gradnas.foundation.locks import locked
from gradnas.pipeline.environment import changed_facts, doubts, environment, version_of
from gradnas.pipeline.run_files import read_object, write_value
from gradnas.pipeline.run_log import RunLog
from gradnas.report.records.combination import GRID_FILE
from gradnas.report.records.restoring import how_to_restore
from gradnas.report.records.run_folder import LOCK
from gradnas.training import EpochRecord

MARKER = "environment.json"  # every folder that gradnas made has one
ARCH_WEIGHTS = "arch.safetensors"  # of a found architecture, as the search has trained them
BEGINNINGS = (ARCH_WEIGHTS, "arch.json", "summary.json")  # what the retraining of another run begins with
METRICS = "metrics.jsonl"
MODEL_FACTS = "model.json"  # in place of an architecture where the network was not found by a search
LOGS = (METRICS, "alphas.jsonl")

_MEANT = "If the change is meant, delete the entry with the checksum."
_NO_LOCK = frozenset({"report.html"})  # `gradnas report` writes it while a run goes on
_ABANDONED_S = 600.0


class RunFolder:
    """One run on disk. Files are written in one step and carry checksums; logs get one line at a time.

    Args:
        path: The folder, which must exist; see :meth:`create`, :meth:`open` and :meth:`entered`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @staticmethod
    def create(path: str | os.PathLike[str], conf: RunConf) -> "RunFolder":
        """Make a new run folder with its configuration and environment; of two processes that try, one succeeds.

        Raises:
            FileExistsError: When the folder exists and is not empty; nothing in it is touched.
            InUseError: When another process is about to fill it.
            OSError: When it cannot be written.
        """
        with RunFolder.entered(path, conf) as folder:
            return folder

    @staticmethod
    def open(path: str | os.PathLike[str]) -> "RunFolder":
        """An existing run folder. FileNotFoundError when there is none."""
        folder = RunFolder(path)
        if not folder.is_run():
            raise FileNotFoundError(f"{folder.path} is not a run folder: it has no config.yaml with {MARKER}.")
        return folder

    @staticmethod
    @contextmanager
    def entered(
        path: str | os.PathLike[str],
        conf: RunConf,
        *,
        resume: bool = False,
        begin: Callable[["RunFolder"], None] | None = None,
    ) -> Iterator["RunFolder"]:
        """A folder for a run of this configuration, that of this process alone until the end of the block.

        Args:
            path: A new or empty folder; made where it is missing.
            conf: The resolved configuration.
            resume: Take the run that is there already, if there is one.
            begin: Writes :data:`BEGINNINGS` of a new run that does not start from nothing. They are there before the
                folder counts as a run.

        Raises:
            FileExistsError: When the folder holds something that is not to be resumed; nothing in it is touched.
            InUseError: When another process works in it.
            OSError: When it cannot be written.
            ValueError: When the run that is there has another configuration, or a damaged one.
        """
        folder = RunFolder(path)
        if not (resume and folder.is_run()):
            folder._check_empty()  # before a lock file is put among things that are not ours
        missing = [parent for parent in (folder.path, *folder.path.parents) if not parent.exists()]
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                error.errno, f"cannot make the folder {folder.path}: {error.strerror}; choose another output folder"
            ) from error
        try:
            with folder.locked():
                if resume and folder.is_run():
                    folder._check_same(conf)
                else:
                    folder._check_empty()
                    folder._fill(conf, begin)
                yield folder
        finally:
            for parent in missing:
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()

    @contextmanager
    def locked(self) -> Iterator["RunFolder"]:
        """The folder, that of this process alone until the end of the block; what killed writers left is removed.

        Raises:
            InUseError: When another process works in it, naming that, or this one has entered it already.
            OSError: When it cannot be written.
        """
        with locked(self / LOCK, self.path) as alone:
            if alone:
                self._remove_leftovers()
            yield self

    def is_run(self) -> bool:
        """True when gradnas made this folder."""
        return (self.path / MARKER).is_file() and (self.path / "config.yaml").is_file()

    def _check_empty(self) -> None:
        if not self.path.exists():
            return
        if self.path.is_dir():
            ours = {LOCK, *(path.name for _, path in leftovers(self.path))}
            if self._begun():
                ours |= {MARKER, *BEGINNINGS}
            if all(path.name in ours for path in self.path.iterdir()):
                return
        what = "a run" if self.is_run() else "files"
        raise FileExistsError(
            f"{self.path} already holds {what}. To continue a run use `gradnas resume {self.path}` "
            "(in Python: resume=True); otherwise choose another name. Nothing was overwritten."
        )

    def _begun(self) -> bool:
        """Whether a process was killed here while it filled a new folder, of which ``config.yaml`` comes last."""
        try:
            return not (self / "config.yaml").exists() and "gradnas" in (self.read_json(MARKER) or {})
        except ValueError:
            return False

    def _check_same(self, conf: RunConf) -> None:
        stored = self.read_config()
        if not same_run(stored, conf):
            raise ValueError(
                f"{self.path} holds a run with another configuration. Continue it as it is with "
                f"`gradnas resume {self.path}`, or choose another folder."
            )
        if stored != conf:
            self.write_config(conf)

    def _fill(self, conf: RunConf, begin: Callable[["RunFolder"], None] | None) -> None:
        try:
            self.write_json(MARKER, environment(deterministic=conf.deterministic))
            if begin is not None:
                begin(self)
            self.write_config(conf)
        except BaseException:
            # an unfinished folder could be neither resumed nor used again
            for name in (MARKER, *BEGINNINGS, "config.yaml"):
                (self / name).unlink(missing_ok=True)
            raise

    def _remove_leftovers(self) -> None:
        for folder, _, _ in os.walk(self.path):
            for name, path in leftovers(Path(folder)):
                if name not in _NO_LOCK or time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink(missing_ok=True)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def checkpoint(self, phase: str) -> Path:
        """The checkpoint file of a phase."""
        return self.path / "checkpoints" / f"{phase}.pt"

    def read_config(self) -> RunConf:
        """The resolved configuration. ValueError when it is damaged, or of a gradnas with other settings."""
        path = self / "config.yaml"
        try:
            return from_stored(path.read_text(encoding="utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is damaged: it is no UTF-8 text. Put the original back.") from error
        except ValueError as error:
            writer, reader = self.version(), version_of("gradnas")
            if writer in (None, reader):
                raise
            raise ValueError(
                f"{error} The run was written by gradnas {writer}, this is gradnas {reader}: install that version to "
                "go on with the run."
            ) from error

    def version(self) -> str | None:
        """The gradnas that made the folder; None when it does not say, or no longer can."""
        try:
            facts = self.read_json(MARKER)
        except ValueError:
            return None
        found = facts.get("gradnas") if isinstance(facts, dict) else None
        return found if isinstance(found, str) else None

    def write_config(self, conf: RunConf) -> None:
        """Store the resolved configuration."""
        write_atomic(self / "config.yaml", to_stored(conf))

    def write_json(self, name: str, value: Any) -> None:
        """Store a value as indented JSON, an object with its checksum as last member.

        Numbers that are not finite, which JSON does not have, become null.
        """
        write_value(self / name, value)

    def read_json(self, name: str) -> Any:
        """Read :meth:`write_json`; None when there is no such file. ValueError when it is damaged."""
        advice = {
            **dict.fromkeys(
                ("summary.json", GRID_FILE),
                f"Without it, delete the file: `gradnas resume {self.path}` makes it again.",
            ),
            MODEL_FACTS: f"Without it, delete the file: `gradnas resume {self.path}` makes it again.",
            MARKER: "No result depends on it.",  # a resume begins it anew
        }
        return read_object(self / name, advice.get(name, _MEANT))

    def take_arch(self, other: Path, *, weights: bool) -> None:
        """Copy the found architecture of another run folder, and its weights if there are any and they are wanted."""
        for name in (ARCH_WEIGHTS, "arch.json") if weights else ("arch.json",):
            if name == "arch.json" or (other / name).is_file():
                write_atomic(self / name, (other / name).read_bytes())

    def read_desc(self, name: str = "arch.json") -> ModelDesc:
        """A description in the folder; an error says what makes it again.

        Raises:
            FileNotFoundError: When there is no such file.
            ValueError: When it is damaged.
        """
        try:
            return ModelDesc.load(self / name)
        except ValueError as error:
            restore = how_to_restore(self.path, name)
            if restore is None:
                raise
            raise ValueError(f"{self / name} is damaged. {restore}") from error

    def read_model_facts(self) -> DatasetConf:
        """For which images the network of a run without a search was built.

        Raises:
            ValueError: When the file that says so is missing or damaged.
        """
        facts = self.read_json(MODEL_FACTS)
        try:
            channels, height, width = facts["image_shape"]
            return DatasetConf(channels=channels, image_size=(height, width), n_classes=facts["n_classes"])
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{self / MODEL_FACTS} does not say for which images the network was built. `gradnas resume "
                f"{self.path}` writes it again."
            ) from error

    def record_continuation(self, *, deterministic: bool = False) -> tuple[str, ...]:
        """Note in ``environment.json`` that the run goes on now, with what is otherwise than when it last did.

        A file that is damaged is kept as ``environment.json.damaged`` and begun anew: no result depends on it.

        Args:
            deterministic: Whether the run takes torch's deterministic algorithms alone.

        Returns:
            Sentences for the user on changes that may move the last bits of the result, and on damage.
        """
        now = environment(deterministic=deterministic)
        try:
            facts = self.read_json(MARKER)
            if not isinstance(facts, dict):
                raise ValueError(f"{self / MARKER} is not a JSON object.")
        except ValueError as error:
            kept = (self / MARKER).with_name(f"{MARKER}.damaged")
            write_atomic(kept, (self / MARKER).read_bytes())
            self.write_json(MARKER, now)
            return (f"{error} Where the run began is no longer known; the file is kept as {kept.name}.",)
        earlier = facts.get("continued", [])
        known = {name: value for name, value in facts.items() if name != "continued"}
        for entry in earlier if isinstance(earlier, list) else []:
            known |= entry if isinstance(entry, dict) else {}
        entries = [*(earlier if isinstance(earlier, list) else []), changed_facts(known, now)]
        self.write_json(MARKER, {**facts, "continued": entries})
        return doubts(known, now)

    def log(self, name: str) -> RunLog:
        """A log of the run."""
        return RunLog(self / name)

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Add one line to a log; see :meth:`RunLog.append`."""
        self.log(name).append(record)

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The records of a log; damaged lines are left out with a warning, and so are lines that are lost."""
        return self.log(name).read(at_least=self.lines_known(name))

    def rewind(self, name: str, epoch: int, phase: str | None = None) -> None:
        """Cut a log back to what a checkpoint knows; see :meth:`RunLog.rewind`."""
        self.log(name).rewind(epoch, phase)

    def restore(self, name: str, phase: str, records: list[dict[str, Any]]) -> None:
        """Make a log say of a phase exactly what a checkpoint knows; see :meth:`RunLog.restore`."""
        self.log(name).restore(phase, records)

    def warn_of_gaps(self, name: str, epochs: int) -> None:
        """Warn of epochs that a log lacks and no checkpoint can tell; see :meth:`RunLog.warn_of_gaps`."""
        self.log(name).warn_of_gaps(epochs)

    def count_lines(self) -> dict[str, int]:
        """How many lines each log has, or had: kept in the summary, so that lines that are lost later are missed."""
        counts = {name: self.log(name).count() if (self / name).is_file() else 0 for name in LOGS}
        known = {name: max(count, self.lines_known(name)) for name, count in counts.items()}
        return {name: count for name, count in known.items() if count or (self / name).is_file()}

    def lines_known(self, name: str) -> int:
        """How many lines a log had when the summary was last written; 0 where it does not say."""
        try:
            summary = self.read_json("summary.json")
        except ValueError:
            return 0
        counts = summary.get("log_lines") if isinstance(summary, dict) else None
        count = counts.get(name) if isinstance(counts, dict) else None
        return count if isinstance(count, int) else 0

    def metrics(self, phase: str) -> list[EpochRecord]:
        """The records of one phase."""
        try:
            return [EpochRecord.from_dict(r) for r in self.read_lines("metrics.jsonl") if r.get("phase") == phase]
        except (KeyError, TypeError, ValueError) as error:
            log = self / "metrics.jsonl"
            raise ValueError(f"{log} has a record of {phase} that is none of an epoch: {error}") from error
