"""Tests of ``src/gradnas/ops/native/normalize.py`` and ``normalize.c``: batch norm, and what comes behind it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gradnas.ops.native import Normalizing, is_usable, native_normalize, native_normalize_gradients

pytestmark = pytest.mark.skipif(not is_usable(torch.float32), reason="there is no C compiler with OpenMP")


def randn(*shape: int, seed: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def of_torch(x: Tensor, scale: Tensor | None, shift: Tensor | None, how: Normalizing) -> Tensor:
    """As one would write it down."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    out = (x - mean) / (x.var(dim=(0, 2, 3), correction=0, keepdim=True) + how.eps).sqrt()
    out = out if scale is None else out * scale[:, None, None]
    out = out if shift is None else out + shift[:, None, None]
    if how.relu:
        return F.relu(out)
    columns = out.chunk(how.columns, dim=1)
    return torch.cat([sum(columns[j :: how.places], torch.zeros(())) for j in range(how.places)], dim=1)


def check(x: Tensor, scale: Tensor | None, shift: Tensor | None, how: Normalizing, tolerance: float) -> None:
    """Value, gradients and statistics in double precision against what is written down."""
    leaves = [None if t is None else t.double().requires_grad_() for t in (x, scale, shift)]
    assert leaves[0] is not None
    expected = of_torch(leaves[0], leaves[1], leaves[2], how)
    out, moments, moving = native_normalize(x, scale, shift, how)
    upstream = randn(*expected.shape, seed=9).to(x.dtype)
    wanted = iter(torch.autograd.grad(expected, [t for t in leaves if t is not None], upstream.double()))
    gradients = native_normalize_gradients(x, scale, shift, moments, upstream, how)
    pairs: list[tuple[Tensor | None, Tensor]] = [(out, expected)]
    pairs += [(g, next(wanted)) for g, leaf in zip(gradients, leaves, strict=True) if leaf is not None]
    variance, mean = torch.var_mean(x.double(), dim=(0, 2, 3))
    pairs += [(moving[0], mean), (moving[1], variance), (moments[0], mean)]
    for one, other in pairs:
        assert one is not None
        assert one.shape == other.shape
        assert (one.double() - other).abs().max() <= tolerance * max(1.0, float(other.detach().abs().max()))
    assert out.dtype == moving.dtype == x.dtype
    assert out.is_contiguous(memory_format=torch.channels_last)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    places, repeats, channels = (data.draw(st.integers(1, 4)) for _ in range(3))
    channels *= data.draw(st.sampled_from([1, 5, 8]))
    relu = repeats == 1 and data.draw(st.booleans())
    size = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    width = places * repeats * channels
    x = 3 * randn(size[0], width, *size[1:], seed=0) + 5
    scale = randn(width, seed=1) if data.draw(st.booleans()) else None
    shift = randn(width, seed=2) if data.draw(st.booleans()) else None
    check(x, scale, shift, Normalizing(1e-5, relu, places * repeats, places), 1e-10)


@pytest.mark.parametrize("relu", [True, False])
def test_single_precision_far_from_zero(relu: bool) -> None:
    """A mean of 100 deviations: a sum of squares would have lost four digits."""
    x = (randn(8, 24, 16, 16, seed=0) + 100).float().contiguous(memory_format=torch.channels_last)
    check(x, None, None, Normalizing(1e-5, relu), 2e-4)


def test_zero_variance_is_divided_by_eps() -> None:
    out, _, moving = native_normalize(0 * randn(2, 3, 4, 4, seed=0) + 7, None, None, Normalizing(1e-5))
    assert torch.equal(out, torch.zeros_like(out))
    assert torch.equal(moving, torch.tensor([[7.0] * 3, [0.0] * 3]).double())


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    x, scale = randn(5, 12, 7, 7, seed=0).float(), randn(12, seed=1).float()
    x, how = x.contiguous(memory_format=torch.channels_last), Normalizing(1e-5, False, 4, 2)
    upstream = randn(5, 6, 7, 7, seed=2).float().contiguous(memory_format=torch.channels_last)
    results = []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        out, moments, moving = native_normalize(x, scale, None, how)
        gradients = native_normalize_gradients(x, scale, None, moments, upstream, how)
        results.append([out, moving, *(g for g in gradients if g is not None)])
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("relu", [True, False])
def test_no_number_is_not_hidden(relu: bool) -> None:
    x = randn(2, 3, 4, 4, seed=0)
    x[0, 1, 2, 2] = torch.nan
    out, _, moving = native_normalize(x, None, None, Normalizing(1e-5, relu))
    assert out[:, 1].isnan().all()
    assert not out[:, ::2].isnan().any()
    assert moving[:, 1].isnan().all()


def test_gradient_of_the_input_may_be_left_out() -> None:
    x, how = randn(2, 4, 3, 3, seed=0), Normalizing(1e-5)
    _, moments, _ = native_normalize(x, None, None, how)
    upstream = randn(2, 4, 3, 3, seed=1)
    everything = native_normalize_gradients(x, None, None, moments, upstream, how)
    some = native_normalize_gradients(x, None, None, moments, upstream, how, of_input=False)
    assert some[0] is None
    assert all(torch.equal(a, b) for a, b in zip(some[1:], everything[1:], strict=True))


def test_expanded_weights_and_gradients_are_brought_into_order() -> None:
    x, scale, how = randn(2, 4, 3, 3, seed=0), randn(1, seed=1).expand(4), Normalizing(1e-5)
    out, moments, _ = native_normalize(x, scale, None, how)
    assert torch.equal(out, native_normalize(x, scale.clone(), None, how)[0])
    upstream = randn(1, 1, 1, 1, seed=2).expand(2, 4, 3, 3)
    found = native_normalize_gradients(x, scale, None, moments, upstream, how)
    like = native_normalize_gradients(x, scale.clone(), None, moments, upstream.clone(), how)
    assert found[0] is not None
    assert like[0] is not None
    assert torch.equal(found[0], like[0])


def test_other_precisions_are_refused() -> None:
    with pytest.raises(TypeError, match=r"normalize takes torch.float64 on the CPU, got torch.float32 on cpu"):
        native_normalize(randn(2, 4, 3, 3, seed=0), torch.ones(4), None, Normalizing(1e-5))
