"""What a format of export is, and what it writes of."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from gradnas.export.use_source import Described
from gradnas.supergraph import Model

Logits = Callable[[Tensor], Tensor]
"""A network as a function from images (B, C, H, W) to logits (B, n_classes)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Exportable:
    """A network on its way out.

    Args:
        model: On the CPU, float32, in evaluation mode.
        described: What is known of it.
    """

    model: Model
    described: Described

    def metadata(self) -> Mapping[str, object]:
        """What a file says about itself, as plain values."""
        desc = self.described.desc.conf_model_desc.dataset
        return {
            "written_by": f"gradnas {self.described.version}",
            **self.described.facts.metadata(),
            "input_shape": ["batch", *desc.image_shape],
            "n_classes": desc.n_classes,
            "parameters": self.described.params,
            "macs": self.described.macs,
            "arch_hash": self.described.desc.hash(),
        }


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

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, n_classes)."""
        logits: Tensor = self.model(images)[0]
        return logits
