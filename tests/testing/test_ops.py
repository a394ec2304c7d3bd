"""Every built-in operation that can be on an edge under the public suite, and the suite on broken ones."""

from collections.abc import Callable
from typing import ClassVar

import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.arch import OpDesc
from gradnas.ops import OPS, Op, OpRegistry
from gradnas.supergraph.fused import layers
from gradnas.testing import OpTests
from gradnas.testing.ops import Case

SAME = ((4, 4),)


class TestMaxPool(OpTests):
    channels: ClassVar[tuple[tuple[int, int], ...]] = SAME

    def name(self) -> str:
        return "max_pool_3x3"


class TestAvgPool(OpTests):
    channels: ClassVar[tuple[tuple[int, int], ...]] = SAME

    def name(self) -> str:
        return "avg_pool_3x3"


class TestSkipConnect(OpTests):
    channels: ClassVar[tuple[tuple[int, int], ...]] = SAME

    def name(self) -> str:
        return "skip_connect"


class TestIdentity(OpTests):
    channels: ClassVar[tuple[tuple[int, int], ...]] = SAME
    strides: ClassVar[tuple[int, ...]] = (1,)

    def name(self) -> str:
        return "identity"


class TestZero(OpTests):
    def name(self) -> str:
        return "none"


class TestSepConv3(OpTests):
    def name(self) -> str:
        return "sep_conv_3x3"


class TestSepConv5(OpTests):
    def name(self) -> str:
        return "sep_conv_5x5"


class TestSepConv7(OpTests):
    def name(self) -> str:
        return "sep_conv_7x7"


class TestDilConv3(OpTests):
    def name(self) -> str:
        return "dil_conv_3x3"


class TestDilConv5(OpTests):
    def name(self) -> str:
        return "dil_conv_5x5"


class TestFacConv7(OpTests):
    def name(self) -> str:
        return "conv_7x1_1x7"


class TestFacConv3(OpTests):
    def name(self) -> str:
        return "conv_3x1_1x3"


class TestConvBNReLU3(OpTests):
    def name(self) -> str:
        return "convbnrelu_3x3"


class TestConvBNReLU1(OpTests):
    def name(self) -> str:
        return "convbnrelu_1x1"


class TestReLUConvBN(OpTests):
    strides: ClassVar[tuple[int, ...]] = (1,)

    def name(self) -> str:
        return "prepr_normal"


class TestFactorizedReduce(OpTests):
    strides: ClassVar[tuple[int, ...]] = (2,)

    def name(self) -> str:
        return "prepr_reduce"


class TestMultiOp(OpTests):
    def name(self) -> str:
        return "multi_op"

    def desc(self, case: Case) -> OpDesc:
        plain = super().desc(case)
        parts = tuple(OpDesc(name, plain.params) for name in ("sep_conv_3x3", "dil_conv_3x3"))
        return OpDesc(plain.name, plain.params, children=parts, children_ins=(0, 0))


def test_every_op_of_an_edge_is_under_the_suite() -> None:
    elsewhere = {"linear", "concate_channels", "proj_channels", "mixed_op"}  # heads, merges, and the choice itself
    tested = {suite().name() for suite in OpTests.__subclasses__() if suite.__module__ == __name__}
    edge_ops = {n for n in OPS.names() if not n.startswith(("stem_", "pool_"))} - elsewhere
    assert edge_ops <= tested, f"not under the suite: {sorted(edge_ops - tested)}"


# ---------------------------------------------------------------------------------- the suite on ops that are broken


class _Conv(Op):
    """3×3 convolution and batch norm: what the others break."""

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__()
        conv = op_desc.conv
        self.conv = nn.Conv2d(conv.ch_in, conv.ch_out, 3, op_desc.stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(conv.ch_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


def under_test(kind: Callable[[OpDesc, bool], Op]) -> OpTests:
    own = OpRegistry(parent=OPS)
    own.register_op("mine", lambda desc, affine, _: kind(desc, affine))

    class Suite(OpTests):
        def name(self) -> str:
            return "mine"

        def registry(self) -> OpRegistry:
            return own

    return Suite()


class _IgnoresTheStride(_Conv):
    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__(op_desc.with_params(stride=1), affine)


def test_op_that_ignores_the_stride() -> None:
    with pytest.raises(AssertionError, match="stride=2"):
        under_test(_IgnoresTheStride).test_output_shape()


class _DetachesTheWeight(_Conv):
    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        out: Tensor = self.bn(F.conv2d(x, conv.weight.detach(), None, conv.stride, conv.padding))
        return out


def test_op_without_a_gradient_of_its_weight() -> None:
    with pytest.raises(AssertionError, match="slope"):
        under_test(_DetachesTheWeight).test_gradients_are_those_of_the_function()


class _WritesIntoItsInput(_Conv):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.relu(x, inplace=True))


def test_op_that_writes_into_its_input() -> None:
    with pytest.raises(AssertionError, match="writes into its input"):
        under_test(_WritesIntoItsInput).test_input_is_not_changed()


class _HidesAWeight(_Conv):
    """Keeps a weight where no state dict sees it."""

    made = 0

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__(op_desc, affine)
        type(self).made += 1
        self._scale = [float(self.made)]

    def forward(self, x: Tensor) -> Tensor:
        return self._scale[0] * super().forward(x)


def test_op_with_a_weight_that_is_not_kept() -> None:
    with pytest.raises(AssertionError, match="other outputs with the same weights"):
        under_test(_HidesAWeight).test_weights_go_through_the_description()


class _AlwaysAffine(_Conv):
    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__(op_desc, True)


def test_op_whose_norms_always_have_weights() -> None:
    with pytest.raises(AssertionError, match="affine=False"):
        under_test(_AlwaysAffine).test_affine_is_that_of_the_norms()


class _DropsOut(_Conv):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.1, training=True)


def test_op_that_draws() -> None:
    with pytest.raises(AssertionError, match="torch's global generator"):
        under_test(_DropsOut).test_draws_nothing()


class _CentersTheBatch(_Conv):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0, keepdim=True))


def test_op_that_couples_images() -> None:
    with pytest.raises(AssertionError, match="influence each other"):
        under_test(_CentersTheBatch).test_evaluation_knows_no_other_image()


class _SearchOnly(_Conv):
    """Has a layer in a search network that is not there in an evaluation network."""

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__(op_desc, affine)
        self.extra = None if affine else nn.Conv2d(1, 1, 1)


def test_op_whose_weights_do_not_fit() -> None:
    with pytest.raises(RuntimeError, match="unexpected"):
        under_test(_SearchOnly).test_search_weights_fit_the_evaluation_network()


def test_fused_form_that_is_another_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_norm(op: Op) -> layers.Chain:
        assert isinstance(op, _Conv)
        convolution = layers.Convolution.of(op.conv)
        assert convolution is not None
        return [layers.Step(convolution, (op.conv,))]

    monkeypatch.setitem(layers._LOWERING, _Conv, without_norm)
    with pytest.raises(AssertionError, match="fused differs"):
        under_test(_Conv).test_fused_form_is_the_same_function()
