"""Training images that are mixed in pairs, and their labels likewise.

Sources: Zhang et al., mixup (ICLR 2018); Yun et al., CutMix (ICCV 2019); computed by ``torchvision.transforms.v2``,
which pairs each image with the one before it in the batch and draws one share for the batch.
Deviations: none.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


class BatchMixing:
    """Mixes the images of a batch.

    Draws from torch's default generator of the CPU.

    Args:
        mixup: Alpha of the share that blends two images; 0 blends none.
        cutmix: Alpha of the share of the rectangle that another image fills; 0 pastes none. With both, a batch gets one
            of them, drawn evenly.
    """

    def __init__(self, mixup: float, cutmix: float) -> None:
        self._mix = None
        if mixup > 0 or cutmix > 0:
            from torchvision.transforms import v2  # slow to import; only those who mix pay

            ways = ([v2.MixUp(alpha=mixup)] if mixup > 0 else []) + ([v2.CutMix(alpha=cutmix)] if cutmix > 0 else [])
            self._mix = v2.RandomChoice(ways)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mixed images, and what they are made of.

        Args:
            x: (B, C, H, W); not changed.

        Returns:
            The images in the memory format of ``x``, and the share of each image of the batch (columns) in each mixed
            one (rows): (B, B), rows add up to 1. Without mixing ``x`` itself and None.
        """
        if self._mix is None:
            return x, None
        # Each image as a class of its own: so the shares come out, whatever the labels and however many classes.
        images = torch.eye(len(x), dtype=x.dtype, device=x.device)
        mixed, shares = self._mix(x, images)
        if x.is_contiguous(memory_format=torch.channels_last):
            mixed = mixed.contiguous(memory_format=torch.channels_last)
        return mixed, shares


def class_shares(shares: Tensor, y: Tensor, n_classes: int) -> Tensor:
    """The share of each class in mixed images, (b, n_classes), with which a loss compares their logits.

    Args:
        shares: Of the images of a batch, (b, B), see :class:`BatchMixing`.
        y: Labels of the whole batch, (B,).
        n_classes: Number of classes.
    """
    return shares @ F.one_hot(y, n_classes).to(shares.dtype)
