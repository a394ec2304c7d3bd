"""What a format of export is, and what it writes of."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from gradnas.arch import Shape
from gradnas.export.facts import NetworkFacts
from gradnas.export.use_source import Described
from gradnas.training import logits_of

Logits = Callable[[Tensor], Tensor]
"""A network as a function from images (B, C, H, W) to logits (B, n_classes)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Exportable:
    """A network on its way out.

    Args:
        model: On the CPU, float32, in evaluation mode.
        image_shape: (channels, height, width) of an image.
        n_classes: Number of classes.
        facts: Where it comes from.
        identity: What tells it from other networks, as plain values.
        params: Number of weights, without auxiliary towers.
        macs: Multiply-adds of one image.
        version: Of gradnas.
        described: What its source says; None for a network without a description, which has no source form.
    """

    model: nn.Module
    image_shape: Shape
    n_classes: int
    facts: NetworkFacts
    identity: Mapping[str, object]
    params: int
    macs: int
    version: str
    described: Described | None

    def metadata(self) -> Mapping[str, object]:
        """What a file says about itself, as plain values."""
        return {
            "written_by": f"gradnas {self.version}",
            **self.facts.metadata(),
            "input_shape": ["batch", *self.image_shape],
            "n_classes": self.n_classes,
            "parameters": self.params,
            "macs": self.macs,
            **self.identity,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenNetwork:
    """A network that was designed by hand, to be exported.

    Args:
        model: Gives logits (B, n_classes), or a pair that begins with them.
        name: What it is called.
        options: What it was built with, as plain values.
        image_shape: (channels, height, width) of an image.
        n_classes: Number of classes.
    """

    model: nn.Module
    name: str
    options: Mapping[str, object] = field(default_factory=dict)
    image_shape: Shape
    n_classes: int


class Form(ABC):
    """One format. A network written by it can be read back and called."""

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    """All it may write, the main one last."""

    @abstractmethod
    def require(self) -> None:
        """Refuse before any work what cannot be written here: ImportError for a missing package."""

    @abstractmethod
    def write(self, network: Exportable, folder: Path) -> tuple[str, ...]:
        """Write into an empty folder; the names of the files, the main one last.

        Raises:
            ValueError: For a network that the format cannot hold.
        """

    @abstractmethod
    def read(self, folder: Path, network: Exportable) -> Logits:
        """Read back what :meth:`write` left, as a user would."""

    @abstractmethod
    def wrote(self, existing: Path) -> bool:
        """Whether a file that is there comes from an earlier export, and may be replaced."""

    @abstractmethod
    def holds(self, existing: Path, new: Path) -> bool:
        """Whether a file of another origin can stay as it is, because it has all that the new one has."""


class LogitsOnly(nn.Module):
    """The logits of a model, without those of its auxiliary tower."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, n_classes)."""
        return logits_of(self.model(images))[0]
