"""Tests of ``src/gradnas/ops/dilated.py``: the rearranged convolution is torch's own, with all derivatives."""

import pytest
import torch
from torch import Tensor, nn

from gradnas.ops import DilConv
from gradnas.ops.dilated import DilatedDepthwiseConv2d

SIZES = [(8, 8), (16, 12), (7, 9), (8, 7), (2, 2), (1, 1)]


def make(kernel_size: int, stride: int, size: tuple[int, int]) -> tuple[DilatedDepthwiseConv2d, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    conv = DilatedDepthwiseConv2d(3, kernel_size, stride).double()
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=draws, dtype=torch.float64))
    x = torch.randn(2, 3, *size, generator=draws, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(nn.Conv2d.forward(conv, x).shape, generator=draws, dtype=torch.float64)
    return conv, x, upstream


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_value_and_first_derivatives_are_those_of_the_dilated_convolution(
    kernel_size: int, stride: int, size: tuple[int, int]
) -> None:
    conv, x, upstream = make(kernel_size, stride, size)
    expected, actual = nn.Conv2d.forward(conv, x), conv(x)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(actual, (x, conv.weight), upstream),
        torch.autograd.grad(expected, (x, conv.weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_second_derivatives_are_those_of_the_dilated_convolution(kernel_size: int, stride: int) -> None:
    conv, x, upstream = make(kernel_size, stride, (8, 6))

    def second(y: Tensor) -> tuple[Tensor, ...]:
        of_x, of_weight = torch.autograd.grad(y, (x, conv.weight), upstream, create_graph=True)
        return torch.autograd.grad((of_x**2).sum() + (of_weight**3).sum(), (x, conv.weight))

    for ours, theirs in zip(second(conv(x)), second(nn.Conv2d.forward(conv, x)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)


def test_gradients_pass_torch_gradcheck() -> None:
    conv, x, _ = make(3, 1, (4, 4))
    assert torch.autograd.gradcheck(
        lambda x, w: nn.functional.conv2d(x, w, padding=2, dilation=2, groups=3), (x, conv.weight)
    )
    assert torch.autograd.gradcheck(conv, (x,))


@pytest.mark.parametrize("stride", [1, 2])
def test_without_gradients_the_value_is_the_same(stride: int) -> None:
    conv, x, _ = make(5, stride, (8, 8))
    with torch.no_grad():
        torch.testing.assert_close(conv(x), nn.Conv2d.forward(conv, x), rtol=0, atol=1e-12)


def test_under_autocast_it_runs_in_bfloat16() -> None:
    conv = DilatedDepthwiseConv2d(3, 3, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(torch.ones(1, 3, 4, 4)).dtype is torch.bfloat16


def test_dilated_operations_of_the_table_use_it() -> None:
    from gradnas.arch import ConvMacroParams, OpDesc, Params

    op = DilConv(OpDesc("dil_conv_3x3", Params(conv=ConvMacroParams(4, 4), stride=2)), 3, 2, 2, 2, True)
    assert isinstance(op.layers[1], DilatedDepthwiseConv2d)
