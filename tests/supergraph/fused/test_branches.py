"""Tests of ``src/gradnas/supergraph/fused/branches.py``: compiled branches are their definition, with all derivatives.

In float64, see the fixture in ``conftest.py``.
"""

import gc
import weakref
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from tests.supergraph.fused.test_kernels import derivatives, randn
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck

from gradnas.ops.native import Chains, ChainStage, NormWeights, Pool, PoolKind, StageWeights, is_usable
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model
from gradnas.supergraph.fused.branches import Branch, CompiledGroup, branches_definition, is_native, sum_branches
from gradnas.supergraph.fused.layers import Convolution, Layer, Norm, Relu, Separable
from gradnas.supergraph.fused.plan import Column, Group

pytestmark = pytest.mark.skipif(not is_usable(torch.float64), reason="there is no C compiler with OpenMP")

C = 3
STAGE = ChainStage((3, 3), 1, (1, 1), 1, 1e-3, 0.1)
WIDE = ChainStage((5, 5), 1, (4, 4), 2, 1e-3, 0.1)
CHAINS = Chains((STAGE, WIDE), (0, 1, 0), relu=True)
MAXIMUM = Pool(PoolKind.MAXIMUM, 3, 1, 1, normed=True, eps=1e-3, momentum=0.1, places=(1, 0))
SKIP = Pool(PoolKind.IDENTITY, 1, 1, 0, normed=False, eps=0.0, momentum=0.0, places=(1,))


