"""What a test says of a network, beyond one number."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from gradnas.training.metrics import Score


@dataclass(frozen=True)
class ConfidenceBin:
    """Samples whose confidence, the probability of the likeliest class, lies in one interval.

    Args:
        count: How many.
        confidence: Their mean confidence in percent; None without samples.
        accuracy: Share of them whose likeliest class is the true one, in percent; None without samples.
    """

    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class TestReport:
    """A network on a test set; accuracies and errors in percent.

    Args:
        score: Loss, top-1, and top-5 from five classes on.
        confusion: Entry (i, j) counts samples of class i that were taken for class j.
        bins: Bin m of M, counted from 1, has the samples with a confidence in ((m − 1) / M, m / M].
    """

    __test__: ClassVar[bool] = False  # to pytest, a class of this name would be tests

    score: Score
    confusion: tuple[tuple[int, ...], ...]
    bins: tuple[ConfidenceBin, ...]

    @property
    def n_samples(self) -> int:
        """Samples tested."""
        return sum(map(sum, self.confusion))

    @property
    def class_accuracies(self) -> tuple[float | None, ...]:
        """Share of each class that was recognized; None for a class without a sample."""
        return tuple(100.0 * row[i] / sum(row) if sum(row) else None for i, row in enumerate(self.confusion))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy of the bins, weighted by samples.

        Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), equation 3.
        """
        filled = ((b.count, b.accuracy, b.confidence) for b in self.bins)
        gaps = (n * abs(acc - conf) for n, acc, conf in filled if acc is not None and conf is not None)
        return sum(gaps) / self.n_samples

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, what follows from others included; what was not measured is null."""
        return {
            "score": asdict(self.score),
            "class_accuracies": list(self.class_accuracies),
            "calibration_error": self.calibration_error,
            "bins": [asdict(bin) for bin in self.bins],
            "confusion": [list(row) for row in self.confusion],
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "TestReport":
        """The report of :meth:`to_dict`."""
        return TestReport(
            score=Score(**values["score"]),
            confusion=tuple(tuple(row) for row in values["confusion"]),
            bins=tuple(ConfidenceBin(**bin) for bin in values["bins"]),
        )
