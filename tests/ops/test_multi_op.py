"""Tests of ``src/gradnas/ops/multi_op.py``."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.ops import OPS, MultiOp, Op, OpRegistry, Zero

CONV = ConvMacroParams(4, 4)


def make_desc(*children: OpDesc, ins: tuple[int, ...] | None = None, in_len: int = 1) -> OpDesc:
    ins = (0,) * len(children) if ins is None else ins
    return OpDesc("multi_op", Params(conv=CONV), in_len, children=children, children_ins=ins)


def child(name: str, stride: int = 1, conv: ConvMacroParams = CONV) -> OpDesc:
    return OpDesc(name, Params(conv=conv, stride=stride))


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def make_op(desc: OpDesc, affine: bool = True) -> MultiOp:
    op = Op.create(desc, affine)
    assert isinstance(op, MultiOp)
    return op.double()


@pytest.mark.parametrize("affine", [True, False])
def test_equals_children_concatenated_projected_and_normalized(affine: bool) -> None:
    op = make_op(make_desc(child("max_pool_3x3"), child("skip_connect"), ins=(1, 0), in_len=2), affine)
    inputs = [randn(2, 4, 6, 6), randn(2, 4, 6, 6) + 1]
    pooled = op.children_ops[0](inputs[1])
    y = F.conv2d(torch.cat([pooled, inputs[0]], dim=1), op.projection.weight)
    expected = F.batch_norm(y, None, None, op.bn.weight, op.bn.bias, training=True)
    torch.testing.assert_close(op(inputs), expected)


def test_single_input_may_come_without_a_list() -> None:
    op, x = make_op(make_desc(child("sep_conv_3x3"), child("none"))), randn(2, 4, 6, 6)
    assert torch.equal(op(x), op([x]))


def test_too_few_inputs_are_refused() -> None:
    op = make_op(make_desc(child("none"), child("none"), ins=(1, 0), in_len=2))
    with pytest.raises(ValueError, match=r"children read the inputs \(1, 0\), but only 1 came"):
        op(randn(2, 4, 6, 6))


def test_children_have_strides_of_their_own() -> None:
    op = make_op(make_desc(child("sep_conv_3x3", 2), child("skip_connect", 1), ins=(0, 1), in_len=2))
    assert op([randn(2, 4, 8, 8), randn(2, 4, 4, 4)]).shape == (2, 4, 4, 4)


def test_children_get_the_channels_of_the_parent_and_no_description_changes() -> None:
    desc = make_desc(child("dil_conv_3x3", conv=ConvMacroParams(9, 9)))
    op = make_op(desc)
    assert op.children_ops[0].desc.conv == CONV
    assert op.desc.children is not None
    assert op.desc.children[0].conv == ConvMacroParams(9, 9)


def test_number_of_parameters() -> None:
    op = make_op(make_desc(child("dil_conv_3x3"), child("none")))
    assert sum(p.numel() for p in op.parameters()) == (9 * 4 + 16 + 8) + (8 * 4 + 8)


def test_composites_can_be_nested() -> None:
    op = make_op(make_desc(make_desc(child("none"), child("skip_connect")), child("max_pool_3x3")))
    assert op(randn(2, 4, 6, 6)).shape == (2, 4, 6, 6)


@pytest.mark.parametrize("desc", [make_desc(), OpDesc("multi_op", Params(conv=CONV))])
def test_op_without_children_is_refused(desc: OpDesc) -> None:
    with pytest.raises(ValueError, match="'multi_op' needs at least one child operation"):
        Op.create(desc, True)


def test_children_are_looked_up_in_the_registry_given() -> None:
    registry = OpRegistry(parent=OPS)
    registry.register_op("mine", lambda desc, affine, _: Zero(desc))
    desc = make_desc(child("mine"), make_desc(child("mine")))
    op = Op.create(desc, True, registry=registry)
    assert isinstance(op, MultiOp)
    assert isinstance(op.children_ops[0], Zero)
    with pytest.raises(KeyError, match="no operation 'mine'"):
        Op.create(desc, True)


def test_weights_go_through_the_description() -> None:
    op, x = make_op(make_desc(child("sep_conv_3x3"), child("skip_connect"))), randn(2, 4, 6, 6)
    again = Op.create(op.finalize()[0], True).double()
    torch.testing.assert_close(again(x), op(x), rtol=1e-6, atol=1e-6)


def test_statistics_of_searched_pools_are_dropped_at_any_depth() -> None:
    desc = make_desc(child("max_pool_3x3"), make_desc(child("avg_pool_3x3"), child("dil_conv_3x3")))
    searched, _ = make_op(desc, affine=False).finalize()
    final = Op.create(searched, affine=True)
    assert torch.equal(final.projection.weight, searched.trainables["sd"]["projection.weight"])


def test_other_unexpected_weights_of_a_child_are_refused() -> None:
    desc, _ = make_op(make_desc(child("max_pool_3x3"))).finalize()
    sd = {**desc.trainables["sd"], "children_ops.0.extra": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r"missing \[\], unexpected \['children_ops\.0\.extra'\]"):
        Op.create(replace(desc, trainables={"name": "multi_op", "sd": sd}), True)


def test_gradient_reaches_inputs_and_every_weight() -> None:
    op = make_op(
        make_desc(child("sep_conv_3x3"), child("skip_connect"), ins=(1, 0), in_len=2)
    ).eval()  # in training the norm hides biases
    inputs = [randn(2, 4, 6, 6).requires_grad_(), (randn(2, 4, 6, 6) + 1).requires_grad_()]
    out = op(inputs)
    (out * randn(*out.shape)).sum().backward()
    for tensor in (*inputs, *op.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 1e-9


def test_drop_path_applies() -> None:
    assert make_op(make_desc(child("none"))).can_drop_path()
