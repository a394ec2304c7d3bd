"""How many images each class of a data set has."""

from collections.abc import Mapping
from dataclasses import dataclass

from gradnas.report.records.plain_values import member, names, number


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Training images of each class, and what the run has to say against them."""

    counts: Mapping[str, int]
    warnings: tuple[str, ...]


def read_class_counts(summary: Mapping[str, object]) -> ClassCounts | None:
    """The counts of a summary; None where it has none, or other things in their place."""
    stored = summary.get("class_balance")
    counts = member(stored, "counts")
    if not isinstance(counts, Mapping) or not counts:
        return None
    known = {str(name): int(count) for name, value in counts.items() if (count := number(value)) is not None}
    if len(known) != len(counts) or any(count < 0 for count in known.values()):
        return None
    return ClassCounts(counts=known, warnings=names(member(stored, "warnings")) or ())
