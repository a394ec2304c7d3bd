"""Tests of ``src/gradnas/export/comparison.py``, on networks whose rounding is known."""

import pytest
import torch
from torch import Tensor, nn

from gradnas.export.comparison import compared

IMAGES = torch.linspace(-1, 1, 3 * 4, dtype=torch.float32).reshape(3, 1, 2, 2)


class Coarse(nn.Module):
    """Two logits of at most 10; those of float32 are too large by ``error``."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self.error = error
        self.weight = nn.Parameter(torch.tensor([10.0, -5.0]))

    def forward(self, x: Tensor) -> Tensor:
        out = x[:, 0, 0, :1] * self.weight
        return out + self.error if x.dtype == torch.float32 else out


def off_by(difference: float, error: float) -> object:
    network = Coarse(error)
    with torch.no_grad():
        return compared(network, lambda images: network(images) + difference, IMAGES)


@pytest.mark.parametrize(("error", "allowed"), [(0.0, 1e-4), (1e-5, 1e-4), (2**-10, 4 * 2**-10)])
def test_allowed_is_a_share_of_the_largest_logit_or_four_times_the_rounding(error: float, allowed: float) -> None:
    found = off_by(0.0, error)
    assert found.tolerance == pytest.approx(allowed, rel=0.05)  # type: ignore[attr-defined]
    assert off_by(0.9 * allowed, error).max_difference == pytest.approx(0.9 * allowed, rel=0.05)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"a logit differs by .*, .* is allowed \(the largest is 10"):
        off_by(1.1 * allowed, error)


def test_the_network_keeps_its_precision() -> None:
    network = Coarse(0.0)
    compared(network, network, IMAGES)
    assert network.weight.dtype == torch.float32
