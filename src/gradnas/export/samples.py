"""Images on which an exported network is compared with the original."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnas.arch import Shape
from gradnas.data import BatchLoader, DataSource

COUNT = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Inputs of the network.

    Args:
        images: Normalized images, float32 of shape (B, C, H, W), at least two.
        what: What they are, for the user: ``16 test images of digits``.

    Raises:
        ValueError: For another shape, or fewer than two images.
    """

    images: Tensor
    what: str

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) < 2:
            raise ValueError(
                f"a comparison needs at least two images of shape (B, C, H, W), got {tuple(self.images.shape)}."
            )

    @staticmethod
    def of(data: DataSource, shape: Shape) -> "Samples":
        """Test images, spread over the set, where there are some, else training images; normalized as in the run.

        Raises:
            ValueError: When images of the set do not have this shape.
        """
        if data.train.shape != shape:
            raise ValueError(f"the network takes images of {shape}, those of {data.name} are of {data.train.shape} now")
        images, kind = (data.train, "training") if data.test is None else (data.test, "test")
        count = min(COUNT, len(images))
        # Whole numbers: the positions must not depend on how a machine rounds. Folders are sorted by class.
        chosen = images.subset(torch.arange(max(count, 2)) * len(images) // max(count, 2))
        loader = BatchLoader(
            chosen, batch_size=len(chosen), normalization=data.normalization, shuffle=False, seed=0, purpose="export"
        )
        return Samples(images=loader.batch(0, 0)[0].contiguous(), what=f"{len(chosen)} {kind} images of {data.name}")

    @staticmethod
    def noise(shape: Shape, reason: str) -> "Samples":
        """Noise with the mean 0 and standard deviation 1 that normalized images have.

        Args:
            shape: Of one image.
            reason: Why there are no images, for the user; its first sentence is quoted.
        """
        reason = re.split(r"\.(?:\s+(?=[A-Z])|$)", reason)[0]
        numbers = torch.Generator().manual_seed(0)
        return Samples(images=torch.randn(COUNT, *shape, generator=numbers), what=f"{COUNT} images of noise ({reason})")
