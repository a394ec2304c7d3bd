"""Sizes that networks of three stages can have."""

from torch import Tensor

_SMALLEST = 4  # pixels of a side: two stages halve it


def blocks_per_stage(depth: int, layers: int) -> int:
    """Blocks of each of three stages in a network of ``3 · n · layers / 3 + 2`` layers.

    Args:
        depth: All layers: a stem, the blocks, a linear one.
        layers: Layers of three blocks, one of each stage.

    Raises:
        ValueError: For a depth that no whole number of blocks gives.
    """
    n, rest = divmod(depth - 2, layers)
    if rest or n < 1:
        lower = max(1, n) * layers + 2
        raise ValueError(f"depth must be {layers} n + 2, as {lower} or {lower + layers}, got {depth}.")
    return n


def check_images(x: Tensor, channels: int) -> None:
    """Refuse what is no batch of images for a network. ValueError.

    Args:
        x: What came.
        channels: Channels of the images that the network takes.
    """
    if x.dim() != 4 or x.shape[1] != channels or min(x.shape[2:]) < _SMALLEST:
        raise ValueError(
            f"the network takes images of shape (B, {channels}, H, W) with H, W ≥ {_SMALLEST}, got {tuple(x.shape)}."
        )
