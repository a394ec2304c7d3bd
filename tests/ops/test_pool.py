"""Tests of ``src/gradnas/ops/pool.py``."""

import pytest
import torch
from torch import Tensor, nn

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.ops import Op, PoolBN

NAMES = {"max": "max_pool_3x3", "avg": "avg_pool_3x3"}


def make_pool(kind: str, stride: int = 1, affine: bool = True, **params: object) -> Op:
    return Op.create(OpDesc(NAMES[kind], Params(conv=ConvMacroParams(2, 2), stride=stride, **params)), affine)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def windows(x: Tensor, kind: str, stride: int) -> Tensor:
    """Pooling by its definition: the window of each pixel, cut off at the border."""
    height, width = x.shape[2:]
    reduce = torch.amax if kind == "max" else torch.mean
    rows = [
        torch.stack(
            [reduce(x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2], (2, 3)) for j in range(0, width, stride)], -1
        )
        for i in range(0, height, stride)
    ]
    return torch.stack(rows, -2)


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 7, 1])
def test_evaluation_pool_is_the_window_maximum_or_mean_without_padding(kind: str, stride: int, size: int) -> None:
    x = randn(2, 2, size, size)
    torch.testing.assert_close(make_pool(kind, stride)(x), windows(x, kind, stride))


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("stride", [1, 2])
def test_search_pool_is_normalized(kind: str, stride: int) -> None:
    x = randn(3, 2, 7, 7)
    y = windows(x, kind, stride)
    mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
    op = make_pool(kind, stride, affine=False).double()
    torch.testing.assert_close(op(x), (y - mean) / (var + 1e-5).sqrt())


@pytest.mark.parametrize(
    ("affine", "flag", "normalized"),
    [
        (False, None, True),
        (True, None, False),
        (False, True, True),
        (True, True, True),
        (False, False, False),
        (True, False, False),
    ],
)
def test_flag_decides_over_the_norm_and_none_means_search_only(
    affine: bool, flag: bool | None, normalized: bool
) -> None:
    op = make_pool("max", 1, affine, pool_bn=flag)
    assert any(isinstance(module, nn.BatchNorm2d) for module in op.modules()) is normalized


@pytest.mark.parametrize("affine", [True, False])
def test_norm_of_a_pool_never_has_weights(affine: bool) -> None:
    assert list(make_pool("avg", 1, affine, pool_bn=True).parameters()) == []


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_statistics_of_search_are_dropped_when_evaluation_has_no_norm(kind: str) -> None:
    trainables = make_pool(kind, affine=False).get_trainables()
    assert "bn.running_mean" in trainables["sd"]
    final = make_pool(kind, affine=True)
    final.set_trainables(trainables)
    assert dict(final.state_dict()) == {}


def test_other_weights_are_refused_by_a_pool_without_norm() -> None:
    with pytest.raises(RuntimeError, match=r"missing \[\], unexpected \['conv.weight'\]"):
        make_pool("max").set_trainables({"name": "max_pool_3x3", "sd": {"conv.weight": torch.zeros(1)}})


def test_normalized_pool_needs_its_statistics() -> None:
    with pytest.raises(RuntimeError, match=r"missing \['bn.running_mean', 'bn.running_var'\]"):
        make_pool("max", affine=False).set_trainables({"name": "max_pool_3x3", "sd": {}})


def test_statistics_are_kept_between_normalized_pools() -> None:
    source = make_pool("max", affine=False)
    source(randn(3, 2, 5, 5).float())
    target = make_pool("max", affine=False)
    target.set_trainables(source.get_trainables())
    assert torch.equal(target.bn.running_mean, source.bn.running_mean)


def test_pool_cannot_change_channels() -> None:
    with pytest.raises(
        ValueError, match=r"'max_pool_3x3' keeps the channels, got ConvMacroParams\(ch_in=2, ch_out=4\)"
    ):
        Op.create(OpDesc("max_pool_3x3", Params(conv=ConvMacroParams(2, 4))), True)


def test_other_pool_types_are_refused() -> None:
    with pytest.raises(ValueError, match="pool_type must be 'max' or 'avg', got 'min'"):
        PoolBN("min", OpDesc("min_pool", Params(conv=ConvMacroParams(2, 2))), True)
