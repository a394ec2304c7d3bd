"""Tests of ``src/gradnas/supergraph/fused/kernels.py``: each kernel is some plain torch, with all derivatives.

In float64, see the fixture in ``conftest.py``. Shape suffixes and sizes: B examples, M columns of C channels, D of them
after a pointwise convolution.
"""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from gradnas.supergraph.fused.kernels import (
    grouped_pointwise,
    mixtures,
    repeat_columns,
    separable_conv2d,
    split_columns,
    sum_columns,
)

Function = Callable[..., Tensor]


B, C, M, D = 2, 2, 3, 4


def randn(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def leaves(*shapes: Sequence[int]) -> tuple[Tensor, ...]:
    return tuple(randn(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes))


def derivatives(f: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Value, gradients, gradients that can be differentiated, and derivatives of these, also upstream."""
    y = f(*inputs)
    upstream = randn(*y.shape, seed=99).requires_grad_()
    once = torch.autograd.grad(y, inputs, upstream.detach(), retain_graph=True)
    first = torch.autograd.grad(y, inputs, upstream, create_graph=True)
    along = sum(((g.sin() * randn(*g.shape, seed=98)).sum() for g in first), torch.zeros(()))
    second = torch.autograd.grad(along, (*inputs, upstream), allow_unused=True, materialize_grads=True)
    return [y, *once, *first, *second]


def assert_same_function(ours: Function, theirs: Function, inputs: Sequence[Tensor]) -> None:
    for one, other in zip(derivatives(ours, inputs), derivatives(theirs, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


# ----------------------------------------------------------------------------------------------------- separable_conv2d


def plain_separable(
    x: Tensor, depthwise: Tensor, pointwise_MDC: Tensor, stride: int, padding: tuple[int, int], dilation: int
) -> Tensor:
    wide = x.repeat(1, len(depthwise) // x.shape[1], 1, 1)
    between = F.conv2d(wide, depthwise, None, stride, padding, dilation, len(depthwise))
    return F.conv2d(between, pointwise_MDC.flatten(0, 1)[:, :, None, None], groups=len(pointwise_MDC))


def separable_leaves(
    *, columns: int = M, shared: bool = True, kernel: int = 3, size: tuple[int, int] = (6, 8), examples: int = B
) -> tuple[Tensor, ...]:
    wide = columns * C
    return leaves((examples, C if shared else wide, *size), (wide, 1, kernel, kernel), (columns, D, C))


def settings(kernel: int, stride: int, dilation: int) -> tuple[int, tuple[int, int], int]:
    """With the padding that keeps the size at stride 1."""
    return stride, (dilation * (kernel // 2),) * 2, dilation


def test_known_answer_of_the_separable_convolution() -> None:
    # A kernel of ones sums 9 pixels, 6 at the border and 4 in the corner; column m doubles that m + 1 times.
    x, depthwise = torch.ones(1, 1, 3, 3), torch.ones(2, 1, 3, 3)
    y = separable_conv2d(x, depthwise, torch.tensor([[[2.0]], [[4.0]]]), 1, (1, 1), 1)
    seen = torch.tensor([[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]])
    assert torch.equal(y[0], torch.stack([2 * seen, 4 * seen]))


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 2)])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_separable_convolution_of_a_shared_and_of_a_wide_input(
    stride: int, dilation: int, kernel: int, size: tuple[int, int]
) -> None:
    chosen = settings(kernel, stride, dilation)
    for columns, shared in product((1, M), (True, False)):
        assert_same_function(
            lambda *inputs: separable_conv2d(*inputs, *chosen),
            lambda *inputs: plain_separable(*inputs, *chosen),
            separable_leaves(columns=columns, shared=shared, kernel=kernel, size=size),
        )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (5, 2, 1), (3, 1, 2), (5, 2, 2)])
def test_torch_checks_both_orders_of_the_separable_convolution(
    kernel: int, stride: int, dilation: int, shared: bool
) -> None:
    inputs = separable_leaves(columns=2, shared=shared, kernel=kernel, size=(4, 3), examples=1)

    def convolve(*inputs: Tensor) -> Tensor:
        return separable_conv2d(*inputs, *settings(kernel, stride, dilation))

    assert gradcheck(convolve, inputs, fast_mode=True)
    assert gradgradcheck(convolve, inputs, fast_mode=True)


def test_rows_and_columns_may_be_padded_differently() -> None:
    assert_same_function(
        lambda *inputs: separable_conv2d(*inputs, 1, (0, 1), 1),
        lambda *inputs: plain_separable(*inputs, 1, (0, 1), 1),
        separable_leaves(),
    )


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"), [(3, 1, 1, 2), (4, 1, 3, 2), (3, 2, 1, 2), (3, 1, 3, 1)]
)
def test_any_padding_has_the_right_gradients(kernel: int, stride: int, padding: int, dilation: int) -> None:
    assert_same_function(
        lambda *inputs: separable_conv2d(*inputs, stride, (padding, padding), dilation),
        lambda *inputs: plain_separable(*inputs, stride, (padding, padding), dilation),
        separable_leaves(kernel=kernel),
    )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("needed", list(product([True, False], repeat=3)))
def test_only_some_inputs_of_the_separable_convolution_need_gradients(needed: tuple[bool, ...], shared: bool) -> None:
    inputs = separable_leaves(shared=shared)
    expected = torch.autograd.grad(plain_separable(*inputs, 2, (1, 1), 1).exp().sum(), inputs)
    given = [x.detach().requires_grad_(need) for x, need in zip(inputs, needed, strict=True)]
    y = separable_conv2d(*given, 2, (1, 1), 1)
    assert y.requires_grad == any(needed)
    if not any(needed):
        return
    y.exp().sum().backward()
    for x, other, need in zip(given, expected, needed, strict=True):
        assert (x.grad is not None) == need
        if x.grad is not None:
            torch.testing.assert_close(x.grad, other)


def test_the_input_may_depend_on_the_kernels() -> None:
    depthwise, pointwise = separable_leaves()[1:]

    def through(convolve: Function) -> Function:
        def of_kernels(depthwise: Tensor, pointwise: Tensor) -> Tensor:
            x = randn(B, C, 6, 8) * depthwise.sum() + pointwise.sum()
            return convolve(x, depthwise, pointwise, 1, (1, 1), 1)

        return of_kernels

    assert_same_function(through(separable_conv2d), through(plain_separable), (depthwise, pointwise))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_results_of_the_separable_convolution_are_channels_last(stride: int, shared: bool) -> None:
    x, depthwise, pointwise = separable_leaves(shared=shared)
    for image in (x, x.detach().contiguous().requires_grad_()):
        y = separable_conv2d(image, depthwise, pointwise, stride, (1, 1), 1)
        assert is_channels_last(y)
        of_image = torch.autograd.grad(y.sum(), image)[0]
        assert is_channels_last(of_image) or not is_channels_last(image)


def test_no_image_at_all() -> None:
    inputs = separable_leaves(examples=0)
    y = separable_conv2d(*inputs, 2, (1, 1), 1)
    assert y.shape == (0, M * D, 3, 4)
    for x, gradient in zip(inputs, torch.autograd.grad(y.sum(), inputs), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))


def kinds(y: Tensor) -> set[str]:
    """Names of the functions that made a tensor."""
    found, rest = set(), [y.grad_fn]
    while rest:
        node = rest.pop()
        if node is not None:
            found.add(node.name())
            rest += [before for before, _ in node.next_functions]
    return found


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_separable_convolution_in_bfloat16(stride: int, autocast: bool) -> None:
    exact = [x.detach().to(torch.bfloat16).double().requires_grad_() for x in separable_leaves()]
    x, depthwise, pointwise = (x.detach().to(torch.bfloat16).requires_grad_() for x in exact)
    if autocast:  # the weights come in the precision it chose, the input as the layer before left it
        x = x.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = separable_conv2d(x, depthwise, pointwise, stride, (1, 1), 1)
    assert y.dtype == torch.bfloat16
    assert is_channels_last(y)
    assert not any("Separable" in name for name in kinds(y))
    upstream = randn(*y.shape, seed=9).to(torch.bfloat16)
    found = torch.autograd.grad(y, (x, depthwise, pointwise), upstream)
    assert [g.dtype for g in found] == [x.dtype, torch.bfloat16, torch.bfloat16]
    expected = plain_separable(*exact, stride, (1, 1), 1)
    wanted = torch.autograd.grad(expected, exact, upstream.double())
    for one, other in zip((y, *found), (expected, *wanted), strict=True):
        assert (one.double() - other).norm() < 0.02 * other.norm()


# ---------------------------------------------------------------------------------------------------- grouped_pointwise


def plain_pointwise(x: Tensor, weight_MDC: Tensor) -> Tensor:
    return F.conv2d(x, weight_MDC.flatten(0, 1)[:, :, None, None], groups=len(weight_MDC))


@pytest.mark.parametrize("columns", [1, M])
def test_grouped_pointwise_is_the_grouped_convolution(columns: int) -> None:
    inputs = leaves((B, columns * C, 3, 5), (columns, D, C))
    assert_same_function(grouped_pointwise, plain_pointwise, inputs)
    assert gradcheck(grouped_pointwise, inputs, fast_mode=True)
    assert gradgradcheck(grouped_pointwise, inputs, fast_mode=True)


def test_grouped_pointwise_takes_any_memory_format_and_gives_channels_last() -> None:
    x, weight = leaves((B, M * C, 3, 5), (M, D, C))
    for image in (x, x.detach().contiguous().requires_grad_()):
        y = grouped_pointwise(image, weight)
        assert is_channels_last(y)
        torch.testing.assert_close(y, plain_pointwise(x, weight))
        assert is_channels_last(torch.autograd.grad(y.sum(), image)[0])


@pytest.mark.parametrize("needed", [(True, False), (False, True)])
def test_one_of_the_two_gradients_of_grouped_pointwise(needed: tuple[bool, bool]) -> None:
    inputs = leaves((B, M * C, 3, 5), (M, D, C))
    expected = torch.autograd.grad(plain_pointwise(*inputs).exp().sum(), inputs)
    given = [x.detach().requires_grad_(need) for x, need in zip(inputs, needed, strict=True)]
    grouped_pointwise(*given).exp().sum().backward()
    for x, other, need in zip(given, expected, needed, strict=True):
        assert (x.grad is not None) == need
        if x.grad is not None:
            torch.testing.assert_close(x.grad, other)


def test_grouped_pointwise_has_the_precision_of_its_weights() -> None:
    x, weight = randn(B, M * C, 3, 5), randn(M, D, C, seed=1).to(torch.bfloat16)
    y = grouped_pointwise(x, weight)
    assert y.dtype == torch.bfloat16
    expected = plain_pointwise(x.to(torch.bfloat16).double(), weight.double())
    torch.testing.assert_close(y.double(), expected, rtol=0.02, atol=0.02)


# ---------------------------------------------------------------------------------------- repeat, sum and split columns


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_columns_are_repeated_and_summed(columns: int) -> None:
    def plain_sum(x: Tensor) -> Tensor:
        return x.unflatten(1, (columns, C)).sum(1)

    for ours, plain, channels in (
        (lambda x: repeat_columns(x, columns), lambda x: x.repeat(1, columns, 1, 1), C),
        (lambda x: sum_columns(x, columns), plain_sum, columns * C),
    ):
        # Squared, so that there are second derivatives.
        inputs = leaves((B, channels, 3, 2))
        y = ours(inputs[0])
        assert is_channels_last(y)
        assert is_channels_last(torch.autograd.grad(y, inputs, randn(*y.shape))[0])
        assert_same_function(lambda x, f=ours: f(x.square()), lambda x, f=plain: f(x.square()), inputs)
        assert gradcheck(ours, inputs, fast_mode=True)
        assert gradgradcheck(ours, inputs, fast_mode=True)


def test_one_column_is_not_copied() -> None:
    x = randn(B, C, 3, 2)
    assert repeat_columns(x, 1) is sum_columns(x, 1) is split_columns(x, 1)[0] is x


def test_columns_are_split_without_a_copy() -> None:
    x = randn(B, M * C, 3, 2)
    parts = split_columns(x, M)
    assert [part.data_ptr() for part in parts] == [x[:, m * C :].data_ptr() for m in range(M)]
    for part, expected in zip(parts, x.chunk(M, dim=1), strict=True):
        assert torch.equal(part, expected)


@pytest.mark.parametrize("used", [(0, 1, 2), (0, 2), (1,)])
def test_split_columns_has_all_derivatives_whichever_parts_are_used(used: tuple[int, ...]) -> None:
    def through(split: Callable[..., Sequence[Tensor]]) -> Function:
        def of_parts(x: Tensor) -> Tensor:
            parts = split(x.square(), M)
            return torch.stack([(m + 1) * parts[m] ** 2 for m in used])

        return of_parts

    inputs = leaves((B, M * C, 3, 2))
    assert_same_function(through(split_columns), through(lambda x, columns: x.chunk(columns, dim=1)), inputs)


@pytest.mark.parametrize("missing", range(M))
def test_a_column_without_a_gradient_gets_zeros(missing: int) -> None:
    (x,) = leaves((B, M * C, 3, 2))
    parts = split_columns(x, M)
    torch.stack([part for m, part in enumerate(parts) if m != missing]).sum().backward()
    assert x.grad is not None
    assert is_channels_last(x.grad)
    expected = torch.ones(M).index_fill(0, torch.tensor(missing), 0.0).repeat_interleave(C)
    assert torch.equal(x.grad, expected[:, None, None].expand_as(x.grad))


# ------------------------------------------------------------------------------------------------------------- mixtures


def plain_mixtures(tensors: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    columns = weights[0].shape[-1]
    return [sum(x * w[..., m].view(-1, 1, 1, 1) for x, w in zip(tensors, weights, strict=True)) for m in range(columns)]


def of_mixtures(mix: Callable[..., list[Tensor]], tensors: int) -> Function:
    return lambda *inputs: torch.stack(mix(inputs[:tensors], inputs[tensors:]))


def mixture_leaves(per_example: bool, tensors: int = 2, edges: int = M) -> tuple[Tensor, ...]:
    weights = (B, edges) if per_example else (edges,)
    return leaves(*[(B, C, 3, 2)] * tensors, *[weights] * tensors)


def test_known_answer_of_mixtures() -> None:
    ones = torch.ones(1, 1, 1, 1)
    out = mixtures([ones, 10 * ones], [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])])
    assert [x.item() for x in out] == [31.0, 42.0]


@pytest.mark.parametrize(("tensors", "edges"), [(1, 1), (1, 3), (3, 1), (2, 3)])
@pytest.mark.parametrize("per_example", [True, False])
def test_mixtures_are_weighted_sums(per_example: bool, tensors: int, edges: int) -> None:
    inputs = mixture_leaves(per_example, tensors, edges)
    assert_same_function(of_mixtures(mixtures, tensors), of_mixtures(plain_mixtures, tensors), inputs)
    assert gradcheck(of_mixtures(mixtures, tensors), inputs, fast_mode=True)
    assert gradgradcheck(of_mixtures(mixtures, tensors), inputs, fast_mode=True)


@pytest.mark.parametrize("per_example", [True, False])
def test_mixtures_of_tensors_that_depend_on_each_other(per_example: bool) -> None:
    x, weight = mixture_leaves(per_example, 1)

    def through(mix: Callable[..., list[Tensor]]) -> Function:
        def of_one(x: Tensor, weight: Tensor) -> Tensor:
            wave = x.sin()
            return torch.stack(mix([x, wave, wave * x], [weight, weight.exp(), weight * x.mean()]))

        return of_one

    assert_same_function(through(mixtures), through(plain_mixtures), (x, weight))


@pytest.mark.parametrize("per_example", [True, False])
@pytest.mark.parametrize("needed", [(True, False), (False, True)])
def test_mixtures_of_tensors_or_weights_that_are_constant(needed: tuple[bool, bool], per_example: bool) -> None:
    inputs = mixture_leaves(per_example)
    expected = torch.autograd.grad(of_mixtures(plain_mixtures, 2)(*inputs).exp().sum(), inputs)
    each = [need for need in needed for _ in range(2)]
    given = [x.detach().requires_grad_(need) for x, need in zip(inputs, each, strict=True)]
    of_mixtures(mixtures, 2)(*given).exp().sum().backward()
    for x, other, need in zip(given, expected, each, strict=True):
        assert (x.grad is not None) == need
        if x.grad is not None:
            torch.testing.assert_close(x.grad, other)


@pytest.mark.parametrize("edges", [1, M])
def test_the_gradients_of_mixed_tensors_are_each_in_one_piece(edges: int) -> None:
    inputs = mixture_leaves(False, 3, edges)
    tensors, weights = inputs[:3], inputs[3:]
    gradients = torch.autograd.grad(torch.stack(mixtures(tensors, weights)).sum(), tensors)
    assert all(is_channels_last(g) for g in gradients)


def test_mixtures_have_the_precision_of_the_tensors() -> None:
    tensors = [randn(B, C, 3, 2, seed=k).to(torch.bfloat16).requires_grad_() for k in range(2)]
    weights = [randn(M, seed=k).float().requires_grad_() for k in range(2)]
    out = mixtures(tensors, weights)
    assert {x.dtype for x in out} == {torch.bfloat16}
    expected = plain_mixtures([x.double() for x in tensors], [w.double() for w in weights])
    for one, other in zip(out, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0.02, atol=0.02)
    torch.stack(out).sum().backward()
    assert [x.grad.dtype for x in (*tensors, *weights) if x.grad is not None] == [torch.bfloat16] * 2 + [
        torch.float32
    ] * 2


def test_mixtures_of_single_precision_under_autocast() -> None:
    tensors = [randn(B, C, 3, 2, seed=k).float().requires_grad_() for k in range(2)]
    weights = [randn(M, seed=k).float().requires_grad_() for k in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        out = mixtures(tensors, weights)
    torch.stack(out).double().sum().backward()
    for x, weight in zip(tensors, weights, strict=True):
        assert x.grad is not None
        assert weight.grad is not None
        torch.testing.assert_close(x.grad, weight.detach().sum().expand_as(x), rtol=0.02, atol=0.02)
        torch.testing.assert_close(weight.grad, x.detach().sum().expand_as(weight), rtol=0.02, atol=0.02)
