"""Is the written network the original one? Their logits say."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradnas.export.form import Logits

_TOLERANCE = 1e-5  # of the largest absolute logit
_ROUNDINGS = 4.0  # another library adds in another order: its rounding is another one, of the same size


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Largest difference of a logit, how large it might have been, and what makes this worth less."""

    max_difference: float
    tolerance: float
    note: str


def compared(original: nn.Module, written: Logits, images: Tensor) -> Comparison:
    """Compare logits on all images at a time, on two and on one.

    A logit may differ by 1e-5 of the largest absolute one; or, where float32 is coarser than that, by four times as
    much as those of the original differ from its own in float64.

    Args:
        original: The network as it was, float32 in evaluation mode: (B, C, H, W) -> (B, n_classes).
        written: The network as it was read back.
        images: Shape (B, C, H, W), B at least 2.

    Raises:
        ValueError: When one differs too much, or the original has logits that are not finite.
    """
    exact = copy.deepcopy(original).double()
    difference = largest = spread = rounding = 0.0
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
            rounding = max(rounding, float((expected - exact(batch.double())).abs().max()))
            spread = max(spread, float((expected - expected[0]).abs().max()))
            # A logit that is not a number differs more than any number.
            difference = max(difference, float((got - expected).abs().nan_to_num(torch.inf).max()))
    allowed = max(_TOLERANCE * largest, _ROUNDINGS * rounding)
    if difference > allowed:
        raise ValueError(
            f"the written network is not the original: a logit differs by {difference:.3g}, {allowed:.3g} is allowed "
            f"(the largest is {largest:.3g}). Nothing was left."
        )
    same = "all images had the same logits, so that equal ones prove little; are the weights fresh?"
    return Comparison(max_difference=difference, tolerance=allowed, note=same if spread <= allowed else "")
