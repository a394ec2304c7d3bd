"""Tests of ``src/gradnas/ops/native/separable.py`` and ``separable.c``: torch's convolutions, in any shape."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gradnas.ops.native import is_usable, native_separable, native_separable_gradients

pytestmark = pytest.mark.skipif(not is_usable(torch.float32), reason="there is no C compiler with OpenMP")

Settings = tuple[int, tuple[int, int], int]


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def of_torch(
    x: Tensor, depthwise: Tensor, pointwise_MOC: Tensor, stride: int, padding: tuple[int, int], dilation: int
) -> Tensor:
    wide = x.repeat(1, len(depthwise) // x.shape[1], 1, 1)
    between = F.conv2d(wide, depthwise, None, stride, padding, dilation, len(depthwise))
    return F.conv2d(between, pointwise_MOC.flatten(0, 1)[:, :, None, None], groups=len(pointwise_MOC))


def check(inputs: tuple[Tensor, Tensor, Tensor], chosen: Settings, tolerance: float) -> None:
    """Value and gradients against torch's, in double precision."""
    exact = [x.double().requires_grad_() for x in inputs]
    expected = of_torch(*exact, *chosen)
    out = native_separable(*inputs, *chosen)
    upstream = randn(*expected.shape, seed=9, dtype=out.dtype)
    wanted = torch.autograd.grad(expected, exact, upstream.double())
    found = native_separable_gradients(*inputs, upstream, *chosen)
    assert out.is_contiguous(memory_format=torch.channels_last)
    for one, other in zip((out, *found), (expected, *wanted), strict=True):
        assert one is not None
        assert one.shape == other.shape
        assert one.dtype == out.dtype
        assert (one.double() - other).abs().max() <= tolerance * other.abs().max()


@settings(deadline=None, max_examples=150, derandomize=True)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    channels, outputs = data.draw(st.integers(1, 37)), data.draw(st.integers(1, 37))
    copies, own = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    kh, kw = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 9))
    dilation, stride = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    padding = data.draw(st.integers(0, dilation * (kh - 1))), data.draw(st.integers(0, dilation * (kw - 1)))
    least = [max(1, dilation * (k - 1) + 1 - 2 * p) for k, p in zip((kh, kw), padding, strict=True)]
    height, width = (data.draw(st.integers(n, n + 12)) for n in least)
    columns = copies * own
    inputs = (
        randn(data.draw(st.integers(1, 3)), own * channels, height, width, seed=0),
        randn(columns * channels, 1, kh, kw, seed=1),
        randn(columns, outputs, channels, seed=2),
    )
    check(inputs, (stride, padding, dilation), 1e-12)


