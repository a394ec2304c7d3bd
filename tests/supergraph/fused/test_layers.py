"""Tests of ``src/gradnas/supergraph/fused/layers.py``: the chain of an op, run side by side with another, is the op.

In float64, see the fixture in ``conftest.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.ops import OPS, FactorizedReduce, Op, PoolBN, SepConv, SkipConnect
from gradnas.ops.depthwise import DepthwiseConv2d, from_sub_images
from gradnas.supergraph.fused.layers import (
    Chain,
    Convolution,
    EvenPixels,
    Function,
    Halving,
    Layer,
    Norm,
    Pool,
    Relu,
    Separable,
    SubImages,
    Value,
    lower,
)

KEEPING = ("max_pool_3x3", "avg_pool_3x3", "skip_connect")  # the number of channels
CONVOLUTIONS = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_7x1_1x7",
    "conv_3x1_1x3",
    "convbnrelu_3x3",
    "convbnrelu_1x1",
)
ONE_STRIDE = {"identity": 1, "prepr_normal": 1, "prepr_reduce": 2}
LOWERED = (*KEEPING, *CONVOLUTIONS, *ONE_STRIDE)

OTHER_PARAMS: dict[str, dict[str, object]] = {
    "none": {},
    "stem_conv3x3": {},
    "stem_conv3x3Relu": {},
    "stem_conv3x3_s4": {},
    "stem_conv3x3_s4s2": {},
    "pool_adaptive_avg2d": {},
    "pool_avg2d7x7": {},
    "pool_mean_tensor": {},
    "linear": {"n_ch": 4, "n_classes": 2},
    "concate_channels": {"out_states": 2},
    "proj_channels": {"out_states": 2},
    "mixed_op": {},
}

Exchange = Callable[[Op], None]


def make_op(name: str, stride: int = 1, *, ch_in: int = 4, ch_out: int = 4, affine: bool = False, seed: int = 0) -> Op:
    """An op none of whose weights is that of another seed."""
    torch.manual_seed(seed)
    params = Params(conv=ConvMacroParams(ch_in, ch_out), stride=stride, **OTHER_PARAMS.get(name, {}))
    op = Op.create(OpDesc(name, params), affine)
    with torch.no_grad():
        for p in op.parameters():
            p.normal_()
    return op


def at(position: int, module: Callable[[], nn.Module]) -> Exchange:
    def exchange(op: Op) -> None:
        assert isinstance(op.layers, nn.Sequential)
        op.layers[position] = module()

    return exchange


def chain_of(op: Op) -> Chain:
    chain = lower(op)
    assert chain is not None
    return chain


def layers_of(op: Op) -> list[Layer]:
    return [step.layer for step in chain_of(op)]


def side_by_side(chains: Sequence[Chain], x: Tensor) -> list[Tensor]:
    """Run chains of equal layers as one wide operation; the result of each."""
    columns = len(chains)
    value = Value(x)
    for steps in zip(*chains, strict=True):
        layer = steps[0].layer
        weights = [
            torch.cat([getattr(*source) for source in slot])
            for slot in zip(*(step.layer.weights(step.modules) for step in steps), strict=True)
        ]
        if isinstance(layer, Norm):
            scale, shift = (*weights, None, None)[:2]
            value = value.spread(columns) if weights else value
            out = F.batch_norm(value.tensor, None, None, scale, shift, True, 0.0, layer.eps)
            value = value._replace(tensor=out)
        else:
            assert isinstance(layer, Function)
            value = layer.run(value, weights, columns)
    value = value.spread(columns)
    together = from_sub_images(value.tensor) if value.parts else value.tensor
    return list(together.chunk(columns, dim=1))


def assert_chains_are_the_ops(ops: Sequence[Op], size: tuple[int, int]) -> None:
    """Values and all gradients, in float64."""
    ch_in = ops[0].desc.conv.ch_in
    x = torch.randn(3, ch_in, *size, generator=torch.Generator().manual_seed(9))
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    before = x.detach().clone()
    outs = []
    for run in (lambda: [op(x) for op in ops], lambda: side_by_side([chain_of(op) for op in ops], x)):
        y = torch.stack(run())
        upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(10))
        inputs = [x, *(p for op in ops for p in op.nonarch_params(recurse=True))]
        outs.append((y, *torch.autograd.grad(y, inputs, upstream)))
    for one, other in zip(*outs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert torch.equal(x, before)


# --------------------------------------------------------------------------------------------------- which ops have one


def test_every_op_is_known_to_have_a_chain_or_none() -> None:
    assert {*LOWERED, *OTHER_PARAMS, "multi_op"} == set(OPS.names())


@pytest.mark.parametrize("name", OTHER_PARAMS)
def test_stems_heads_merges_and_choices_have_no_chain(name: str) -> None:
    assert lower(make_op(name)) is None


def test_several_ops_as_one_have_no_chain() -> None:
    params = Params(conv=ConvMacroParams(4, 4), stride=1)
    child = OpDesc("sep_conv_3x3", params)
    assert lower(Op.create(OpDesc("multi_op", params, children=(child,), children_ins=(0,)), False)) is None


# ---------------------------------------------------------------------------------------------------- a chain is its op


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (6, 5)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("name", "stride"),
    [(name, stride) for name in LOWERED for stride in (1, 2) if ONE_STRIDE.get(name, stride) == stride],
)
def test_a_chain_computes_what_the_op_computes(name: str, stride: int, affine: bool, size: tuple[int, int]) -> None:
    ch_out = 6 if name in CONVOLUTIONS else 4
    ops = [make_op(name, stride, ch_out=ch_out, affine=affine, seed=seed) for seed in range(3)]
    assert_chains_are_the_ops(ops, size)
    assert_chains_are_the_ops(ops[:1], size)


@pytest.mark.parametrize("name", [name for name in LOWERED if name != "prepr_reduce"])
def test_a_single_channel(name: str) -> None:
    """A convolution of one channel is depthwise and mixes channels at once."""
    assert_chains_are_the_ops([make_op(name, ch_in=1, ch_out=1, seed=seed) for seed in range(2)], (6, 8))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [2, 4])
def test_convolutions_in_groups_and_with_several_kernels_per_channel(groups: int, stride: int) -> None:
    def exchange(op: Op) -> Op:
        layers = op.layers
        assert isinstance(layers, nn.Sequential)
        layers[1] = nn.Conv2d(4, 8, 3, stride, 1, groups=groups, bias=False)
        layers[2] = nn.Conv2d(8, 4, 1, groups=groups, bias=False)
        return op

    assert_chains_are_the_ops([exchange(make_op("dil_conv_3x3", stride, seed=seed)) for seed in range(2)], (6, 8))


DEPTHWISE = Convolution(4, 4, (3, 3), (1, 1), (1, 1), (1, 1), 4)
POINTWISE = Convolution(4, 6, (1, 1), (1, 1), (0, 0), (1, 1), 1)
NORM = Norm(6, 1e-5, 0.1, False, True)


def test_the_layers_of_a_separable_convolution() -> None:
    assert layers_of(make_op("sep_conv_3x3", 2, ch_out=6)) == [
        Relu(),
        Separable(replace(DEPTHWISE, stride=(2, 2)), replace(POINTWISE, ch_out=4)),
        replace(NORM, channels=4),
        Relu(),
        Separable(DEPTHWISE, POINTWISE),
        NORM,
    ]


def test_the_layers_of_a_dilated_convolution() -> None:
    dilated = replace(DEPTHWISE, kernel=(5, 5), padding=(4, 4), dilation=(2, 2))
    assert layers_of(make_op("dil_conv_5x5", ch_out=6)) == [Relu(), SubImages(), Separable(dilated, POINTWISE), NORM]
    dense = replace(DEPTHWISE, kernel=(5, 5), padding=(2, 2))
    assert layers_of(make_op("dil_conv_5x5", 2, ch_out=6)) == [Relu(), EvenPixels(), Separable(dense, POINTWISE), NORM]


def test_the_layers_of_pools_and_skips() -> None:
    norm = replace(NORM, channels=4)
    assert layers_of(make_op("max_pool_3x3")) == [Pool(False, 3, 1, 1), norm]
    assert layers_of(make_op("avg_pool_3x3", 2, affine=True)) == [Pool(True, 3, 2, 1)]
    assert layers_of(make_op("skip_connect")) == layers_of(make_op("identity")) == []
    assert layers_of(make_op("skip_connect", 2, ch_out=6)) == [Relu(), Halving(4, 6), NORM]


@pytest.mark.parametrize("name", ["convbnrelu_1x1", "prepr_normal"])
def test_pointwise_convolutions_see_the_whole_image(name: str) -> None:
    assert SubImages() not in layers_of(make_op(name))


def test_a_chain_refers_to_the_modules_of_its_op() -> None:
    op = make_op("sep_conv_3x3", affine=True)
    layers = op.layers
    assert isinstance(layers, nn.Sequential)
    chain = chain_of(op)
    assert chain[1].modules == (layers[1], layers[2])
    assert chain[5].modules == (layers[7],)
    assert chain[1].layer.weights(chain[1].modules) == [(layers[1], "weight"), (layers[2], "weight")]
    assert chain[5].layer.weights(chain[5].modules) == [(layers[7], "weight"), (layers[7], "bias")]
    assert chain[0].layer.weights(chain[0].modules) == []


# --------------------------------------------------------------------------------------------------------- equal layers


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["skip_connect", "max_pool_3x3", "sep_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7"])
def test_ops_that_differ_in_weights_alone_have_equal_layers(name: str, stride: int) -> None:
    one, other = (tuple(layers_of(make_op(name, stride, seed=seed))) for seed in range(2))
    assert one == other
    assert hash(one) == hash(other)


SETTINGS = {
    "eps": at(3, lambda: nn.BatchNorm2d(4, affine=False, eps=1e-3)),
    "momentum": at(3, lambda: nn.BatchNorm2d(4, affine=False, momentum=0.2)),
    "weights of a norm": at(3, lambda: nn.BatchNorm2d(4)),
    "running statistics": at(3, lambda: nn.BatchNorm2d(4, affine=False, track_running_stats=False)),
    "dilation": at(1, lambda: DepthwiseConv2d(4, 3, padding=2, dilation=2)),
    "a larger kernel": at(1, lambda: DepthwiseConv2d(4, 7, padding=3)),
    "groups": at(2, lambda: nn.Conv2d(4, 4, 1, groups=2, bias=False)),
    "another known layer": at(4, lambda: nn.MaxPool2d(3, 1, 1)),
    "stride": at(1, lambda: DepthwiseConv2d(4, 3, 2, 1)),
    "stride of columns": at(1, lambda: DepthwiseConv2d(4, 3, (1, 2), 1)),
    "a stride of 3": at(1, lambda: DepthwiseConv2d(4, 3, 3, 1)),
    "dilation of rows": at(1, lambda: DepthwiseConv2d(4, 3, 1, (2, 1), (2, 1))),
    "a dilation of 3": at(1, lambda: DepthwiseConv2d(4, 3, 1, 3, 3)),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_every_setting_of_a_layer_counts(what: str) -> None:
    ops = [make_op("sep_conv_3x3", seed=seed) for seed in range(3)]
    for op in ops[1:]:
        SETTINGS[what](op)
    assert framed(ops[1]) == framed(ops[2]) != framed(ops[0])
    assert_chains_are_the_ops(ops[1:], (6, 8))


def framed(op: Op) -> list[Layer]:
    return [layer.framed() for layer in layers_of(op)]


@pytest.mark.parametrize("stride", [1, 2])
def test_framed_kernels_of_3_and_5_are_equal_and_those_of_7_are_not(stride: int) -> None:
    small, large, larger = (make_op(f"sep_conv_{k}x{k}", stride) for k in (3, 5, 7))
    assert layers_of(small) != layers_of(large)
    assert framed(small) == framed(large) == layers_of(large)
    assert framed(larger) == layers_of(larger)
    assert [layers_of(op)[1].side for op in (small, large, larger)] == [3, 5, 7]
    assert framed(make_op("dil_conv_3x3", stride)) == framed(make_op("dil_conv_5x5", stride))
    assert framed(make_op("dil_conv_3x3")) != framed(make_op("sep_conv_3x3"))


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_kernel_in_its_frame_of_zeros_computes_the_same(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    module = DepthwiseConv2d(4, kernel, stride, dilation * (kernel // 2), dilation)
    layer = Convolution.of(module)
    assert layer is not None
    frame = layer.framed()
    assert (layer.side, frame.side) == (kernel, 5)
    x, margin = Value(torch.randn(2, 4, 7, 6)), (5 - kernel) // 2
    expected = layer.run(x, [module.weight], 1).tensor
    torch.testing.assert_close(frame.run(x, [F.pad(module.weight, (margin,) * 4)], 1).tensor, expected)
    torch.testing.assert_close(expected, module(x.tensor))


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": 1},
        {"ch_out": 8},
        {"kernel": (3, 1), "padding": (1, 0)},
        {"kernel": (4, 4), "padding": (1, 1)},
        {"padding": (0, 0)},
        {"padding": (1, 0)},
        {"dilation": (2, 2)},
        {"kernel": (7, 7), "padding": (3, 3)},
    ],
)
def test_only_small_centred_depthwise_kernels_get_a_frame(changes: dict[str, object]) -> None:
    layer = replace(DEPTHWISE, **changes)
    assert layer.framed() is layer


# -------------------------------------------------------------------------------------------------------- single layers


def test_sub_images_leave_odd_maps_alone() -> None:
    for size in ((5, 6), (6, 5), (7, 7)):
        value = Value(torch.randn(2, 3, *size))
        assert SubImages().run(value, (), 1) is value


def test_sub_images_of_even_maps_are_marked() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    value = SubImages().run(Value(x), (), 1)
    assert value.parts
    assert torch.equal(value.tensor[:, 0, 0, 0], torch.tensor([0.0, 1.0, 4.0, 5.0]))
    assert torch.equal(from_sub_images(value.tensor), x)


def test_even_pixels_are_those_that_a_stride_of_2_reads() -> None:
    x = torch.randn(2, 3, 5, 6)
    pixels = EvenPixels().run(Value(x), (), 1).tensor
    assert torch.equal(pixels, F.max_pool2d(x, 1, 2))
    assert pixels.is_contiguous(memory_format=torch.channels_last)


def test_a_shared_tensor_is_not_changed_by_a_relu() -> None:
    x = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)
    out = Relu().run(Value(x), (), 2)
    assert torch.equal(out.tensor, x.clamp(min=0))
    assert out.columns == 0
    assert torch.equal(x.flatten(), torch.tensor([-1.0, 1.0]))


def test_a_value_is_spread_once() -> None:
    x = torch.randn(2, 3, 4, 4)
    wide = Value(x, parts=True).spread(2)
    assert (wide.columns, wide.parts) == (2, True)
    assert torch.equal(wide.tensor, x.repeat(1, 2, 1, 1))
    assert wide.spread(2) is wide


# --------------------------------------------------------------------------------------------- ops that run as they are


class ShiftedReLU(nn.ReLU):
    """Looks like a known layer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 1)


