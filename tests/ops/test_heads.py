"""Tests of ``src/gradnas/ops/heads.py``."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gradnas.arch import OpDesc, Params
from gradnas.ops import Op

POOLS = ["pool_adaptive_avg2d", "pool_avg2d7x7", "pool_mean_tensor"]


def make_head(name: str, **params: object) -> Op:
    return Op.create(OpDesc(name, Params(params)), True)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", POOLS)
def test_pool_is_the_mean_of_each_map(name: str) -> None:
    x = randn(2, 3, 7, 7)
    torch.testing.assert_close(make_head(name)(x), x.sum((2, 3)) / 49)


@pytest.mark.parametrize("name", ["pool_adaptive_avg2d", "pool_mean_tensor"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 8)])
def test_pool_takes_maps_of_any_size(name: str, height: int, width: int) -> None:
    x = randn(2, 3, height, width)
    torch.testing.assert_close(make_head(name)(x), x.flatten(2).mean(2))


@pytest.mark.parametrize(("height", "width"), [(6, 7), (7, 6), (14, 7), (7, 14), (1, 1)])
def test_pool_of_seven_must_leave_one_pixel(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"pool_avg2d7x7 must leave 1×1, got a map of {height}×{width}; 7 to 13 fit"):
        make_head("pool_avg2d7x7")(torch.ones(1, 2, height, width))


def test_pool_of_seven_reads_the_first_window_of_a_larger_map() -> None:
    x = randn(2, 3, 13, 9)
    torch.testing.assert_close(make_head("pool_avg2d7x7")(x), x[:, :, :7, :7].mean((2, 3)))


def test_linear_is_an_affine_map_of_the_features() -> None:
    op, x = make_head("linear", n_ch=3, n_classes=5).double(), randn(2, 3)
    weight, bias = op.parameters()
    torch.testing.assert_close(op(x), x @ weight.T + bias)


def test_linear_flattens_everything_after_the_batch() -> None:
    op, x = make_head("linear", n_ch=12, n_classes=5).double(), randn(2, 3, 2, 2)
    weight, bias = op.parameters()
    torch.testing.assert_close(op(x), F.linear(x.reshape(2, 12), weight, bias))


def test_linear_has_a_bias() -> None:
    assert sum(p.numel() for p in make_head("linear", n_ch=256, n_classes=10).parameters()) == 2570


def test_other_number_of_features_is_refused_naming_both() -> None:
    with pytest.raises(ValueError, match="'linear' expects 3 features, got 4"):
        make_head("linear", n_ch=3, n_classes=5)(torch.ones(2, 4))


@pytest.mark.parametrize("params", [{"n_ch": 3}, {"n_classes": 5}, {"n_ch": 3.0, "n_classes": 5}])
def test_linear_needs_both_numbers(params: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="'linear' needs whole numbers n_ch and n_classes, got"):
        make_head("linear", **params)


@pytest.mark.parametrize("name", POOLS)
def test_pools_have_no_parameters(name: str) -> None:
    assert list(make_head(name).parameters()) == []


@pytest.mark.parametrize("name", [*POOLS, "linear"])
def test_drop_path_does_not_apply(name: str) -> None:
    assert not make_head(name, n_ch=3, n_classes=5).can_drop_path()


@pytest.mark.parametrize("name", POOLS)
def test_input_is_not_modified_and_gradient_is_even(name: str) -> None:
    x = randn(2, 3, 7, 7).requires_grad_()
    before = x.detach().clone()
    make_head(name)(x).sum().backward()
    assert torch.equal(x.detach(), before)
    torch.testing.assert_close(x.grad, torch.full_like(before, 1 / 49))
