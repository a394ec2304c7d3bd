"""Per-class results of a confusion matrix."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradnas.report.drawing.heat_map import heat_map
from gradnas.report.drawing.scene import Scene
from gradnas.report.records.plain_values import names, table

_MOST_DRAWN = 120  # classes; a larger matrix is gray noise and a heavy page, the table remains
_MOST_NAMED = 25


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """One class: test images of it, the share of them recognized, the share of its predictions that are right.

    Shares are in percent, None where there is nothing to divide by; training images are None where not counted.
    """

    name: str
    n_train: int | None
    n_test: int
    recall: float | None
    precision: float | None
    mistaken_for: str


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts, rows the true class, columns the predicted one."""

    classes: tuple[str, ...]
    counts: tuple[tuple[float, ...], ...]

    def results(self, n_train: Mapping[str, int]) -> tuple[ClassResult, ...]:
        """One result per class, the hardest first.

        Args:
            n_train: Name of a class to its training images, as far as they are known.
        """
        n = len(self.classes)
        results = []
        for c in range(n):
            row, total, predicted = self.counts[c], sum(self.counts[c]), sum(self.counts[r][c] for r in range(n))
            worst = max((k for k in range(n) if k != c), key=lambda k: row[k], default=c)
            mistaken = f"{self.classes[worst]} ({row[worst]:.0f})" if worst != c and row[worst] > 0 else ""
            results.append(
                ClassResult(
                    name=self.classes[c],
                    n_train=n_train.get(self.classes[c]),
                    n_test=round(total),
                    recall=100 * row[c] / total if total else None,
                    precision=100 * row[c] / predicted if predicted else None,
                    mistaken_for=mistaken,
                )
            )
        return tuple(sorted(results, key=lambda result: (result.recall is None, result.recall)))

    def scene(self) -> Scene | None:
        """The matrix; None for more classes than a page can show.

        Colors are by the cube root of the share of the row: in proportion, mistakes would be invisible.
        """
        n = len(self.classes)
        if n > _MOST_DRAWN:
            return None
        shares = [[math.cbrt(count / max(sum(row), 1)) for count in row] for row in self.counts]
        named = n <= _MOST_NAMED
        texts = [[f"{count:.0f}" if count else "" for count in row] for row in self.counts]
        cell = (38.0, 24.0) if n <= 12 else (28.0, 20.0) if named else (12.0, 12.0) if n <= 60 else (7.0, 7.0)
        return heat_map(
            self.classes,
            shares,
            texts,
            title="Test images of each class by what they were taken for",
            axes=("true class", "predicted class"),
            cell=cell,
            dense=not named,
        )


def read_confusion(summary: Mapping[str, object], problems: list[str]) -> Confusion | None:
    """The matrix of a summary; a damaged one is named in ``problems``."""
    if summary.get("confusion") is None:
        return None
    stored = summary["confusion"]
    n = len(stored) if isinstance(stored, Sequence) else 0
    counts = table(stored, n, n)
    if counts is None or any(count < 0 for row in counts for count in row):
        problems.append("The confusion matrix of summary.json is not a square table of counts; it is left out here.")
        return None
    classes = names(summary.get("classes")) or ()
    if len(classes) != n:
        classes = tuple(f"class {c}" for c in range(n))
    return Confusion(classes=classes, counts=counts)
