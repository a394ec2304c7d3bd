"""Tests of ``src/gradnas/ops/skip.py``."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.ops import FactorizedReduce, Identity, Op, SkipConnect, Zero


def make_desc(name: str, stride: int = 1, ch_in: int = 4, ch_out: int = 4) -> OpDesc:
    return OpDesc(name, Params(conv=ConvMacroParams(ch_in, ch_out), stride=stride))


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_identity_returns_the_input_itself() -> None:
    x = randn(2, 4, 3, 3)
    assert Identity(make_desc("identity"))(x) is x


@pytest.mark.parametrize(("stride", "ch_out"), [(2, 4), (1, 6)])
def test_identity_cannot_change_size_or_channels(stride: int, ch_out: int) -> None:
    with pytest.raises(ValueError, match=f"'identity' keeps size and channels, got stride {stride} and .*{ch_out}"):
        Identity(make_desc("identity", stride, ch_out=ch_out))


# ----------------------------------------------------------------------------------------------------------------- none


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("stride", [1, 2])
def test_zero_is_exact_and_so_is_its_gradient_for_any_input(stride: int, bad: float) -> None:
    x = torch.full((2, 4, 5, 7), bad, requires_grad=True)
    y = Zero(make_desc("none", stride, ch_out=6))(x)
    assert torch.equal(y, torch.zeros(2, 6, -(-5 // stride), -(-7 // stride)))
    y.backward(torch.full_like(y, bad))
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(2, 4, 5, 7))


def test_zero_has_the_dtype_of_its_input() -> None:
    assert Zero(make_desc("none"))(torch.ones(1, 4, 2, 2, dtype=torch.bfloat16)).dtype is torch.bfloat16


# ---------------------------------------------------------------------------------------------------- factorized reduce


def reference_reduce(op: FactorizedReduce, x: Tensor) -> Tensor:
    """The published definition, without any padding: even sizes only."""
    x = F.relu(x)
    a = F.conv2d(x, op.conv_1.weight, stride=2)
    b = F.conv2d(x[:, :, 1:, 1:], op.conv_2.weight, stride=2)
    y = torch.cat([a, b], dim=1)
    return F.batch_norm(y, None, None, op.bn.weight, op.bn.bias, training=True)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reduce_is_the_unpadded_definition_on_even_maps(affine: bool, dtype: torch.dtype) -> None:
    op = FactorizedReduce(make_desc("prepr_reduce", 2, 3, 6), affine).to(dtype)
    x = randn(2, 3, 8, 6).to(dtype)
    torch.testing.assert_close(op(x), reference_reduce(op, x))


@pytest.mark.parametrize(("height", "width"), [(7, 7), (7, 8), (8, 7), (1, 1), (1, 8)])
def test_reduce_on_odd_maps_reads_zeros_past_the_end(height: int, width: int) -> None:
    op = FactorizedReduce(make_desc("prepr_reduce", 2, 3, 6), affine=True).double()
    x = randn(2, 3, height, width)
    padded = torch.zeros(2, 3, height + height % 2, width + width % 2, dtype=torch.float64)
    padded[:, :, :height, :width] = x
    assert op(x).shape == (2, 6, -(-height // 2), -(-width // 2))
    torch.testing.assert_close(op(x), reference_reduce(op, padded))


def test_reduce_reads_every_pixel() -> None:
    op = FactorizedReduce(make_desc("prepr_reduce", 2), affine=False).double().eval()
    x = randn(1, 4, 4, 4).abs().requires_grad_()
    op(x).square().sum().backward()
    assert x.grad is not None
    used = x.grad.abs().sum((0, 1)) > 0
    assert used.tolist() == [[True, False] * 2, [False, True] * 2] * 2  # each window by two of its pixels


@pytest.mark.parametrize("side", [48, 64])
@pytest.mark.parametrize("channels", [4, 8])
def test_reduce_has_the_right_gradients_on_large_maps_in_channels_last(side: int, channels: int) -> None:
    """Those of strided convolutions of so few channels are wrong in torch 2.15 on a CPU."""
    op = FactorizedReduce(make_desc("prepr_reduce", 2, channels, channels), affine=False)
    x, upstream = randn(4, channels, side, side), randn(4, channels, side // 2, side // 2)
    exact = copy.deepcopy(op).double()
    op(x.float().contiguous(memory_format=torch.channels_last)).backward(upstream.float())
    exact(x.double()).backward(upstream.double())
    for (name, got), (_, wanted) in zip(op.named_parameters(), exact.named_parameters(), strict=True):
        assert got.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(got.grad.double(), wanted.grad, rtol=1e-4, atol=1e-3, msg=name)


def test_reduce_needs_an_even_number_of_output_channels() -> None:
    with pytest.raises(ValueError, match="'prepr_reduce' at stride 2 needs an even number of output channels, got 5"):
        FactorizedReduce(make_desc("prepr_reduce", 2, 4, 5), affine=True)


# ----------------------------------------------------------------------------------------------------------------- skip


def test_skip_is_the_identity_at_stride_one() -> None:
    x = randn(2, 4, 3, 3)
    op = SkipConnect(make_desc("skip_connect"), affine=True)
    assert op(x) is x
    assert not op.can_drop_path()


def test_skip_is_the_reduction_at_stride_two() -> None:
    op = SkipConnect(make_desc("skip_connect", 2), affine=True).double()
    x = randn(2, 4, 6, 6)
    assert isinstance(op.op, FactorizedReduce)
    assert torch.equal(op(x), op.op(x))
    assert op.can_drop_path()


def test_skip_at_stride_one_cannot_change_channels() -> None:
    with pytest.raises(ValueError, match="'skip_connect' keeps size and channels"):
        Op.create(make_desc("skip_connect", 1, 4, 8), affine=True)
