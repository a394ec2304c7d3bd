"""The conformance suite of operations."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradnas.arch import ConvMacroParams, EdgeDesc, OpDesc, Params
from gradnas.foundation.seeds import seeded_initialization
from gradnas.ops import OPS, Op, OpRegistry
from gradnas.supergraph import DagEdge
from gradnas.supergraph.fused import FusedNodes
from gradnas.supergraph.fused.layers import lower
from gradnas.testing.probe import same, state_of, untouched_globals


class Case(NamedTuple):
    """One form of an op: input and output channels, stride, and the size of its input."""

    ch_in: int
    ch_out: int
    stride: int
    size: tuple[int, int]


class OpTests(ABC):
    """Everything that must be true of an operation that can be on an edge.

    Derive in a pytest file, and give :meth:`name`; the class attributes say in which forms the op exists.
    """

    channels: ClassVar[tuple[tuple[int, int], ...]] = ((4, 4), (4, 6))
    """Input and output channels."""

    strides: ClassVar[tuple[int, ...]] = (1, 2)
    """Strides."""

    sizes: ClassVar[tuple[tuple[int, int], ...]] = ((8, 8), (7, 5), (1, 1))
    """Heights and widths of the input."""

    @abstractmethod
    def name(self) -> str:
        """Name of the op."""

    def registry(self) -> OpRegistry:
        """Where the name is looked up; by default the package-wide registry."""
        return OPS

    def desc(self, case: Case) -> OpDesc:
        """The description of a form of the op; one with parts of its own overrides this."""
        conv = ConvMacroParams(case.ch_in, case.ch_out)
        return OpDesc(self.name(), Params(conv=conv, stride=case.stride))

    def _cases(self) -> Iterator[Case]:
        for ch_in, ch_out in self.channels:
            for stride in self.strides:
                for size in self.sizes:
                    yield Case(ch_in, ch_out, stride, size)

    def _op(self, case: Case, *, affine: bool) -> Op:
        with seeded_initialization(0, "testing.op"):
            return Op.create(self.desc(case), affine, registry=self.registry())

    def test_output_shape(self) -> None:
        """(B, C_in, H, W) becomes (B, C_out, ceil(H / S), ceil(W / S)), all finite, for every form and size."""
        for case in self._cases():
            for affine in (False, True):
                out = self._op(case, affine=affine)(_input(case))
                height, width = (-(-side // case.stride) for side in case.size)
                assert out.shape == (3, case.ch_out, height, width), f"{case} gives {tuple(out.shape)}"
                assert out.isfinite().all(), f"{case} gives numbers that are not finite"

    def test_gradients_are_those_of_the_function(self) -> None:
        """Gradients of input and weights are central differences along random directions, in float64."""
        for case in self._cases():
            op = self._op(case, affine=True).double()
            x = _input(case).double().requires_grad_()
            out = op(x)
            draws = torch.Generator().manual_seed(1)
            upstream = torch.randn(out.shape, generator=draws, dtype=out.dtype)
            inputs = [x, *op.parameters()]
            gradients = torch.autograd.grad((out * upstream).sum(), inputs, materialize_grads=True)
            for value, gradient in zip(inputs, gradients, strict=True):
                direction = torch.randn(value.shape, generator=draws, dtype=value.dtype)
                slope = _slope(op, x, value, direction, upstream)
                ours = float((gradient * direction).sum())
                assert ours == pytest.approx(slope, rel=1e-5, abs=1e-6), f"{case}: gradient {ours}, slope {slope}"

    def test_input_is_not_changed(self) -> None:
        """Neither the forward nor the backward pass writes into the input, which other edges read too."""
        for case in self._cases():
            x = _input(case).requires_grad_()
            state = x * 1.0  # not a leaf: writing into one is refused by torch
            kept, version = state.detach().clone(), state._version
            out = self._op(case, affine=True)(state)
            out.sum().backward()
            assert state._version == version, f"{case} writes into its input"
            assert torch.equal(state, kept), f"{case} changes its input"

    def test_weights_go_through_the_description(self) -> None:
        """``finalize`` keeps a copy of the weights that builds an op of the same function, and nothing is random."""
        for case in self._cases():
            op = self._op(case, affine=True)
            op(_input(case))  # moves the statistics of its norms
            desc, rank = op.eval().finalize()
            assert rank is None, "an op without a choice must be kept"
            assert desc == self.desc(case), "finalizing changed the description"
            expected = op(_input(case))
            for p in op.parameters():
                p.data.zero_()  # a copy does not follow
            again = Op.create(desc, True, registry=self.registry()).eval()
            assert torch.equal(again(_input(case)), expected), f"{case}: other outputs with the same weights"

    def test_search_weights_fit_the_evaluation_network(self) -> None:
        """Weights of the search form, without weights in its norms, load into the evaluation form."""
        for case in self._cases():
            found = self._op(case, affine=False).finalize()[0]
            built = Op.create(found, True, registry=self.registry())
            stored = found.trainables
            assert stored is not None
            shared = {k: v for k, v in state_of(built).items() if k in stored["sd"]}
            assert all(same(value, stored["sd"][key]) for key, value in shared.items())

    def test_affine_is_that_of_the_norms(self) -> None:
        """Without ``affine`` no batch norm has weights; with it every one has."""
        for case in self._cases():
            for affine in (False, True):
                norms = [m for m in self._op(case, affine=affine).modules() if isinstance(m, _BatchNorm)]
                wrong = [norm for norm in norms if (norm.weight is not None) != affine]
                assert not wrong, f"{case}, affine={affine}: {wrong}"

    def test_draws_nothing(self) -> None:
        """Two passes over one input are bit for bit equal, and no global generator moves."""
        for case in self._cases():
            for training in (True, False):
                op = self._op(case, affine=True).train(training)
                with untouched_globals("a pass"):
                    first, second = op(_input(case)), op(_input(case))
                assert torch.equal(first, second), f"{case}: two passes differ"

    def test_evaluation_knows_no_other_image(self) -> None:
        """In evaluation mode the output for an image does not depend on the others of the batch."""
        for case in self._cases():
            op, x = self._op(case, affine=True).eval().double(), _input(case).double()
            alone = torch.cat([op(image[None]) for image in x])
            assert torch.allclose(op(x), alone, rtol=1e-10, atol=1e-12), f"{case}: images influence each other"

    def test_fused_form_is_the_same_function(self) -> None:
        """On an edge of the fast execution the op gives the same output, statistics and gradients, in float64."""
        partner = "none" if self.name() != "none" else "avg_pool_3x3"
        for case in self._cases():
            if lower(self._op(case, affine=False)) is None:
                continue  # runs as it is
            params = self.desc(case).params.replace(primitives=(self.name(), partner))
            with seeded_initialization(0, "testing.op"):
                edge = DagEdge(
                    EdgeDesc(OpDesc("mixed_op", params), (0,)), False, False, None, registry=self.registry()
                ).double()
            outcomes = []
            state = state_of(edge)
            for fused in (False, True):
                edge.load_state_dict(state)
                x = _input(case).double().requires_grad_()
                weights = torch.tensor([[0.7, 0.3]], dtype=torch.float64, requires_grad=True)
                out = _fused(edge, x, weights) if fused else edge([x, x], weights[0])
                inputs = [x, weights, *(p for p in edge.parameters() if p.dim() > 1)]
                gradients = torch.autograd.grad(out.square().sum(), inputs, materialize_grads=True)
                outcomes.append([out.detach(), *gradients, *state_of(edge).values()])
            for plain, quick in zip(*outcomes, strict=True):
                assert torch.allclose(plain.double(), quick.double(), rtol=1e-8, atol=1e-10), f"{case}: fused differs"


def _input(case: Case) -> Tensor:
    """Images (3, C_in, H, W)."""
    return torch.randn(3, case.ch_in, *case.size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _slope(op: Op, x: Tensor, value: Tensor, direction: Tensor, upstream: Tensor) -> float:
    step, values = 1e-6, []
    for sign in (1.0, -1.0):
        value.add_(direction, alpha=sign * step)
        values.append(float((op(x) * upstream).sum()))
        value.add_(direction, alpha=-sign * step)
    return (values[0] - values[1]) / (2 * step)


def _fused(edge: DagEdge, x: Tensor, weights: Tensor) -> Tensor:
    """The output of a node with this edge alone in the fast execution."""
    nodes = nn.ModuleList([nn.ModuleList([edge])])
    states = FusedNodes(nodes)(x.contiguous(memory_format=torch.channels_last), x.detach(), weights)
    assert states is not None, "the fast execution refused the edge"
    out: Tensor = states[2]
    return out
