"""A log of a run folder: a JSON object on each line, each with its checksum."""

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradnas.foundation.checksums import LINE_DIGITS, seal, unseal
from gradnas.foundation.files import append_durably, write_atomic
from gradnas.foundation.strict_json import read_json
from gradnas.pipeline.run_files import finite


@dataclass(frozen=True)
class _Line:
    """One line: its bytes with the line break, and the record; None for one that is damaged."""

    number: int
    raw: bytes
    record: dict[str, Any] | None

    @property
    def unfinished(self) -> bool:
        """Whether a process was killed while it wrote the line: every whole line ends with a line break."""
        return not self.raw.endswith(b"\n")


@dataclass(frozen=True)
class RunLog:
    """Lines in the order in which they were written.

    Args:
        path: The file, which appears with the first line.
    """

    path: Path

    def append(self, record: dict[str, Any]) -> None:
        """Add one line and flush it to the disk; numbers that are not finite become null.

        Raises:
            OSError: When it cannot be written, e.g. for a full disk; the lines before are intact.
        """
        append_durably(self.path, _written(record))

    def read(self, *, at_least: int = 0) -> list[dict[str, Any]]:
        """The records, those of damaged lines left out with a warning.

        Args:
            at_least: How many lines there were once: where there are fewer, a warning says so.
        """
        lines = list(self._lines())
        for line in lines:
            if line.record is None:
                warnings.warn(f"{self.path}, line {line.number} is damaged and left out.", stacklevel=3)
        if len(lines) < at_least:
            warnings.warn(
                f"{self.path} lacks {at_least - len(lines)} of the {at_least} lines that it had once.", stacklevel=3
            )
        return [line.record for line in lines if line.record is not None]

    def count(self) -> int:
        """How many lines there are, damaged ones among them."""
        return sum(1 for _ in self._lines())

    def rewind(self, epoch: int, phase: str | None = None) -> None:
        """Cut the log back to what a checkpoint knows: drop records of this epoch and later ones.

        Args:
            epoch: The first epoch that will run again.
            phase: Only records of this phase; None where records carry none.
        """
        kept = [r for r in self._readable() if r.record.get("phase") != phase or _epoch(r.record) < epoch]
        self._write([line.raw for line in kept])

    def restore(self, phase: str, records: Sequence[dict[str, Any]]) -> None:
        """Make the log say of a phase exactly what these records say, in their order; other phases stay as they are.

        The lines of the phase come last, as it is the one that goes on: phases that are restored in their order stand
        in it. What was cut off at the end is written again without a word, as a process that is killed loses its last
        line; a warning says how many other lines were damaged or lost.
        """
        readable = self._readable()
        own = [line for line in readable if line.record.get("phase") == phase]
        wanted = [json.loads(_plain(record)) for record in records]
        found = [line.record for line in own]
        lost = _lost(found, wanted)
        if lost:
            warnings.warn(
                f"{self.path} lacked {lost} of the {len(wanted)} records of {phase}; they were written again from the "
                "checkpoint.",
                stacklevel=3,
            )
        others = [line.raw for line in readable if line.record.get("phase") != phase]
        kept = [line.raw for line in own] if found == wanted else [_written(record) for record in wanted]
        self._write([*others, *kept])

    def warn_of_gaps(self, epochs: int) -> None:
        """Warn of the epochs from 0 to ``epochs - 1`` that have no record in a log without phases."""
        told = {line.record.get("epoch") for line in self._lines() if line.record is not None}
        missing = [str(epoch) for epoch in range(epochs) if epoch not in told]
        if missing:
            warnings.warn(
                f"{self.path} lacks the records of epoch {', '.join(missing)}: they were lost or damaged, and no "
                "checkpoint holds them. The result of the run does not depend on them; its report has gaps there.",
                stacklevel=3,
            )

    def _readable(self) -> list["_Record"]:
        """The lines that are not damaged; a warning names the others, but for one that was never finished."""
        readable = []
        for line in self._lines():
            if line.record is not None:
                readable.append(_Record(line.raw if not line.unfinished else line.raw + b"\n", line.record))
            elif not line.unfinished:
                warnings.warn(f"{self.path}, line {line.number} is damaged and left out.", stacklevel=4)
        return readable

    def _lines(self) -> Iterator[_Line]:
        if not self.path.is_file():
            return
        with open(self.path, "rb") as stream:
            for number, raw in enumerate(stream, start=1):
                if raw.strip():
                    yield _Line(number, raw, _record(raw))

    def _write(self, lines: Sequence[bytes]) -> None:
        content = b"".join(lines)
        if (self.path.is_file() and self.path.read_bytes() != content) or (content and not self.path.is_file()):
            write_atomic(self.path, content)


@dataclass(frozen=True)
class _Record:
    """A line that is not damaged: its bytes with the line break, and what it says."""

    raw: bytes
    record: dict[str, Any]


def _record(raw: bytes) -> dict[str, Any] | None:
    try:
        value = read_json(raw.decode("utf-8"))
        return unseal(value) if isinstance(value, dict) else None
    except ValueError:
        return None


def _plain(record: dict[str, Any]) -> str:
    return json.dumps(finite(record), ensure_ascii=False, allow_nan=False)


def _written(record: dict[str, Any]) -> bytes:
    return (json.dumps(seal(finite(record), LINE_DIGITS), ensure_ascii=False, allow_nan=False) + "\n").encode()


def _epoch(record: dict[str, Any]) -> float:
    epoch = record.get("epoch")
    return epoch if isinstance(epoch, (int, float)) else float("inf")


def _lost(found: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]) -> int:
    """How many of the wanted records before the last one found are missing."""
    if not found:
        return 0
    places = [wanted.index(record) for record in found if record in wanted]
    return 1 + max(places) - len(set(places)) if places else len(wanted)
