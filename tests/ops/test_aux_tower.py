"""Tests of ``src/gradnas/ops/aux_tower.py``."""

import pytest
import torch
from torch.nn import functional as F

from gradnas.arch import AuxTowerDesc
from gradnas.ops import AuxTower


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_cifar_tower_has_the_published_number_of_parameters() -> None:
    tower = AuxTower(AuxTowerDesc(576, 10, 3))
    assert sum(p.numel() for p in tower.parameters()) == 476_426


def test_tower_without_second_norm_has_1536_parameters_less() -> None:
    tower = AuxTower(AuxTowerDesc(576, 10, 3, second_norm=False))
    assert sum(p.numel() for p in tower.parameters()) == 476_426 - 2 * 768


@pytest.mark.parametrize(("side", "stride"), [(6, 1), (7, 2), (8, 3), (14, 9), (8, 2)])
def test_map_that_becomes_two_by_two_fits(side: int, stride: int) -> None:
    assert AuxTower(AuxTowerDesc(2, 5, stride))(randn(3, 2, side, side).float()).shape == (3, 5)


def test_equals_layer_by_layer_computation() -> None:
    tower = AuxTower(AuxTowerDesc(3, 5, 3)).double()
    x = randn(4, 3, 8, 8)
    w = dict(tower.named_parameters())
    y = F.avg_pool2d(x.clamp(min=0), 5, 3)
    y = F.conv2d(y, w["features.0.weight"])
    y = F.batch_norm(y, None, None, w["features.1.weight"], w["features.1.bias"], training=True).clamp(min=0)
    y = F.conv2d(y, w["features.3.weight"])
    y = F.batch_norm(y, None, None, w["features.4.weight"], w["features.4.bias"], training=True).clamp(min=0)
    expected = F.linear(y[:, :, 0, 0], w["classifier.weight"], w["classifier.bias"])
    torch.testing.assert_close(tower(x), expected)


def test_cell_output_is_unchanged_by_the_tower() -> None:
    x = randn(2, 3, 8, 8)
    before = x.clone()
    AuxTower(AuxTowerDesc(3, 5, 3)).double()(x)
    assert torch.equal(x, before)


def test_gradient_reaches_input_and_every_weight() -> None:
    tower = AuxTower(AuxTowerDesc(3, 5, 3)).double()
    x = randn(4, 3, 8, 8).requires_grad_()
    tower(x).square().sum().backward()
    for tensor in (x, *tower.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("height", "width", "stride", "pooled"), [(8, 8, 1, "4, 4"), (11, 11, 3, "3, 3"), (8, 7, 3, "2, 1")]
)
def test_map_that_does_not_become_two_by_two_is_refused(height: int, width: int, stride: int, pooled: str) -> None:
    x, tower = torch.ones(1, 2, height, width), AuxTower(AuxTowerDesc(2, 5, stride))
    with pytest.raises(ValueError, match=rf"map of 2×2, the map \({height}, {width}\) gives \({pooled}\)"):
        tower(x)


@pytest.mark.parametrize("side", [1, 4, 5])
def test_map_below_six_is_refused(side: int) -> None:
    with pytest.raises(ValueError, match=r"needs a pooled map of 2×2.*for a side of at least 6"):
        AuxTower(AuxTowerDesc(2, 5, 1))(torch.ones(1, 2, side, side))
