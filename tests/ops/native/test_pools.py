"""Tests of ``src/gradnas/ops/native/pools.py`` and ``pools.c``: torch's pools and norms, in any shape."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gradnas.ops.native import NormWeights, Pool, PoolKind, is_usable, native_pool, native_pool_gradients

pytestmark = pytest.mark.skipif(not is_usable(torch.float32), reason="there is no C compiler with OpenMP")

MAX3 = Pool(PoolKind.MAXIMUM, 3, 1, 1, normed=True, eps=1e-3, momentum=0.1, places=(0,))
SKIP = Pool(PoolKind.IDENTITY, 1, 1, 0, normed=False, eps=0.0, momentum=0.0, places=(0,))


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def of_torch(x: Tensor, mixing: Tensor, weights: Sequence[NormWeights], how: Pool) -> list[Tensor]:
    outs: list[Any] = [0.0] * (max(how.places) + 1)
    for m, (place, own) in enumerate(zip(how.places, weights, strict=True)):
        y = x
        if how.kind is PoolKind.MAXIMUM:
            y = F.max_pool2d(x, how.size, how.stride, how.padding)
        elif how.kind is PoolKind.AVERAGE:
            y = F.avg_pool2d(x, how.size, how.stride, how.padding, count_include_pad=False)
        if how.normed:
            y = F.batch_norm(y, own.mean, own.variance, own.scale, own.shift, not how.known, how.momentum, how.eps)
        outs[place] = outs[place] + y * (mixing[:, m, None, None, None] if mixing.dim() == 2 else mixing[m])
    return outs


def norms(how: Pool, channels: int, *, affine: bool, dtype: torch.dtype = torch.float64) -> list[NormWeights]:
    if not how.normed:
        return [NormWeights()] * len(how.places)
    weights = []
    for m in range(len(how.places)):
        mean, variance = (randn(channels, seed=10 * m + i, dtype=dtype) for i in (5, 6))
        own = [randn(channels, seed=10 * m + i, dtype=dtype) if affine else None for i in (7, 8)]
        weights.append(NormWeights(*own, mean, variance.abs() + 0.5))
    return weights


def check(
    how: Pool,
    *,
    batch: int = 2,
    size: tuple[int, int] = (6, 5),
    channels: int = 3,
    affine: bool = False,
    per_example: bool = False,
    ties: bool = False,
    dtype: torch.dtype = torch.float64,
    tolerance: float = 1e-11,
) -> None:
    """Values, gradients and running statistics against torch's, in double precision."""
    x = randn(batch, channels, *size, seed=0, dtype=dtype)
    x = x.round() if ties else x
    mixing = randn(*((batch, len(how.places)) if per_example else (len(how.places),)), seed=1, dtype=dtype)
    weights = norms(how, channels, affine=affine, dtype=dtype)
    exact = [NormWeights(*(w if w is None else w.double().clone() for w in own)) for own in weights]
    leaves = [x.double().clone().requires_grad_(), mixing.double().clone().requires_grad_()]
    learned = [w.requires_grad_() for own in exact for w in own[:2] if w is not None]
    expected = of_torch(leaves[0], leaves[1], exact, how)
    upstream = [randn(*y.shape, seed=90 + i, dtype=dtype) for i, y in enumerate(expected)]
    wanted = torch.autograd.grad(expected, [*leaves, *learned], [u.double() for u in upstream])
    outs, kept = native_pool(x, mixing, weights, how, [None] * len(expected))
    every = [w is not None for own in weights for w in own[:2]]
    of_x, of_mixing, found = native_pool_gradients(x, mixing, weights, how, kept, upstream, wanted=every)
    found_ones = [of_x, of_mixing, *(f for f in found if f is not None)]
    pairs = [*zip(outs, expected, strict=True), *zip(found_ones, wanted, strict=True)]
    pairs += [
        (a, b) for one, other in zip(weights, exact, strict=True) for a, b in zip(one[2:], other[2:], strict=True)
    ]
    largest = max(float(other.detach().abs().max()) for _, other in pairs if other is not None)
    for one, other in pairs:
        assert (one is None) == (other is None)
        if one is not None:
            assert one.shape == other.shape
            assert one.dtype == dtype
            difference = (one.double() - other.detach()).abs().max()
            assert difference <= tolerance * max(float(other.detach().abs().max()), 1e-3 * largest)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(PoolKind))
    size, stride = (1, 1) if kind is PoolKind.IDENTITY else (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3)))
    padding = 0 if kind is PoolKind.IDENTITY else data.draw(st.integers(0, size // 2))
    least = max(1, size - 2 * padding)
    height, width = (data.draw(st.integers(least, least + 9)) for _ in range(2))
    columns, normed = data.draw(st.integers(1, 4)), data.draw(st.booleans())
    places = [*range(data.draw(st.integers(1, columns)))]
    places += [data.draw(st.integers(0, len(places) - 1)) for _ in range(columns - len(places))]
    how = Pool(kind, size, stride, padding, normed, 1e-2, 0.2, tuple(data.draw(st.permutations(places))))
    check(
        how._replace(known=normed and data.draw(st.booleans())),
        batch=data.draw(st.integers(2, 4)),
        size=(height, width),
        channels=data.draw(st.integers(1, 37)),
        affine=data.draw(st.booleans()),
        per_example=data.draw(st.booleans()),
        ties=data.draw(st.booleans()),
        tolerance=1e-8,
    )


@pytest.mark.parametrize("kind", PoolKind)
@pytest.mark.parametrize("channels", [4, 16, 20])
def test_single_precision(channels: int, kind: PoolKind) -> None:
    how = MAX3._replace(kind=kind, places=(0, 1, 0))
    if kind is PoolKind.IDENTITY:
        how = how._replace(size=1, padding=0)
    check(how, size=(16, 16), channels=channels, dtype=torch.float32, tolerance=1e-5)


def test_known_answers() -> None:
    x = torch.tensor([[1.0, 5.0, 2.0], [4.0, 3.0, 5.0]], dtype=torch.float64)[None, None]
    weights, mixing = [NormWeights()], torch.tensor([2.0], dtype=torch.float64)
    for kind, expected, of_x in (
        (PoolKind.MAXIMUM, [[5.0, 5, 5], [5, 5, 5]], [[0.0, 6, 0], [0, 0, 0]]),  # the first of the two fives takes all
        (PoolKind.AVERAGE, [[13 / 4, 20 / 6, 15 / 4]] * 2, [[5 / 6, 4 / 3, 5 / 6]] * 2),
    ):
        how = MAX3._replace(kind=kind, normed=False)
        outs, kept = native_pool(x, mixing, weights, how, [None])
        torch.testing.assert_close(outs[0], 2 * torch.tensor(expected, dtype=torch.float64)[None, None])
        upstream = torch.full_like(x, 0.5)
        gradients = native_pool_gradients(x, mixing, weights, how, kept, [upstream], wanted=[False, False])
        torch.testing.assert_close(gradients[0], torch.tensor(of_x, dtype=torch.float64)[None, None])
        torch.testing.assert_close(gradients[1], 0.5 * torch.tensor(expected, dtype=torch.float64).sum().view(1))


def test_no_number_is_the_largest() -> None:
    x = randn(1, 2, 5, 5, seed=0)
    x[0, 1, 2, 2] = torch.nan
    outs, _ = native_pool(x, torch.ones(1, dtype=torch.float64), [NormWeights()], MAX3._replace(normed=False), [None])
    assert outs[0] is not None
    assert torch.equal(outs[0].isnan(), F.max_pool2d(x, 3, 1, 1).isnan())
    assert outs[0].isnan().sum() == 9


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    x, how = randn(5, 6, 9, 9, seed=0, dtype=torch.float32), MAX3._replace(places=(0, 1, 0))
    mixing, upstream = (randn(3, seed=1).float(), [randn(5, 6, 9, 9, seed=i, dtype=torch.float32) for i in (2, 3)])
    results = []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        weights = norms(how, 6, affine=True, dtype=torch.float32)
        outs, kept = native_pool(x, mixing, weights, how, [None, None])
        of_x, of_mixing, found = native_pool_gradients(x, mixing, weights, how, kept, upstream, wanted=[True] * 6)
        results.append([*outs, of_x, of_mixing, *found])
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))  # type: ignore[arg-type]  # all are there


