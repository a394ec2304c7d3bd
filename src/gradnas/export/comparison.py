"""Is the written network the original one? Their logits say."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradnas.export.form import Logits


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Largest difference of a logit, how large it might have been, and what makes this worth less."""

    max_difference: float
    tolerance: float
    note: str


def compared(original: Logits, written: Logits, images: Tensor, tolerance: float) -> Comparison:
    """Compare logits on all images at a time, on two and on one.

    Args:
        original: The network as it was.
        written: The network as it was read back.
        images: Shape (B, C, H, W), B at least 2.
        tolerance: Allowed difference of a logit, relative to the largest absolute logit of the original.

    Raises:
        ValueError: When one differs too much, or the original has logits that are not finite.
    """
    difference = largest = spread = 0.0
    with torch.no_grad():
        for count in sorted({1, 2, len(images)}):
            batch = images[:count]
            expected, got = original(batch), written(batch)
            if not bool(expected.isfinite().all()):
                raise ValueError(
                    "the network itself gives logits that are not finite (NaN or infinity), so that nothing can be "
                    "compared with them. Train it again with a lower learning rate."
                )
            if got.shape != expected.shape:
                raise ValueError(
                    f"the written network gives logits of shape {tuple(got.shape)}, the original one of "
                    f"{tuple(expected.shape)}. Nothing was left."
                )
            largest = max(largest, float(expected.abs().max()))
            spread = max(spread, float((expected - expected[0]).abs().max()))
            # A logit that is not a number differs more than any number.
            difference = max(difference, float((got - expected).abs().nan_to_num(torch.inf).max()))
    allowed = tolerance * largest
    if difference > allowed:
        raise ValueError(
            f"the written network is not the original: a logit differs by {difference:.3g}, {allowed:.3g} is allowed "
            f"({tolerance:g} of the largest, {largest:.3g}). Nothing was left."
        )
    same = "all images had the same logits, so that equal ones prove little; are the weights fresh?"
    return Comparison(max_difference=difference, tolerance=allowed, note=same if spread <= allowed else "")