@pytest.mark.parametrize(("columns", "shared"), list(product((1, 4, 5), (True, False))))
@pytest.mark.parametrize("channels", [4, 5, 16, 20])
def test_single_precision(channels: int, columns: int, shared: bool) -> None:
    dtype = torch.float32
    inputs = (
        randn(2, channels if shared else columns * channels, 16, 16, seed=0, dtype=dtype),
        randn(columns * channels, 1, 5, 5, seed=1, dtype=dtype),
        randn(columns, channels, channels, seed=2, dtype=dtype),
    )
    check(inputs, (1, (2, 2), 1), 3e-6)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    x, depthwise = randn(5, 8, 9, 9, seed=0, dtype=torch.float32), randn(24, 1, 3, 3, seed=1, dtype=torch.float32)
    pointwise, upstream = randn(3, 6, 8, seed=2, dtype=torch.float32), randn(5, 18, 9, 9, seed=3, dtype=torch.float32)
    results = []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        out = native_separable(x, depthwise, pointwise, 1, (1, 1), 1)
        gradients = native_separable_gradients(x, depthwise, pointwise, upstream, 1, (1, 1), 1)
        results.append([out, *(g for g in gradients if g is not None)])
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("kernel", "margin"), [((5, 5), 1), ((5, 5), 2), ((3, 5), 1), ((7, 7), 2), ((1, 5), 0), ((4, 5), 1)]
)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_kernels_in_a_frame_of_zeros_have_the_gradients_of_their_frame(
    stride: int, dilation: int, kernel: tuple[int, int], margin: int
) -> None:
    depthwise = randn(6, 1, *kernel, seed=1)
    for axis, size in zip((2, 3), kernel, strict=True):
        outside = [i for i in range(size) if not margin <= i < size - margin]
        depthwise.index_fill_(axis, torch.tensor(outside, dtype=torch.int64), 0.0)
    padding = dilation * (kernel[0] // 2), dilation * (kernel[1] // 2)
    inputs = randn(2, 3, 9, 8, seed=0), depthwise, randn(2, 4, 3, seed=2)
    check(inputs, (stride, padding, dilation), 1e-12)


def test_what_is_no_number_does_not_reach_beyond_a_kernel_in_its_frame() -> None:
    """As with the small kernel itself, though zero times what is no number is none."""
    x, depthwise = randn(1, 2, 7, 7, seed=0), torch.zeros(2, 1, 5, 5, dtype=torch.float64)
    x[0, 1, 3, 3] = torch.nan
    depthwise[:, :, 1:4, 1:4] = randn(2, 1, 3, 3, seed=1)
    y = native_separable(x, depthwise, randn(1, 2, 2, seed=2), 1, (2, 2), 1)
    assert y.isnan().sum() == 2 * 9


@pytest.mark.parametrize("needed", list(product((True, False), repeat=3)))
def test_only_what_is_needed_is_computed(needed: tuple[bool, bool, bool]) -> None:
    inputs = randn(2, 3, 6, 5, seed=0), randn(6, 1, 3, 3, seed=1), randn(2, 4, 3, seed=2)
    upstream = randn(2, 8, 3, 3, seed=3)
    everything = native_separable_gradients(*inputs, upstream, 2, (1, 1), 1)
    some = native_separable_gradients(*inputs, upstream, 2, (1, 1), 1, needed=needed)
    for one, other, need in zip(some, everything, needed, strict=True):
        assert (one is not None) == need
        if one is not None:
            assert other is not None
            assert torch.equal(one, other)


def test_no_number_spreads_as_it_must() -> None:
    x = randn(1, 2, 5, 5, seed=0)
    x[0, 1, 2, 2] = torch.nan
    y = native_separable(x, randn(2, 1, 3, 3, seed=1), randn(1, 2, 2, seed=2), 1, (1, 1), 1)
    seen = torch.zeros(5, 5, dtype=torch.bool)
    seen[1:4, 1:4] = True
    assert torch.equal(y.isnan(), seen.expand(1, 2, 5, 5))


def test_other_memory_formats_are_brought_into_order() -> None:
    x, depthwise, pointwise = randn(2, 3, 6, 5, seed=0), randn(6, 1, 3, 3, seed=1), randn(2, 4, 3, seed=2)
    upstream = randn(2, 8, 6, 5, seed=3)
    expected = native_separable_gradients(x, depthwise, pointwise, upstream, 1, (1, 1), 1)
    turned = pointwise.transpose(1, 2).contiguous().transpose(1, 2)
    strange = native_separable_gradients(x.contiguous(), depthwise, turned, upstream.contiguous(), 1, (1, 1), 1)
    plain = native_separable(x, depthwise, pointwise, 1, (1, 1), 1)
    assert torch.equal(native_separable(x.contiguous(), depthwise, turned, 1, (1, 1), 1), plain)
    one, same = x[:1], pointwise[:1].expand(2, -1, -1)
    repeated = native_separable(one.expand(3, -1, -1, -1), depthwise, same, 1, (1, 1), 1)
    assert torch.equal(repeated[2:], native_separable(one.clone(), depthwise, same.clone(), 1, (1, 1), 1))
    for one, other in zip(strange, expected, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("size", "columns", "stride", "dilation", "message"),
    [
        ((2, 6, 6, 5), 2, 1, 1, "an input whose channels are those of some columns that repeat, got 6"),
        ((2, 4, 6, 5), 2, 1, 1, "columns that repeat, got 4"),
        ((2, 3, 6, 5), 3, 1, 1, "3 columns of 3 channels need as many kernels, got 6"),
        ((2, 3, 6, 5), 2, 3, 1, "stride and dilation must be 1 or 2 and the kernel must fit, got stride=3"),
        ((2, 3, 6, 5), 2, 1, 3, "dilation=3"),
        ((2, 3, 6, 2), 2, 1, 2, "a kernel of 3x3 and an image of 6x2"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(
    size: tuple[int, ...], columns: int, stride: int, dilation: int, message: str
) -> None:
    channels = 1 if size[1] == 6 else 3
    kernels = randn(2 * channels, 1, 3, 3, seed=1)
    with pytest.raises(ValueError, match=message):
        native_separable(randn(*size, seed=0), kernels, randn(columns, 4, channels, seed=2), stride, (1, 0), dilation)


def test_other_precisions_are_refused() -> None:
    x, depthwise, pointwise = randn(2, 3, 6, 5, seed=0), randn(6, 1, 3, 3, seed=1), randn(2, 4, 3, seed=2)
    with pytest.raises(TypeError, match=r"separable takes torch.float64 on the CPU, got torch.float32 on cpu"):
        native_separable(x, depthwise.float(), pointwise, 1, (1, 1), 1)