def test_only_what_is_wanted_is_computed_and_added_to_what_is_there() -> None:
    x, how = randn(2, 3, 6, 5, seed=0), MAX3._replace(places=(0, 0))
    mixing, weights, upstream = randn(2, seed=1), norms(how, 3, affine=True), [randn(2, 3, 6, 5, seed=2)]
    outs, kept = native_pool(x, mixing, weights, how, [None])
    everything = native_pool_gradients(x, mixing, weights, how, kept, upstream, wanted=[True] * 4)
    for for_x, for_mixing, *wanted in product((True, False), repeat=6):
        some = native_pool_gradients(
            x, mixing, weights, how, kept, upstream, wanted=wanted, for_x=for_x, for_mixing=for_mixing
        )
        for one, other, want in zip(
            (*some[:2], *some[2]), (*everything[:2], *everything[2]), (for_x, for_mixing, *wanted), strict=True
        ):
            assert (one is not None) == want
            assert one is None or torch.equal(one, other)  # type: ignore[arg-type]  # everything is there
    before = randn(2, 3, 6, 5, seed=3)
    again = native_pool_gradients(
        x, mixing, weights, how, kept, upstream, wanted=[False] * 4, of_x=before.clone(), for_mixing=False
    )
    torch.testing.assert_close(again[0], before + everything[0])
    added, _ = native_pool(x, mixing, norms(how, 3, affine=True), how, [before.clone()])
    torch.testing.assert_close(added[0], before + outs[0])