class Sample:
    """Three branches with weights; ``inputs`` are all that can have a gradient."""

    def __init__(self, *, known: bool = False, affine: bool = True, per_example: bool = False, size: int = 5) -> None:
        self.hows: list[Chains | Pool] = [CHAINS._replace(known=known), MAXIMUM._replace(known=known), SKIP]
        self.running: list[list[tuple[Tensor, ...]]] = []
        self.inputs = [randn(2, C, size, size)]
        self.affine = affine
        for i, how in enumerate(self.hows):
            columns = len(how.places)
            self.inputs.append(randn(*((2, columns) if per_example else (columns,)), seed=i))
            norms = [] if how is SKIP else range(columns * (len(how.stages) if isinstance(how, Chains) else 1))
            for n in norms:
                if isinstance(how, Chains):
                    side = how.stages[n // columns].kernel[0] - 2 * (n % 2) * (n // columns)
                    self.inputs += [randn(C, 1, side, side, seed=10 * n), randn(C, C, 1, 1, seed=10 * n + 1)]
                if affine:
                    self.inputs += [randn(C, seed=10 * n + 2), randn(C, seed=10 * n + 3)]
            self.running.append([(randn(C, seed=n), randn(C, seed=n).abs() + 0.5) for n in norms])
        for x in self.inputs:
            x.requires_grad_()

    def branches(self, inputs: Sequence[Tensor]) -> list[Branch]:
        rest = iter(inputs[1:])
        branches = []
        for how, running in zip(self.hows, self.running, strict=True):
            mixing, weights = next(rest), []
            for own in running:
                learned = [next(rest), next(rest)] if isinstance(how, Chains) else []
                affine = [next(rest), next(rest)] if self.affine else [None, None]
                kind = StageWeights if isinstance(how, Chains) else NormWeights
                weights.append(kind(*learned, *affine, *own))  # type: ignore[arg-type]  # as the kind has them
            branches.append(Branch(how, mixing, weights or [NormWeights()]))
        return branches

    def compiled(self, *inputs: Tensor) -> Tensor:
        return torch.stack(sum_branches(inputs[0], self.branches(inputs)))

    def definition(self, *inputs: Tensor) -> Tensor:
        return torch.stack(branches_definition(inputs[0], self.branches(inputs)))


@pytest.mark.parametrize("per_example", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_all_derivatives_are_those_of_the_definition(known: bool, affine: bool, per_example: bool) -> None:
    sample = Sample(known=known, affine=affine, per_example=per_example)
    both = (derivatives(f, sample.inputs) for f in (sample.compiled, sample.definition))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_torch_checks_both_orders() -> None:
    sample = Sample(size=3)
    assert gradcheck(sample.compiled, sample.inputs, fast_mode=True)
    assert gradgradcheck(sample.compiled, sample.inputs, fast_mode=True)


def test_the_definition_leaves_running_statistics_alone_and_the_compiled_form_moves_them() -> None:
    sample = Sample()
    before = [t.clone() for own in sample.running for pair in own for t in pair]
    sample.definition(*sample.inputs)
    assert all(
        torch.equal(a, b) for a, b in zip(before, (t for o in sample.running for p in o for t in p), strict=True)
    )
    sample.compiled(*sample.inputs)
    after = [t for own in sample.running for pair in own for t in pair]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    pooled = torch.nn.functional.max_pool2d(sample.inputs[0], 3, 1, 1).detach()
    mean = 0.9 * before[-4] + 0.1 * pooled.mean((0, 2, 3))
    torch.testing.assert_close(after[-4], mean)


@pytest.mark.parametrize("needed", list(product([True, False], repeat=3)))
def test_only_some_inputs_need_gradients(needed: tuple[bool, bool, bool]) -> None:
    sample = Sample()
    expected = torch.autograd.grad(sample.definition(*sample.inputs).sin().sum(), sample.inputs)
    for x, is_image, is_mixing in ((x, i == 0, i and x.dim() == 1) for i, x in enumerate(sample.inputs)):
        x.requires_grad_(needed[0] if is_image else needed[1] if is_mixing else needed[2])
    y = sample.compiled(*sample.inputs)
    assert y.requires_grad == any(needed)
    if any(needed):
        y.sin().sum().backward()
    for x, gradient in zip(sample.inputs, expected, strict=True):
        assert (x.grad is not None) == x.requires_grad
        if x.grad is not None:
            torch.testing.assert_close(x.grad, gradient, rtol=1e-9, atol=1e-9)


def test_a_place_that_nobody_uses() -> None:
    sample = Sample()
    for create_graph in (True, False):
        gradients = [
            torch.autograd.grad(
                f(sample.inputs[0], sample.branches(sample.inputs))[1].sum(),
                sample.inputs,
                create_graph=create_graph,
                materialize_grads=True,
                allow_unused=True,
            )
            for f in (sum_branches, branches_definition)
        ]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_gradients_of_any_memory_format() -> None:
    sample = Sample()
    y = sample.compiled(*sample.inputs)
    upstream = randn(*y.shape, seed=1)
    for strange in (upstream.transpose(3, 4).contiguous().transpose(3, 4), upstream[:1].expand_as(upstream)):
        found = torch.autograd.grad(y, sample.inputs, strange, retain_graph=True)
        expected = torch.autograd.grad(y, sample.inputs, strange.clone(), retain_graph=True)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_weights_that_are_views_and_depend_on_each_other() -> None:
    sample = Sample(affine=False)
    kernel = sample.inputs[2]

    def run(f: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        inputs = list(sample.inputs)
        inputs[0] = inputs[0] + kernel.mean()
        inputs[3] = inputs[3].transpose(0, 1) * kernel.sum()
        return torch.autograd.grad(f(*inputs).sin().sum(), sample.inputs)

    for one, other in zip(run(sample.compiled), run(sample.definition), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_weight_that_has_changed_is_noticed() -> None:
    sample = Sample()
    y = sample.compiled(*sample.inputs)
    with torch.no_grad():
        sample.inputs[2].mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_statistics_that_have_changed_are_noticed() -> None:
    sample = Sample(known=True)
    y = sample.compiled(*sample.inputs)
    sample.hows = [how._replace(known=False) for how in sample.hows]
    sample.compiled(*sample.inputs)  # moves them
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_two_passes_may_come_before_their_gradients() -> None:
    sample = Sample()
    first, second = sample.compiled(*sample.inputs), sample.compiled(*sample.inputs)
    both = (torch.autograd.grad(y.sin().sum(), sample.inputs) for y in (first, second))
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))


def test_what_is_kept_may_be_kept_elsewhere() -> None:
    sample = Sample()
    expected = torch.autograd.grad(sample.compiled(*sample.inputs).sin().sum(), sample.inputs)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().numpy().copy(), torch.from_numpy):
        y = sample.compiled(*sample.inputs)
    found = torch.autograd.grad(y.sin().sum(), sample.inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_group_without_a_relu() -> None:
    conv = Convolution(C, C, (3, 3), (1, 1), (1, 1), (1, 1), C)
    modules = [nn.Conv2d(C, C, 3, padding=1, groups=C, bias=False), nn.Conv2d(C, C, 1, bias=False), nn.BatchNorm2d(C)]
    pointwise = Convolution(C, C, (1, 1), (1, 1), (0, 0), (1, 1), 1)
    chain: tuple[Layer, ...] = (Separable(conv, pointwise), Norm(C, 1e-5, 0.1, affine=True, tracks=True))
    own = (((modules[0], modules[1]),), ((modules[2],),))
    for layers, of_layers in ((chain, own), ((Relu(), *chain), (((),), *own))):
        group = Group((), layers, (Column(0, 0, 0),), of_layers)
        branch = CompiledGroup(group, [0]).branch(torch.ones(1), training=True, moving=False)
        x = randn(2, C, 5, 5)
        (y,) = sum_branches(x, [branch])
        torch.testing.assert_close(y, nn.Sequential(*modules)(x.relu() if len(layers) == 3 else x))


def test_what_is_kept_goes_with_the_graph() -> None:
    sample = Sample()
    kept: list[Any] = []

    def pack(t: Tensor) -> Tensor:
        copy = t.detach().clone()
        kept.append(weakref.ref(copy))
        return copy

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = sample.compiled(*sample.inputs)
    assert len(kept) > len(sample.inputs)  # hooks see what lies between, too
    del y
    gc.collect()
    assert not any(ref() is not None for ref in kept)


def test_what_is_native() -> None:
    x = torch.ones(2)
    assert is_native(x)
    assert is_native(nn.Parameter(x))
    assert not is_native(x.to(torch.bfloat16))
    assert not is_native(x.to("meta"))
    with FakeTensorMode() as mode:
        assert not is_native(mode.from_tensor(x))


def test_weights_that_are_no_parameters() -> None:
    """As pruning leaves them: computed from others."""
    space = DartsSpace(
        channels=2, cells=1, nodes=1, reductions=0, image_size=6, primitives=("sep_conv_3x3", "skip_connect")
    )
    torch.manual_seed(0)
    models = [Model(space.build(), affine=True, fused=fused) for fused in (True, False)]
    models[1].load_state_dict(models[0].state_dict())
    x, outs = randn(2, 3, 6, 6), []
    for model in models:
        for module in (m for cell in model.typed_cells() for m in cell.modules()):
            if isinstance(module, nn.BatchNorm2d | nn.Conv2d):
                weight = module.weight.detach()
                del module.weight
                module.weight = 0.5 * weight
        outs.append(model(x)[0])
    torch.testing.assert_close(*outs)
