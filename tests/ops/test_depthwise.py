"""Tests of ``src/gradnas/ops/depthwise.py``: the rearranged convolution is torch's own, with all derivatives."""

import copy
import io
import os
import platform
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.ops import DilConv, SepConv
from gradnas.ops.depthwise import DepthwiseConv2d, depthwise_conv2d, from_sub_images, sub_images

SIZES = [(8, 8), (16, 12), (7, 9), (8, 7), (2, 2), (3, 1), (1, 1)]
KERNELS = [(1, 1), (3, 3), (5, 5), (7, 7), (5, 3), (3, 5), (4, 6), (3, 10)]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def leaves(size: tuple[int, int], kernel: tuple[int, int], batch: int = 2, channels: int = 3) -> tuple[Tensor, Tensor]:
    x, weight = randn(batch, channels, *size), randn(channels, 1, *kernel, seed=1)
    return x.requires_grad_(), weight.requires_grad_()


def same(kernel: tuple[int, int], dilation: int) -> tuple[int, int]:
    """Padding that keeps the size at stride 1, if the kernel has odd sizes."""
    return dilation * ((kernel[0] - 1) // 2), dilation * ((kernel[1] - 1) // 2)


def assert_equal_derivatives(ours: Tensor, theirs: Tensor, inputs: tuple[Tensor, Tensor]) -> None:
    """Compare values, gradients and, with respect to the upstream gradient as well, gradients of gradients."""
    upstream = randn(*theirs.shape, seed=2).requires_grad_()

    def derivatives(y: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(y, inputs, upstream, create_graph=True)
        scalar = (first[0] ** 3).sum() + (
            first[1].sin() * torch.arange(1.0, 1 + first[1].numel()).view_as(first[1])
        ).sum()
        return y, *first, *torch.autograd.grad(scalar, (*inputs, upstream))

    for one, other in zip(derivatives(ours), derivatives(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-11)


def is_rearranged(y: Tensor) -> bool:
    return "Depthwise" in type(y.grad_fn).__name__


def test_known_answer() -> None:
    # Tap (i, j) of a 5x5 kernel on a 4x4 image of ones sees the image at (4 - |i - 2|) (4 - |j - 2|) positions.
    x, weight = torch.ones(1, 1, 4, 4, dtype=torch.float64), torch.ones(1, 1, 5, 5, dtype=torch.float64)
    y = depthwise_conv2d(x, weight.requires_grad_(), padding=2)
    seen = torch.tensor([2.0, 3.0, 4.0, 3.0, 2.0], dtype=torch.float64)
    assert torch.equal(torch.autograd.grad(y.sum(), weight)[0][0, 0], seen.outer(seen))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", KERNELS)
def test_value_and_derivatives_are_those_of_the_plain_convolution(
    kernel: tuple[int, int], stride: int, dilation: int, memory_format: torch.memory_format
) -> None:
    compared = 0
    for size in SIZES:
        for padding in {same(kernel, dilation), (0, 0), (2, 2), (1, 3)}:
            if any(n + 2 * p <= dilation * (k - 1) for n, p, k in zip(size, padding, kernel, strict=True)):
                continue
            x, weight = leaves(size, kernel)
            x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
            ours = depthwise_conv2d(x, weight, stride, padding, dilation)
            theirs = F.conv2d(x, weight, None, stride, padding, dilation, 3)
            assert ours.stride() == theirs.stride()
            assert_equal_derivatives(ours, theirs, (x, weight))
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize(("batch", "channels"), [(1, 1), (1, 4)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_one_image_or_one_channel(stride: int, dilation: int, batch: int, channels: int) -> None:
    x, weight = leaves((6, 8), (5, 5), batch, channels)
    ours = depthwise_conv2d(x, weight, stride, 2 * dilation, dilation)
    assert is_rearranged(ours)
    assert_equal_derivatives(ours, F.conv2d(x, weight, None, stride, 2 * dilation, dilation, channels), (x, weight))


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_no_image_at_all(stride: int, dilation: int) -> None:
    x, weight = leaves((6, 8), (5, 5), 0)
    y = depthwise_conv2d(x, weight, stride, 2 * dilation, dilation)
    of_x, of_weight = torch.autograd.grad(y.sum(), (x, weight))
    assert of_x.shape == x.shape
    assert torch.equal(of_weight, torch.zeros_like(weight))


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "size"),
    [
        ((5, 5), 1, 1, (4, 5)),
        ((5, 5), 2, 1, (5, 4)),
        ((3, 3), 1, 2, (4, 3)),
        ((3, 3), 2, 2, (3, 4)),
        ((1, 4), 1, 1, (2, 4)),
    ],
)
def test_torch_checks_both_orders_of_derivatives(
    kernel: tuple[int, int], stride: int, dilation: int, size: tuple[int, int]
) -> None:
    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        return depthwise_conv2d(x, weight, stride, same(kernel, dilation), dilation)

    inputs = leaves(size, kernel, 1, 2)
    assert is_rearranged(convolve(*inputs))
    assert gradcheck(convolve, inputs, check_batched_grad=True)
    assert gradgradcheck(convolve, inputs)


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": (1, 4), "dilation": 2},
        {"padding": (4, 1), "dilation": 2},
        {"padding": (6, 2)},
        {"padding": (2, 6)},
        {"stride": (1, 2), "padding": 2},
        {"stride": 3, "padding": 2},
        {"padding": 2, "dilation": (1, 2)},
        {"padding": 6, "dilation": 3},
    ],
)
def test_other_settings_are_left_to_torch(settings: dict[str, Any]) -> None:
    x, weight = leaves((12, 11), (5, 5))
    ours = depthwise_conv2d(x, weight, **settings)
    assert not is_rearranged(ours)
    assert_equal_derivatives(ours, F.conv2d(x, weight, groups=3, **settings), (x, weight))


def test_other_inputs_are_left_to_torch() -> None:
    x, several = leaves((8, 8), (5, 5))[0], randn(6, 1, 5, 5, seed=1).requires_grad_()  # two kernels for every channel
    assert_equal_derivatives(depthwise_conv2d(x, several, 1, 2), F.conv2d(x, several, None, 1, 2, 1, 3), (x, several))
    image, weight = randn(8, 8, 8).requires_grad_(), randn(8, 1, 5, 5, seed=1).requires_grad_()
    assert_equal_derivatives(
        depthwise_conv2d(image, weight, 1, 2), F.conv2d(image, weight, None, 1, 2, 1, 8), (image, weight)
    )
    x, weight = leaves((8, 8), (5, 5))
    assert not is_rearranged(depthwise_conv2d(x.to(torch.bfloat16), weight.to(torch.bfloat16), 1, 2))
    y = depthwise_conv2d(x.to("meta"), weight.to("meta"), 2, 4, 2)
    assert y.shape == (2, 3, 4, 4)
    assert not is_rearranged(y)


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_single_precision_channels_last_agrees_with_double(
    k: int, stride: int, dilation: int, size: tuple[int, int]
) -> None:
    x, weight = leaves(size, (k, k), 2, 16)
    upstream = randn(*F.conv2d(x, weight, None, stride, dilation * (k // 2), dilation, 16).shape, seed=2)
    found = []
    for dtype in (torch.float32, torch.float64):
        a = x.detach().to(dtype, memory_format=torch.channels_last).requires_grad_()
        b = weight.detach().to(dtype).requires_grad_()
        y = depthwise_conv2d(a, b, stride, dilation * (k // 2), dilation)
        gradients = torch.autograd.grad(y, (a, b), upstream.to(dtype, memory_format=torch.channels_last))
        assert y.is_contiguous(memory_format=torch.channels_last)
        if size == (8, 8):
            assert gradients[0].is_contiguous(memory_format=torch.channels_last)
        found.append((y, *gradients))
    for single, double in zip(*found, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=0, atol=2e-4)


class _Backwards(TorchDispatchMode):
    """Notes kernel width and dilation of every gradient of a convolution that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.asked.append((args[2].shape[3], max(args[6])))
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("size", [(8, 8), (7, 7)])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_torch_is_asked_for_gradients_of_narrow_dense_kernels_only(
    k: int, stride: int, dilation: int, size: tuple[int, int]
) -> None:
    conv = DepthwiseConv2d(4, k, stride, dilation * (k // 2), dilation)
    y = conv(randn(2, 4, *size, dtype=torch.float32).requires_grad_())
    with _Backwards() as backwards:
        y.sum().backward()
    assert backwards.asked
    assert all(width <= 3 and dilation == 1 for width, dilation in backwards.asked)


@contextmanager
def kept() -> Iterator[list[Tensor]]:
    """Collects what autograd saves for the backward pass."""
    tensors: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield tensors


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_only_what_a_gradient_needs_is_kept(stride: int, dilation: int) -> None:
    x, weight = leaves((8, 8), (5, 5))
    for x_needed, weight_needed in ((True, False), (False, True), (True, True), (False, False)):
        with kept() as tensors:
            y = depthwise_conv2d(
                x.detach().requires_grad_(x_needed),
                weight.detach().requires_grad_(weight_needed),
                stride,
                2 * dilation,
                dilation,
            )
        expected = [x.shape] * weight_needed + [weight.shape] * x_needed
        assert [tensor.shape for tensor in tensors] == expected
        assert y.requires_grad is (x_needed or weight_needed)


@pytest.mark.parametrize("dilation", [1, 2])
def test_one_of_the_two_gradients_alone(dilation: int) -> None:
    x, weight = leaves((8, 8), (5, 5))
    settings = (1, 2 * dilation, dilation)
    of_x, of_weight = torch.autograd.grad(F.conv2d(x, weight, None, *settings, 3).exp().sum(), (x, weight))
    alone = depthwise_conv2d(x, weight.detach(), *settings).exp().sum()
    torch.testing.assert_close(torch.autograd.grad(alone, x)[0], of_x)
    alone = depthwise_conv2d(x.detach(), weight, *settings).exp().sum()
    torch.testing.assert_close(torch.autograd.grad(alone, weight)[0], of_weight)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_without_gradients_the_value_is_the_same(stride: int, dilation: int) -> None:
    x, weight = leaves((8, 8), (5, 5))
    with torch.no_grad():
        alone = depthwise_conv2d(x, weight, stride, 2 * dilation, dilation)
    assert not alone.requires_grad
    assert torch.equal(alone, depthwise_conv2d(x, weight, stride, 2 * dilation, dilation))


def test_under_autocast_it_runs_in_bfloat16() -> None:
    conv, x = DepthwiseConv2d(3, 5, 1, 2), torch.ones(1, 3, 4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype is torch.bfloat16
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype is torch.float32


@pytest.mark.parametrize("stride", [1, 2])
def test_backward_under_autocast_keeps_full_precision(stride: int) -> None:
    conv, x = DepthwiseConv2d(3, 5, stride, 2), randn(1, 3, 6, 6, dtype=torch.float32).requires_grad_()
    y = conv(x)
    expected = torch.autograd.grad(y.sum(), (x, conv.weight), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(y.sum(), (x, conv.weight))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_function_transforms(stride: int, dilation: int) -> None:
    x, weight = (t.detach() for t in leaves((6, 6), (5, 5), 1, 2))
    conv = DepthwiseConv2d(2, 5, stride, 2 * dilation, dilation).double()

    def ours(weight: Tensor, x: Tensor) -> Tensor:
        return (torch.func.functional_call(conv, {"weight": weight}, x) ** 3).sum()

    def theirs(weight: Tensor, x: Tensor) -> Tensor:
        return (F.conv2d(x, weight, None, stride, 2 * dilation, dilation, 2) ** 3).sum()

    def transforms(f: Any) -> tuple[Tensor, ...]:
        many = torch.func.vmap(torch.func.grad(f), (0, None))(torch.stack([weight, 2 * weight]), x)
        return f(weight, x), *torch.func.grad(f, (0, 1))(weight, x), many, torch.func.grad(lambda w: f(w, x))(weight)

    for one, other in zip(transforms(ours), transforms(theirs), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, when forward mode is first used
def test_forward_mode() -> None:
    x, weight = leaves((6, 6), (5, 5))
    tangent = randn(*weight.shape, seed=3)
    with forward_ad.dual_level():
        along_weight = forward_ad.unpack_dual(depthwise_conv2d(x, forward_ad.make_dual(weight, tangent), 1, 2)).tangent
        along_x = forward_ad.unpack_dual(depthwise_conv2d(forward_ad.make_dual(x, 2 * x), weight, 1, 2)).tangent
    torch.testing.assert_close(along_weight, F.conv2d(x, tangent, None, 1, 2, 1, 3))
    torch.testing.assert_close(along_x, 2 * F.conv2d(x, weight, None, 1, 2, 1, 3))


def test_module_is_torchs_with_the_same_parameter() -> None:
    conv = DepthwiseConv2d(4, (5, 3), 2, (2, 1), 1)
    twin = nn.Conv2d(4, 4, (5, 3), 2, (2, 1), groups=4, bias=False)
    assert isinstance(conv, nn.Conv2d)
    assert repr(conv) == repr(twin).replace("Conv2d", "DepthwiseConv2d", 1)
    twin.load_state_dict(conv.state_dict())
    x = randn(2, 4, 8, 8, dtype=torch.float32)
    assert torch.equal(conv(x), twin(x))


def test_module_is_copied_and_pickled() -> None:
    conv, file = DepthwiseConv2d(4, 5, 1, 2), io.BytesIO()
    torch.save(conv, file)
    file.seek(0)
    x = randn(2, 4, 8, 8, dtype=torch.float32)
    for twin in (copy.deepcopy(conv), torch.load(file, weights_only=False)):
        assert torch.equal(twin(x), conv(x))
        assert is_rearranged(twin(x))


@pytest.mark.parametrize("stride", [1, 2])
def test_operations_of_the_table_use_it(stride: int) -> None:
    desc = OpDesc("mine", Params(conv=ConvMacroParams(4, 4), stride=stride))
    dilated = DilConv(desc, 3, stride, 2, 2, True).layers[1]
    assert isinstance(dilated, DepthwiseConv2d)
    assert (dilated.stride, dilated.padding, dilated.dilation) == ((stride, stride), (2, 2), (2, 2))
    assert [m.stride[0] for m in SepConv(desc, 5, 2, True).modules() if isinstance(m, DepthwiseConv2d)] == [stride, 1]


def test_sub_images_known_answer() -> None:
    x = torch.arange(8.0).reshape(1, 1, 2, 4)
    assert sub_images(x).flatten(1).tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(2, 3, 6, 4), (1, 1, 2, 2), (3, 1, 2, 6), (1, 5, 4, 2), (0, 3, 4, 4)])
def test_sub_images_are_the_slices_and_go_back(
    shape: tuple[int, int, int, int], memory_format: torch.memory_format
) -> None:
    x = randn(*shape).contiguous(memory_format=memory_format)
    parts = sub_images(x)
    assert torch.equal(parts, torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]))
    assert parts.is_contiguous(memory_format=torch.channels_last)
    back = from_sub_images(parts)
    assert torch.equal(back, x)
    assert back.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(sub_images(back), parts)


def test_the_gradient_of_sub_images_is_the_inverse() -> None:
    x, upstream = randn(2, 3, 6, 4).requires_grad_(), randn(8, 3, 3, 2, seed=1)
    assert torch.equal(torch.autograd.grad(sub_images(x), x, upstream)[0], from_sub_images(upstream))
    upstream.requires_grad_()
    assert torch.equal(torch.autograd.grad(from_sub_images(upstream), upstream, x)[0], sub_images(x))
    assert gradgradcheck(sub_images, (x,))
    assert gradgradcheck(from_sub_images, (upstream,))


def test_dilated_convolution_is_the_dense_one_on_sub_images() -> None:
    x, weight = leaves((8, 6), (3, 3))
    dense = from_sub_images(depthwise_conv2d(sub_images(x), weight, padding=1))
    torch.testing.assert_close(dense, depthwise_conv2d(x, weight, padding=2, dilation=2))


def test_sub_images_of_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"even height and width, got.*\(1, 2, 4, 3\)"):
        sub_images(torch.ones(1, 2, 4, 3))
    with pytest.raises(ValueError, match=r"even height and width, got.*\(1, 2, 5, 4\)"):
        sub_images(torch.ones(1, 2, 5, 4))
    with pytest.raises(ValueError, match="four sub-images of every image, got a batch of 6"):
        from_sub_images(torch.ones(6, 2, 4, 4))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="fills what malloc gives by MALLOC_PERTURB_ of glibc")
def test_gradients_under_autocast_read_nothing_that_was_not_written() -> None:
    """In a whole cell, as torch's own kernel gives garbage only there, and only where its memory was used before."""
    code = """
        import torch
        from torch.nn import functional as F
        from gradnas.arch import PUBLISHED
        from gradnas.spaces import DartsSpace
        from gradnas.supergraph import Model
        desc = DartsSpace(reductions=0, cells=1).from_genotype(PUBLISHED["DARTS_V2"], channels=8)
        torch.manual_seed(0)
        model = Model(desc, affine=True).to(memory_format=torch.channels_last)
        x = torch.randn(16, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = model(x)
        F.cross_entropy(logits.float(), torch.arange(16) % 10).backward()
        print(max(float(p.grad.abs().max()) for p in model.parameters()))
    """
    environment = {**os.environ, "MALLOC_PERTURB_": "128"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1e3
