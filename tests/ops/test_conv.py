"""Tests of ``src/gradnas/ops/conv.py`` against the same layers written with functions, in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.ops import ConvBNReLU, DilConv, FacConv, Op, ReLUConvBN, SepConv

CI, CO = 4, 6


def make_desc(name: str, stride: int = 1) -> OpDesc:
    return OpDesc(name, Params(conv=ConvMacroParams(CI, CO), stride=stride))


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def make_op(name: str, stride: int, affine: bool) -> Op:
    """An op in float64 whose norms have weights and biases that are not 1 and 0."""
    op = Op.create(make_desc(name, stride), affine).double()
    with torch.no_grad():
        for module in op.modules():
            if isinstance(module, nn.BatchNorm2d) and affine:
                module.weight.copy_(torch.linspace(0.5, 2.0, len(module.weight)))
                module.bias.copy_(torch.linspace(-1.0, 1.0, len(module.bias)))
    return op


def normalize(x: Tensor, affine: list[Tensor]) -> Tensor:
    """Batch norm by its definition: biased variance of the batch, eps 1e-5."""
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    y = (x - mean) / (var + 1e-5).sqrt()
    return y if not affine else y * affine[0][:, None, None] + affine[1][:, None, None]


def separable(k: int, p: int, d: int) -> Callable[[Tensor, list[Tensor], int, bool], Tensor]:
    def block(x: Tensor, w: list[Tensor], stride: int, affine: bool) -> Tensor:
        x = F.conv2d(x.clamp(min=0), w[0], stride=stride, padding=p, dilation=d, groups=x.shape[1])
        assert w[0].shape[2:] == (k, k)
        return normalize(F.conv2d(x, w[1]), w[2:])

    return block


def twice(k: int, p: int) -> Callable[[Tensor, list[Tensor], int, bool], Tensor]:
    def blocks(x: Tensor, w: list[Tensor], stride: int, affine: bool) -> Tensor:
        half, block = len(w) // 2, separable(k, p, 1)
        return block(block(x, w[:half], stride, affine), w[half:], 1, affine)

    return blocks


def factorized(k: int, p: int) -> Callable[[Tensor, list[Tensor], int, bool], Tensor]:
    def layers(x: Tensor, w: list[Tensor], stride: int, affine: bool) -> Tensor:
        assert (w[0].shape[2:], w[1].shape[2:]) == ((k, 1), (1, k))
        x = F.conv2d(x.clamp(min=0), w[0], stride=(stride, 1), padding=(p, 0))
        return normalize(F.conv2d(x, w[1], stride=(1, stride), padding=(0, p)), w[2:])

    return layers


def relu_last(k: int, p: int) -> Callable[[Tensor, list[Tensor], int, bool], Tensor]:
    def layers(x: Tensor, w: list[Tensor], stride: int, affine: bool) -> Tensor:
        assert w[0].shape[2:] == (k, k)
        return normalize(F.conv2d(x, w[0], stride=stride, padding=p), w[1:]).clamp(min=0)

    return layers


def prepr_normal(x: Tensor, w: list[Tensor], stride: int, affine: bool) -> Tensor:
    return normalize(F.conv2d(x.clamp(min=0), w[0]), w[1:])


REFERENCE = {
    "sep_conv_3x3": twice(3, 1),
    "sep_conv_5x5": twice(5, 2),
    "sep_conv_7x7": twice(7, 3),
    "dil_conv_3x3": separable(3, 2, 2),
    "dil_conv_5x5": separable(5, 4, 2),
    "conv_7x1_1x7": factorized(7, 3),
    "conv_3x1_1x3": factorized(3, 1),
    "convbnrelu_3x3": relu_last(3, 1),
    "convbnrelu_1x1": relu_last(1, 0),
    "prepr_normal": prepr_normal,
}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", REFERENCE)
def test_equals_layer_by_layer_computation(name: str, stride: int, affine: bool) -> None:
    op, x = make_op(name, stride, affine), randn(3, CI, 9, 8)
    torch.testing.assert_close(op(x), REFERENCE[name](x, list(op.parameters()), stride, affine))


@pytest.mark.parametrize("name", REFERENCE)
def test_no_convolution_has_a_bias(name: str) -> None:
    assert all(m.bias is None for m in make_op(name, 1, True).modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(("name", "field"), [("dil_conv_3x3", 5), ("dil_conv_5x5", 9), ("sep_conv_3x3", 5)])
def test_receptive_field(name: str, field: int) -> None:
    op = make_op(name, 1, False).eval()
    x = randn(1, CI, 15, 15).abs().requires_grad_()
    with torch.no_grad():
        for weight in op.parameters():
            weight.abs_()
    op(x)[0, 0, 7, 7].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert (rows.max() - rows.min() + 1).item() == field


def test_sep_conv_is_two_dil_convs_without_dilation() -> None:
    sep = make_op("sep_conv_5x5", 2, True)
    first = DilConv(OpDesc("a", Params(conv=ConvMacroParams(CI, CI))), 5, 2, 2, 1, True).double()
    second = DilConv(OpDesc("a", Params(conv=ConvMacroParams(CI, CO))), 5, 1, 2, 1, True).double()
    n_first = len(first.state_dict())
    values = list(sep.state_dict().values())
    first.load_state_dict(dict(zip(first.state_dict(), values[:n_first], strict=True)))
    second.load_state_dict(dict(zip(second.state_dict(), values[n_first:], strict=True)))
    x = randn(2, CI, 7, 7)
    assert torch.equal(sep(x), second(first(x)))


def test_cell_stem_ignores_the_stride_of_the_description() -> None:
    assert Op.create(make_desc("prepr_normal", 2), True)(torch.ones(2, CI, 6, 6)).shape == (2, CO, 6, 6)


@pytest.mark.parametrize(("name", "count"), [("prepr_normal", CI * CO + 2 * CO), ("prepr_reduce", CI * CO + 2 * CO)])
def test_cell_stems_have_the_published_number_of_parameters(name: str, count: int) -> None:
    assert sum(p.numel() for p in Op.create(make_desc(name), True).parameters()) == count


def test_classes_can_be_used_directly() -> None:
    desc, x = make_desc("mine", 2), torch.ones(2, CI, 8, 8)
    for op in (
        ReLUConvBN(desc, 3, 2, 1, True),
        ConvBNReLU(desc, 5, 2, 2, True),
        DilConv(desc, 3, 2, 2, 2, True),
        SepConv(desc, 3, 1, True),
        FacConv(desc, 5, 2, True),
    ):
        assert op(x).shape == (2, CO, 4, 4)


@pytest.mark.parametrize("stride", [0, 3])
def test_other_strides_are_refused(stride: int) -> None:
    message = f"stride of 'mine' must be 1 or 2, got {stride}"
    with pytest.raises(ValueError, match=message):
        ReLUConvBN(make_desc("mine"), 3, stride, 1, True)
    with pytest.raises(ValueError, match=message):
        ConvBNReLU(make_desc("mine"), 3, stride, 1, True)
    with pytest.raises(ValueError, match=message):
        DilConv(make_desc("mine"), 3, stride, 1, 1, True)