class Noted(nn.Conv2d):
    """The same."""


EXCHANGES = {
    "a bias": at(1, lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4)),
    "a bias of a pointwise convolution": at(2, lambda: nn.Conv2d(4, 4, 1)),
    "padding by a word": at(1, lambda: nn.Conv2d(4, 4, 3, padding="same", groups=4, bias=False)),
    "padding by reflection": at(1, lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", bias=False)),
    "a cumulative average": at(3, lambda: nn.BatchNorm2d(4, momentum=None)),
    "another norm": at(3, lambda: nn.GroupNorm(2, 4)),
    "another activation": at(0, nn.SiLU),
    "a subclass of a ReLU": at(0, ShiftedReLU),
    "a subclass of a convolution": at(2, lambda: Noted(4, 4, 1, bias=False)),
    "a subclass of a norm": at(3, lambda: nn.SyncBatchNorm(4)),
    "layers in layers": at(0, lambda: nn.Sequential(nn.ReLU())),
}


@pytest.mark.parametrize("what", EXCHANGES)
def test_an_op_with_an_exchanged_layer_of_another_kind_has_no_chain(what: str) -> None:
    op = make_op("sep_conv_3x3")
    assert lower(op) is not None
    EXCHANGES[what](op)
    assert lower(op) is None


def test_a_subclass_of_an_op_has_no_chain() -> None:
    class Doubled(SepConv):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    desc = make_op("sep_conv_3x3").desc
    assert lower(SepConv(desc, 3, 1, False)) is not None
    assert lower(Doubled(desc, 3, 1, False)) is None


