"""Tests of ``src/gradnas/ops/table.py``: what holds for every operation that may stand on an edge."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from gradnas.arch import CELL_OPS, ConvMacroParams, OpDesc, Params
from gradnas.ops import OPS, Op

# Parameters with affine norms for C_in = C_out = C, as functions of C: stride 1 and stride 2.
COUNTS = {
    "max_pool_3x3": (lambda C: 0,) * 2,
    "avg_pool_3x3": (lambda C: 0,) * 2,
    "skip_connect": (lambda C: 0, lambda C: C * C + 2 * C),
    "sep_conv_3x3": (lambda C: 2 * (9 * C + C * C + 2 * C),) * 2,
    "sep_conv_5x5": (lambda C: 2 * (25 * C + C * C + 2 * C),) * 2,
    "sep_conv_7x7": (lambda C: 2 * (49 * C + C * C + 2 * C),) * 2,
    "dil_conv_3x3": (lambda C: 9 * C + C * C + 2 * C,) * 2,
    "dil_conv_5x5": (lambda C: 25 * C + C * C + 2 * C,) * 2,
    "none": (lambda C: 0,) * 2,
    "conv_7x1_1x7": (lambda C: 14 * C * C + 2 * C,) * 2,
    "conv_3x1_1x3": (lambda C: 6 * C * C + 2 * C,) * 2,
    "convbnrelu_3x3": (lambda C: 9 * C * C + 2 * C,) * 2,
    "convbnrelu_1x1": (lambda C: C * C + 2 * C,) * 2,
    "identity": (lambda C: 0, None),
}
EDGE_OPS = [(name, stride) for name, counts in COUNTS.items() for stride in (1, 2) if counts[stride - 1] is not None]
# The same as numbers, from a published table.
KNOWN = {
    16: {"skip_connect": (0, 288), "sep_conv_3x3": 864, "sep_conv_5x5": 1376, "sep_conv_7x7": 2144}
    | {"dil_conv_3x3": 432, "dil_conv_5x5": 688, "conv_7x1_1x7": 3616},
    36: {"skip_connect": (0, 1368), "sep_conv_3x3": 3384, "sep_conv_5x5": 4536, "sep_conv_7x7": 6264}
    | {"dil_conv_3x3": 1692, "dil_conv_5x5": 2268, "conv_7x1_1x7": 18216},
}


def make_op(name: str, stride: int = 1, channels: int = 16, affine: bool = True) -> Op:
    return Op.create(OpDesc(name, Params(conv=ConvMacroParams(channels, channels), stride=stride)), affine)


def n_params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_every_cell_op_is_registered_and_tested_here() -> None:
    assert set(CELL_OPS) == set(COUNTS)
    assert set(CELL_OPS) <= set(OPS.names())


def test_every_name_of_the_contract_is_registered() -> None:
    names = (
        "max_pool_3x3 avg_pool_3x3 skip_connect sep_conv_3x3 sep_conv_5x5 sep_conv_7x7 dil_conv_3x3 dil_conv_5x5 none "
        "identity conv_7x1_1x7 convbnrelu_3x3 convbnrelu_1x1 prepr_normal prepr_reduce stem_conv3x3 stem_conv3x3Relu "
        "stem_conv3x3_s4 stem_conv3x3_s4s2 pool_adaptive_avg2d pool_avg2d7x7 pool_mean_tensor linear concate_channels "
        "proj_channels multi_op"
    )
    assert set(names.split()) <= set(OPS.names())


@pytest.mark.parametrize("channels", [16, 36])
@pytest.mark.parametrize(("name", "stride"), EDGE_OPS)
def test_number_of_parameters_follows_the_formula(name: str, stride: int, channels: int) -> None:
    formula = COUNTS[name][stride - 1]
    assert formula is not None
    assert n_params(make_op(name, stride, channels)) == formula(channels)


@pytest.mark.parametrize(("channels", "name"), [(c, name) for c, table in KNOWN.items() for name in table])
@pytest.mark.parametrize("stride", [1, 2])
def test_number_of_parameters_is_the_published_one(channels: int, name: str, stride: int) -> None:
    known = KNOWN[channels][name]
    assert n_params(make_op(name, stride, channels)) == (known if isinstance(known, int) else known[stride - 1])


@pytest.mark.parametrize(("name", "stride"), EDGE_OPS)
def test_search_network_has_no_norm_weights(name: str, stride: int) -> None:
    norms = [module for module in make_op(name, stride, affine=False).modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.weight is None and norm.bias is None for norm in norms)
    assert all(norm.eps == 1e-5 and norm.momentum == 0.1 for norm in norms)


@pytest.mark.parametrize(("stride", "count"), [(1, 3168), (2, 3424)])
def test_darts_edge_has_the_published_number_of_parameters(stride: int, count: int) -> None:
    names = [name for name in CELL_OPS[:8] if name != "none"]
    assert sum(n_params(make_op(name, stride, affine=False)) for name in names) == count


SIZES = [(stride, size) for stride, size in itertools.product((1, 2), (32, 7, 1)) if (stride, size) != (2, 1)]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("name", "stride"), EDGE_OPS)
def test_map_is_divided_by_the_stride_rounding_up(name: str, stride: int, affine: bool) -> None:
    op = make_op(name, stride, 4, affine)
    for _, size in (pair for pair in SIZES if pair[0] == stride):
        out = -(-size // stride)
        assert op(torch.ones(2, 4, size, size)).shape == (2, 4, out, out)
    assert op(torch.ones(2, 4, 6, 9)).shape == (2, 4, 6 // stride, -(-9 // stride))


CHANGING = [(name, s) for name, s in EDGE_OPS if "pool" not in name and name != "identity"]


@pytest.mark.parametrize(("name", "stride"), CHANGING)
def test_channels_may_change_except_in_pools_and_identities(name: str, stride: int) -> None:
    desc = OpDesc(name, Params(conv=ConvMacroParams(4, 6), stride=stride))
    if (name, stride) == ("skip_connect", 1):
        with pytest.raises(ValueError, match="'skip_connect' keeps size and channels"):
            Op.create(desc, True)
    else:
        assert Op.create(desc, True)(torch.ones(2, 4, 8, 8)).shape[1] == 6


@pytest.mark.parametrize(("name", "stride"), EDGE_OPS)
def test_input_is_not_modified(name: str, stride: int) -> None:
    x = randn(2, 4, 7, 7)
    before = x.clone()
    make_op(name, stride, 4).double()(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("name", "stride"), [(n, s) for n, s in EDGE_OPS if n != "none"])
def test_gradient_reaches_input_and_every_weight(name: str, stride: int) -> None:
    op, x = make_op(name, stride, 4, affine=False).double(), randn(3, 4, 8, 8).requires_grad_()
    out = op(x)
    (out * randn(*out.shape)).sum().backward()
    for tensor in (x, *op.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().sum() > 1e-6


@pytest.mark.parametrize(("name", "stride"), EDGE_OPS)
def test_dtype_follows_the_input(name: str, stride: int) -> None:
    assert make_op(name, stride, 4).double()(randn(2, 4, 8, 8)).dtype is torch.float64


@pytest.mark.parametrize(("name", "stride"), EDGE_OPS)
def test_drop_path_applies_to_everything_but_the_identity_at_stride_one(name: str, stride: int) -> None:
    identity = name == "identity" or (name, stride) == ("skip_connect", 1)
    assert make_op(name, stride, 4).can_drop_path() is not identity


@pytest.mark.parametrize(("name", "stride"), EDGE_OPS)
def test_weights_of_search_load_into_evaluation(name: str, stride: int) -> None:
    searched = make_op(name, stride, 4, affine=False).double()
    searched(randn(4, 4, 8, 8))  # moves the statistics away from their start
    desc, _ = searched.finalize()
    final = Op.create(desc, affine=True).double()
    assert final.desc is desc
    if "pool" not in name:  # searched pools are normalized, final ones are not
        x = randn(2, 4, 8, 8)
        torch.testing.assert_close(final.eval()(x), searched.eval()(x), rtol=1e-6, atol=1e-6)
