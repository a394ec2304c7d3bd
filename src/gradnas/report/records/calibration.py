"""How sure a network was of its answers on the test set, and how often it was right."""

from collections.abc import Mapping
from dataclasses import dataclass

from gradnas.report.records.plain_values import member, number
from gradnas.report.records.quantities import percent

_SURE_ENOUGH = 1.0  # points between confidence and accuracy that are no news


@dataclass(frozen=True, kw_only=True)
class ConfidenceBin:
    """Test images whose confidence lies between two bounds.

    Args:
        low: Lower bound in percent.
        high: Upper bound.
        count: How many.
        confidence: Their mean confidence in percent; None without images.
        accuracy: Share of them that was recognized, likewise.
    """

    low: float
    high: float
    count: float
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The bins of a test, by rising confidence, and the expected calibration error in points."""

    bins: tuple[ConfidenceBin, ...]
    error: float | None

    def words(self) -> str:
        """What the bins say of the network as a whole."""
        known = [(b.count, b.confidence, b.accuracy) for b in self.bins if b.count and _is_known(b)]
        total = sum(count for count, _, _ in known)
        if not total:
            return ""
        confidence = sum(count * (value or 0.0) for count, value, _ in known) / total
        accuracy = sum(count * (value or 0.0) for count, _, value in known) / total
        gap = confidence - accuracy
        judgment = (
            "it is about as sure as it should be"
            if abs(gap) <= _SURE_ENOUGH
            else "it is surer than it should be"
            if gap > 0
            else "it is less sure than it could be"
        )
        error = "" if self.error is None else f" The calibration error is {self.error:.2f} points."
        return (
            f"On average the network gives its answer a probability of {percent(confidence)}, and {percent(accuracy)} "
            f"of its answers are right: {judgment}.{error}"
        )


def _is_known(found: ConfidenceBin) -> bool:
    return found.confidence is not None and found.accuracy is not None


def read_calibration(summary: Mapping[str, object], problems: list[str]) -> Calibration | None:
    """The calibration of a summary; a damaged one is named in ``problems``."""
    stored = summary.get("test_calibration_bins")
    if stored is None:
        return None
    n = len(stored) if isinstance(stored, list) else 0
    read = [_bin(value, k, n) for k, value in enumerate(stored)] if isinstance(stored, list) else []
    bins = tuple(each for each in read if each is not None)
    if not bins or len(bins) < len(read):
        problems.append("The calibration of summary.json is not a list of bins with counts; it is left out here.")
        return None
    return Calibration(bins=bins, error=number(summary.get("test_calibration_error")))


def _bin(value: object, k: int, n: int) -> ConfidenceBin | None:
    count = number(member(value, "count"))
    confidence, accuracy = (_share(member(value, name)) for name in ("confidence", "accuracy"))
    if count is None or count < 0:
        return None
    return ConfidenceBin(low=100 * k / n, high=100 * (k + 1) / n, count=count, confidence=confidence, accuracy=accuracy)


def _share(value: object) -> float | None:
    found = number(value)
    return found if found is not None and 0 <= found <= 100 else None
