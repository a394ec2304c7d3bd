"""Tests of ``src/gradnas/ops/stems.py``."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.ops import Op, StemBase

STEMS = ["stem_conv3x3", "stem_conv3x3Relu", "stem_conv3x3_s4", "stem_conv3x3_s4s2"]


def make_stem(name: str, ch_in: int = 3, ch_out: int = 8, affine: bool = True, **params: object) -> StemBase:
    stem = Op.create(OpDesc(name, Params(conv=ConvMacroParams(ch_in, ch_out), **params)), affine)
    assert isinstance(stem, StemBase)
    return stem


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def conv_norm(x: Tensor, w: list[Tensor], stride: int) -> Tensor:
    x = F.conv2d(x, w[0], stride=stride, padding=1)
    return F.batch_norm(x, None, None, w[1], w[2], training=True)


def s4(x: Tensor, w: list[Tensor]) -> Tensor:
    return conv_norm(conv_norm(x, w[:3], 2).clamp(min=0), w[3:6], 2)


REFERENCE = {
    "stem_conv3x3": lambda x, w: conv_norm(x, w, 1),
    "stem_conv3x3Relu": lambda x, w: conv_norm(x, w, 1).clamp(min=0),
    "stem_conv3x3_s4": s4,
    "stem_conv3x3_s4s2": lambda x, w: conv_norm(s4(x, w).clamp(min=0), w[6:], 2),
}


@pytest.mark.parametrize("name", STEMS)
def test_equals_layer_by_layer_computation(name: str) -> None:
    stem, x = make_stem(name).double(), randn(2, 3, 17, 16)
    torch.testing.assert_close(stem(x), REFERENCE[name](x, list(stem.parameters())))


@pytest.mark.parametrize("name", STEMS)
def test_declared_reduction_is_the_real_one(name: str) -> None:
    stem = make_stem(name)
    assert stem(torch.ones(2, 3, 32, 64)).shape == (2, 8, 32 // stem.reduction, 64 // stem.reduction)


def test_reductions_are_the_published_ones() -> None:
    assert [make_stem(name).reduction for name in STEMS] == [1, 1, 4, 8]


@pytest.mark.parametrize(
    ("name", "ch_out", "count"),
    [
        ("stem_conv3x3", 48, 9 * 3 * 48 + 2 * 48),
        ("stem_conv3x3", 108, 3132),  # what the unshared second CIFAR stem would add
        ("stem_conv3x3Relu", 48, 9 * 3 * 48 + 2 * 48),
        ("stem_conv3x3_s4", 48, 9 * 3 * 24 + 2 * 24 + 9 * 24 * 48 + 2 * 48),
        ("stem_conv3x3_s4s2", 48, 9 * 3 * 24 + 2 * 24 + 9 * 24 * 48 + 2 * 48 + 9 * 48 * 48 + 2 * 48),
    ],
)
def test_number_of_parameters(name: str, ch_out: int, count: int) -> None:
    assert sum(p.numel() for p in make_stem(name, ch_out=ch_out).parameters()) == count


def test_unshared_imagenet_stem_costs_the_published_number_more() -> None:
    def count(**params: object) -> int:
        return sum(p.numel() for p in make_stem("stem_conv3x3_s4s2", ch_out=48, **params).parameters())

    assert count() - count(shared=True) == 11_160


@pytest.mark.parametrize("name", STEMS)
def test_norms_have_weights_even_in_a_search_network(name: str) -> None:
    norms = [m for m in make_stem(name, affine=False).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.affine for norm in norms)


def test_shared_stem_is_the_tail_that_reads_the_quarter_stem() -> None:
    tail = make_stem("stem_conv3x3_s4s2", 8, 8, shared=True).double()
    x = randn(2, 8, 8, 8)
    torch.testing.assert_close(tail(x), conv_norm(x.clamp(min=0), list(tail.parameters()), 2))
    assert tail.reduction == 8


def test_shared_tail_does_not_modify_what_the_other_stem_returned() -> None:
    x = randn(2, 8, 8, 8)
    before = x.clone()
    make_stem("stem_conv3x3_s4s2", 8, 8, shared=True).double()(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", ["stem_conv3x3_s4", "stem_conv3x3_s4s2"])
def test_strided_stems_need_an_even_number_of_output_channels(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' needs an even number of output channels, got 7"):
        make_stem(name, ch_out=7)


@pytest.mark.parametrize("name", STEMS)
def test_drop_path_does_not_apply(name: str) -> None:
    assert not make_stem(name).can_drop_path()
