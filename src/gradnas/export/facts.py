"""What an exported network carries about itself, beside its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import uint8

from gradnas.data import DataSource, Normalization


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """Where a network comes from and what it takes; all of it may be unknown.

    Args:
        name: Name of the run.
        dataset: Name of the data set it was trained on.
        classes: Names of the classes, in the order of the logits.
        normalization: What is done with pixels: ``(x / pixel_scale - mean) / std``.
        pixel_scale: 255 for images of bytes, 1 for images of float numbers. Says nothing without a normalization.
        test_accuracy: In percent.
        n_test: Number of test images behind it.
        space: Name of the search space.
        strategy: Name of the search strategy.
        seed: Seed of the run.

    Raises:
        ValueError: For another pixel scale.
    """

    name: str | None = None
    dataset: str | None = None
    classes: tuple[str, ...] | None = None
    normalization: Normalization | None = None
    pixel_scale: float = 1.0
    test_accuracy: float | None = None
    n_test: int | None = None
    space: str | None = None
    strategy: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        if self.pixel_scale not in (1, 255):
            raise ValueError(
                f"pixel_scale must be 255 for images of bytes, or 1 for images of float numbers, "
                f"got {self.pixel_scale!r}."
            )

    @staticmethod
    def of_run(name: str, summary: Mapping[str, Any]) -> "NetworkFacts":
        """What the summary of a run says.

        Args:
            name: Name of the run.
            summary: The plain values of its ``summary.json``, of which any may be missing.
        """
        classes, pixels = summary.get("classes"), summary.get("pixels")
        measured = summary.get("normalization") if pixels is not None else None  # means nothing without their scale
        return NetworkFacts(
            name=name,
            classes=None if classes is None else tuple(classes),
            normalization=None if measured is None else Normalization(**measured),
            pixel_scale=255.0 if pixels == "uint8" else 1.0,
            **{key: summary.get(key) for key in ("dataset", "test_accuracy", "n_test", "space", "strategy", "seed")},
        )

    def with_data(self, data: DataSource) -> "NetworkFacts":
        """A copy that takes from the data set what is not known of classes and normalization."""
        classes = self.classes if self.classes is not None else data.train.classes
        if self.normalization is not None:
            return replace(self, classes=classes)
        scale = 255.0 if data.train.dtype == uint8 else 1.0
        return replace(self, classes=classes, normalization=data.normalization, pixel_scale=scale)

    def check_fits(self, channels: int, n_classes: int) -> None:
        """Refuse facts of another network: ValueError for other numbers of channels or classes."""
        if self.classes is not None and len(self.classes) != n_classes:
            raise ValueError(f"the network has {n_classes} classes, but {len(self.classes)} names were given for them.")
        if self.normalization is not None and len(self.normalization.mean) != channels:
            raise ValueError(
                f"the network takes images of {channels} channels, but the normalization is for "
                f"{len(self.normalization.mean)}."
            )

    def metadata(self) -> Mapping[str, object]:
        """What is known, as plain values for a file's own metadata."""
        values: dict[str, object] = {
            "name": self.name,
            "dataset": self.dataset,
            "classes": None if self.classes is None else list(self.classes),
            "test_accuracy_percent": self.test_accuracy,
            "n_test": self.n_test,
            "space": self.space,
            "strategy": self.strategy,
            "seed": self.seed,
        }
        if self.normalization is not None:
            values |= {
                "mean": list(self.normalization.mean),
                "std": list(self.normalization.std),
                "pixel_scale": self.pixel_scale,
                "input": "(pixels / pixel_scale - mean) / std, for each channel",
            }
        return {key: value for key, value in values.items() if value is not None}