def test_a_skip_around_another_op_has_its_chain_if_any() -> None:
    op = make_op("skip_connect")
    assert isinstance(op, SkipConnect)
    op.op = make_op("max_pool_3x3")
    assert lower(op) == lower(op.op)
    op.op = make_op("none")
    assert lower(op) is None


def pool_with(pool: nn.Module) -> Op:
    op = make_op("avg_pool_3x3")
    assert isinstance(op, PoolBN)
    op.pool = pool
    return op


def test_a_pool_with_another_norm_or_another_kind_of_pool_has_no_chain() -> None:
    assert lower(pool_with(nn.AdaptiveAvgPool2d(4))) is None
    op = make_op("avg_pool_3x3")
    assert isinstance(op, PoolBN)
    op.bn = nn.BatchNorm2d(4, momentum=None)
    assert lower(op) is None


def computes_the_same(op: Op) -> bool:
    """Whether there is no chain, or one that is the op."""
    if lower(op) is not None:
        assert_chains_are_the_ops([op], (6, 8))
    return True


POOLS = {
    "zeros count": nn.AvgPool2d(3, 1, 1),
    "another divisor": nn.AvgPool2d(3, 1, 1, count_include_pad=False, divisor_override=3),
    "rows and columns": nn.AvgPool2d((3, 1), 1, (1, 0), count_include_pad=False),
    "rounded up": nn.MaxPool2d(3, 2, ceil_mode=True),
    "dilated": nn.MaxPool2d(3, 1, 1, dilation=2),
}