def test_a_place_without_a_gradient_has_none() -> None:
    x, how = randn(2, 3, 6, 5, seed=0), MAX3._replace(places=(0, 1))
    mixing, weights, first = randn(2, seed=1), norms(how, 3, affine=True), randn(2, 3, 6, 5, seed=2)
    _, kept = native_pool(x, mixing, weights, how, [None, None])
    zeros = [first, torch.zeros_like(first)]
    one = native_pool_gradients(x, mixing, weights, how, kept, [first, None], wanted=[True] * 4)
    other = native_pool_gradients(x, mixing, weights, how, kept, zeros, wanted=[True] * 4)
    for a, b in zip((*one[:2], *one[2]), (*other[:2], *other[2]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_sizes_that_do_not_go_together_are_refused() -> None:
    x, mixing, weights = randn(2, 3, 6, 5, seed=0), randn(1, seed=1), norms(MAX3, 3, affine=False)

    def refused(message: str, x: Tensor = x, mixing: Tensor = mixing, how: Pool = MAX3, out: Any = None) -> None:
        with pytest.raises(ValueError, match=message):
            native_pool(x, mixing, weights, how, [out])

    refused("1 columns need as many mixing weights and norms, got 2 and 1", mixing=randn(2, seed=0))
    refused("got padding=2, stride=1 and an image of 6x5", how=MAX3._replace(padding=2))
    refused("stride=1 and an image of 6x5", how=MAX3._replace(size=9, padding=1))
    refused(
        "the identity has size 1, stride 1 and no padding, got 3, 1 and 1", how=MAX3._replace(kind=PoolKind.IDENTITY)
    )
    refused("more than one value per channel, got one image of 1x1", x=x[:1, :, :1, :1])
    refused("one shape, got \\(2, 3, 1, 1\\) and \\(2, 3, 6, 5\\)", out=randn(2, 3, 1, 1, seed=0))
    with pytest.raises(ValueError, match="need a running mean and variance"):
        native_pool(x, mixing, [NormWeights()], MAX3._replace(known=True), [None])
    with pytest.raises(TypeError, match=r"take torch.float64 on the CPU, got torch.float32 on cpu"):
        native_pool(x, mixing, norms(MAX3, 3, affine=True, dtype=torch.float32), MAX3, [None])


def test_the_state_itself_is_not_copied() -> None:
    x = randn(2, 3, 6, 5, seed=0)
    _, (kept, _) = native_pool(x, torch.ones(1, dtype=torch.float64), [NormWeights()], SKIP, [None])
    assert kept.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("how", [SKIP, MAX3._replace(normed=False)])
def test_without_a_norm_the_gradient_does_not_look_at_the_input(how: Pool) -> None:
    x = randn(1, 2, 5, 5, seed=0)
    x[0, 1, 2, 2], x[0, 0, 4, 4] = torch.inf, -torch.inf
    mixing, upstream = torch.ones(1, dtype=torch.float64), randn(1, 2, 5, 5, seed=1)
    outs, kept = native_pool(x, mixing, [NormWeights()], how, [None])
    of_x, _, _ = native_pool_gradients(x, mixing, [NormWeights()], how, kept, [upstream], wanted=[False, False])
    leaf = x.clone().requires_grad_()
    expected = of_torch(leaf, mixing, [NormWeights()], how)[0]
    torch.testing.assert_close(outs[0], expected.detach())
    torch.testing.assert_close(of_x, torch.autograd.grad(expected, leaf, upstream)[0])


def test_what_is_kept_may_come_back_in_another_memory_format() -> None:
    x, mixing, weights = randn(2, 3, 6, 5, seed=0), torch.ones(1, dtype=torch.float64), norms(MAX3, 3, affine=False)
    upstream = [randn(2, 3, 6, 5, seed=1)]
    _, (pooled, moments) = native_pool(x, mixing, weights, MAX3, [None])
    found = [
        native_pool_gradients(x, mixing, weights, MAX3, (kept, moments), upstream, wanted=[False, False])[0]
        for kept in (pooled, pooled.contiguous())
    ]
    assert torch.equal(*found)  # type: ignore[arg-type]  # all are there


def test_gradients_of_another_shape_are_refused() -> None:
    x, mixing, weights = randn(2, 3, 6, 5, seed=0), torch.ones(1, dtype=torch.float64), norms(MAX3, 3, affine=False)
    _, kept = native_pool(x, mixing, weights, MAX3, [None])
    right = randn(2, 3, 6, 5, seed=0)
    for upstream, of_x in ((randn(1, 3, 6, 5, seed=0), None), (right.contiguous(), None), (right, right[:1])):
        with pytest.raises(ValueError, match=r"expected images of .* in channels_last, got"):
            native_pool_gradients(x, mixing, weights, MAX3, kept, [upstream], wanted=[False, False], of_x=of_x)