@pytest.mark.parametrize("what", POOLS)
def test_all_settings_of_a_pool_count(what: str) -> None:
    assert computes_the_same(pool_with(POOLS[what]))


@pytest.mark.parametrize("what", ["relu", "conv_1", "conv_2"])
def test_the_layers_of_a_factorized_reduce_may_be_exchanged(what: str) -> None:
    op = make_op("prepr_reduce", 2)
    assert isinstance(op, FactorizedReduce)
    setattr(op, what, nn.SiLU() if what == "relu" else nn.Conv2d(4, 2, 1, 2))
    assert computes_the_same(op)


def test_a_relu_may_follow_a_relu() -> None:
    op = make_op("convbnrelu_3x3")
    at(1, nn.ReLU)(op)
    assert computes_the_same(op)


def test_a_pool_may_follow_a_dilated_convolution() -> None:
    op = make_op("dil_conv_3x3")
    at(3, lambda: nn.MaxPool2d(3, 1, 1))(op)
    assert computes_the_same(op)


def test_a_norm_may_have_no_bias() -> None:
    op = make_op("sep_conv_3x3")
    at(3, lambda: nn.BatchNorm2d(4, bias=False))(op)
    assert computes_the_same(op)


def test_a_dilated_kernel_of_even_size() -> None:
    op = make_op("dil_conv_3x3")
    at(1, lambda: nn.Conv2d(4, 4, 4, 1, 3, 2, 4, bias=False))(op)
    assert computes_the_same(op)
