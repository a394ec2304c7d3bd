"""Tests of ``src/gradnas/ops/native/chains.py`` and ``chains.c``: torch's convolutions and norms, in any shape."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gradnas.ops.native import (
    Chains,
    ChainStage,
    StageWeights,
    is_usable,
    native_chains,
    native_chains_gradients,
)

pytestmark = pytest.mark.skipif(not is_usable(torch.float32), reason="there is no C compiler with OpenMP")


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def of_torch(
    x: Tensor, mixing: Tensor, weights: Sequence[StageWeights], how: Chains, running: Sequence[tuple[Tensor, Tensor]]
) -> list[Tensor]:
    """Column by column; the running statistics are those given."""
    outs: list[Any] = [0.0] * (max(how.places) + 1)
    columns = len(how.places)
    for m, place in enumerate(how.places):
        y = x
        for s, stage in enumerate(how.stages):
            w, own_running = weights[s * columns + m], running[s * columns + m]
            y = y.relu() if s or how.relu else y
            own = [
                p - stage.dilation * ((k - i) // 2)
                for p, k, i in zip(stage.padding, stage.kernel, w.kernel.shape[2:], strict=True)
            ]
            if min(own) < 0:  # a small kernel in the middle of a large one that is not padded
                y = y[
                    :, :, max(0, -own[0]) : y.shape[2] - max(0, -own[0]), max(0, -own[1]) : y.shape[3] - max(0, -own[1])
                ]
            y = F.conv2d(y, w.kernel, None, stage.stride, [max(0, p) for p in own], stage.dilation, y.shape[1])
            y = F.conv2d(y, w.matrix)
            y = F.batch_norm(y, *own_running, w.scale, w.shift, not how.known, stage.momentum, stage.eps)
        factor = mixing[:, m, None, None, None] if mixing.dim() == 2 else mixing[m]
        outs[place] = outs[place] + y * factor
    return outs


class Case:
    """Random chains of given sizes."""

    def __init__(
        self,
        how: Chains,
        *,
        sides: Sequence[tuple[int, int]] | None = None,
        batch: int = 2,
        size: tuple[int, int] = (6, 5),
        channels: Sequence[int] = (3, 4),
        affine: bool = False,
        per_example: bool = False,
        ties: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        columns = len(how.places)
        self.how = how
        self.x = randn(batch, channels[0], *size, seed=0, dtype=dtype)
        self.x = self.x.round() if ties else self.x  # to many zeros, where a ReLU is closed
        self.mixing = randn(*((batch, columns) if per_example else (columns,)), seed=1, dtype=dtype)
        self.weights = []
        for s, stage in enumerate(how.stages):
            for m in range(columns):
                seed = 10 * (s * columns + m)
                side = stage.kernel if sides is None else sides[s * columns + m]
                kernel = randn(channels[s], 1, *side, seed=seed, dtype=dtype).contiguous()
                matrix = randn(channels[s + 1], channels[s], 1, 1, seed=seed + 1, dtype=dtype).contiguous()
                own = [randn(channels[s + 1], seed=seed + i, dtype=dtype) if affine else None for i in (2, 3)]
                mean, variance = (randn(channels[s + 1], seed=seed + i, dtype=dtype) for i in (4, 5))
                self.weights.append(StageWeights(kernel, matrix, *own, mean, variance.abs() + 0.5))

    def check(self, tolerance: float = 1e-11) -> None:
        """Values, gradients and running statistics against torch's, in double precision."""
        exact = [w if w is None else w.double().detach().clone() for own in self.weights for w in own]
        leaves = [self.x.double().clone(), self.mixing.double().clone()]
        weights = [StageWeights(*exact[i : i + 6]) for i in range(0, len(exact), 6)]  # type: ignore[arg-type]  # as built
        differentiable = [w for own in weights for w in own[:4]]
        wanted_leaves = [w.requires_grad_() for w in (*leaves, *differentiable) if w is not None]
        running = [(w.mean, w.variance) for w in weights]
        expected = of_torch(*leaves, weights, self.how, running)  # type: ignore[arg-type]  # all have statistics
        upstream = [randn(*y.shape, seed=90 + i, dtype=self.x.dtype) for i, y in enumerate(expected)]
        gradients = iter(torch.autograd.grad(expected, wanted_leaves, [u.double() for u in upstream]))
        kept_running = [w.mean.clone() for w in self.weights if w.mean is not None]
        outs, kept = native_chains(self.x, self.mixing, self.weights, self.how, [None] * len(expected))
        every = [w is not None for own in self.weights for w in own[:4]]
        of_x, of_mixing, found = native_chains_gradients(
            self.x, self.mixing, self.weights, self.how, kept, upstream, wanted=every
        )
        pairs = [*zip(outs, expected, strict=True), (of_x, next(gradients)), (of_mixing, next(gradients))]
        pairs += [(f, None if w is None else next(gradients)) for f, w in zip(found, differentiable, strict=True)]
        pairs += [(w.mean, r[0]) for w, r in zip(self.weights, running, strict=True)]
        pairs += [(w.variance, r[1]) for w, r in zip(self.weights, running, strict=True)]
        pairs = [(one, other if other is None else other.detach()) for one, other in pairs]
        scale = max(float(other.abs().max()) for _, other in pairs if other is not None)
        for one, other in pairs:
            assert (one is None) == (other is None)
            if one is not None:
                assert one.shape == other.shape
                assert one.dtype == self.x.dtype
                # The gradient of a matrix before a norm may vanish but for rounding.
                assert (one.double() - other).abs().max() <= tolerance * max(float(other.abs().max()), 1e-3 * scale)
        moved = any(
            not torch.equal(a, w.mean) for a, w in zip(kept_running, self.weights, strict=True) if w.mean is not None
        )
        assert moved != self.how.known


def stage(
    kernel: tuple[int, int] = (3, 3),
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, int] | None = None,
) -> ChainStage:
    same = tuple(dilation * (k // 2) for k in kernel)
    return ChainStage(kernel, stride, padding or (same[0], same[1]), dilation, 1e-5, 0.1)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    integer = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    columns, length = integer(1, 6), integer(1, 3)
    channels = [integer(1, 37) if integer(0, 1) else integer(1, 9) for _ in range(length + 1)]
    stages, sides = [], []
    height, width = size = integer(3, 17), integer(3, 17)
    for _ in range(length):
        dilation, stride = integer(1, 2), integer(1, 2)
        kernel = integer(1, 6), integer(1, 7)
        least = [max(0, -(-(dilation * (k - 1) + 1 - n) // 2)) for k, n in zip(kernel, (height, width), strict=True)]
        padding = tuple(integer(p, max(p, dilation * (k - 1))) for p, k in zip(least, kernel, strict=True))
        stages.append(ChainStage(kernel, stride, (padding[0], padding[1]), dilation, 1e-3, 0.2))
        sides += [tuple(k - 2 * integer(0, (k - 1) // 2) for k in kernel) for _ in range(columns)]
        height, width = (
            (n + 2 * p - dilation * (k - 1) - 1) // stride + 1
            for n, p, k in zip((height, width), padding, kernel, strict=True)
        )
    places = [*range(integer(1, columns))]
    places = [*places, *(integer(0, len(places) - 1) for _ in range(columns - len(places)))]
    batch = integer(1, 3) + (1 if height * width == 1 else 0)
    case = Case(
        Chains(
            tuple(stages), tuple(data.draw(st.permutations(places))), data.draw(st.booleans()), data.draw(st.booleans())
        ),
        sides=sides,  # type: ignore[arg-type]  # pairs
        batch=batch,
        size=size,
        channels=channels,
        affine=data.draw(st.booleans()),
        per_example=data.draw(st.booleans()),
        ties=data.draw(st.booleans()),
    )
    case.check(1e-8)


TWO = (stage((5, 5)), stage((5, 5)))


@pytest.mark.parametrize("columns", [1, 4, 5])
@pytest.mark.parametrize("channels", [4, 5, 16, 20])
def test_single_precision(channels: int, columns: int) -> None:
    how = Chains(TWO, (*(m % 2 for m in range(columns - 1)), 0), relu=True)
    case = Case(how, size=(16, 16), channels=[channels] * 3, dtype=torch.float32)
    case.check(3e-4)


@pytest.mark.parametrize("channels", [3, 16])
def test_a_relu_is_closed_at_zero(channels: int) -> None:
    Case(Chains((stage(),), (0, 1), relu=True), channels=[channels] * 2, ties=True).check()


@pytest.mark.parametrize("batch", [1, 3, 70])  # more images than gradients are kept apart for
def test_any_number_of_images(batch: int) -> None:
    Case(Chains((stage(),), (0, 1), relu=True), batch=batch).check()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    case = Case(Chains(TWO, (0, 1, 0), relu=True), batch=5, size=(9, 9), channels=[6, 6, 6], dtype=torch.float32)
    upstream = [randn(5, 6, 9, 9, seed=i, dtype=torch.float32) for i in range(2)]
    results = []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        outs, of_x, of_mixing, found = run(case, upstream)
        results.append([*outs, of_x, of_mixing, *found])
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(results[0], other, strict=True))  # type: ignore[arg-type]  # both are there


def run(case: Case, upstream: Sequence[Tensor | None], **settings: Any) -> Any:
    outs, kept = native_chains(case.x, case.mixing, case.weights, case.how, [None] * len(upstream))
    wanted = settings.pop("wanted", [w is not None for own in case.weights for w in own[:4]])
    inputs = (case.x, case.mixing, case.weights, case.how, kept, upstream)
    return outs, *native_chains_gradients(*inputs, wanted=wanted, **settings)


@pytest.mark.parametrize("affine", [True, False])
def test_only_what_is_wanted_is_computed(affine: bool) -> None:
    case = Case(Chains((stage(), stage()), (0, 0), relu=True), channels=[3, 3, 3], affine=affine)
    upstream = [randn(2, 3, 6, 5, seed=7)]
    _, of_x, of_mixing, found = run(case, upstream)
    per_stage = [[w is not None for w in own[:4]] for own in case.weights]
    for chosen in product((True, False), repeat=4):  # kernel, matrix, scale and shift, in one stage
        for stage_of_it, for_x, for_mixing in product((0, 1), (True, False), (True, False)):
            wanted = [
                want and there and m // 2 == stage_of_it
                for m, own in enumerate(per_stage)
                for want, there in zip(chosen, own, strict=True)
            ]
            some = run(case, upstream, wanted=wanted, for_x=for_x, for_mixing=for_mixing)
            assert (some[1] is not None) == for_x
            assert (some[2] is not None) == for_mixing
            assert some[1] is None or torch.equal(some[1], of_x)
            assert some[2] is None or torch.equal(some[2], of_mixing)
            for one, other, want in zip(some[3], found, wanted, strict=True):
                assert (one is not None) == want
                assert one is None or torch.equal(one, other)


def test_outputs_and_the_gradient_of_the_input_are_added_to_what_is_there() -> None:
    case = Case(Chains((stage(),), (1, 0, 1), relu=True), channels=[3, 3])
    upstream = [randn(2, 3, 6, 5, seed=7), randn(2, 3, 6, 5, seed=8)]
    outs, of_x, _, _ = run(case, upstream)
    start = [randn(2, 3, 6, 5, seed=9), None]
    added, _ = native_chains(case.x, case.mixing, case.weights, case.how, [start[0].clone(), None])  # type: ignore[union-attr]  # it is there
    torch.testing.assert_close(added[0], start[0] + outs[0])
    assert torch.equal(added[1], outs[1])  # type: ignore[arg-type]  # a new one
    before = randn(2, 3, 6, 5, seed=10)
    _, again, _, _ = run(case, upstream, of_x=before.clone(memory_format=torch.preserve_format))
    torch.testing.assert_close(again, before + of_x)


def test_a_place_that_nothing_goes_to_stays_empty_and_one_without_a_gradient_has_none() -> None:
    case = Case(Chains((stage(),), (2, 0), relu=False), channels=[3, 3])
    first, second = randn(2, 3, 6, 5, seed=7), torch.zeros(2, 3, 6, 5).contiguous(memory_format=torch.channels_last)
    outs, of_x, of_mixing, found = run(case, [first, None, None])
    assert outs[1] is None
    with_zeros = run(case, [first, None, second.double()])
    assert torch.equal(of_x, with_zeros[1])
    assert torch.equal(of_mixing, with_zeros[2])
    assert of_mixing[0] == 0
    assert all(torch.equal(a, b) for a, b in zip(found, with_zeros[3], strict=True) if a is not None)


@pytest.mark.parametrize("width", [40, 130])
def test_wide_images(width: int) -> None:
    Case(Chains(TWO, (0, 0), relu=True), batch=1, size=(4, width), channels=[2, 2, 2]).check()


def test_no_number_spreads_to_all_of_its_channels_and_no_further() -> None:
    """Columns of as many channels as a vector has; narrower ones share packs, and what is no number."""
    case = Case(Chains((stage(),), (0, 1), relu=True), channels=[16, 16])
    kernel = case.weights[0].kernel
    kernel[3] = torch.nan  # of the first column
    outs, _ = native_chains(case.x, case.mixing, case.weights, case.how, [None, None])
    assert outs[0] is not None
    assert outs[0].isnan().all()
    assert outs[1] is not None
    assert not outs[1].isnan().any()
    for channels in (3, 16):
        case = Case(Chains((stage(),), (0,), relu=True), channels=[channels, channels])
        case.x[0, 2, 3, 3] = torch.nan  # not taken for a number below 0
        outs, _ = native_chains(case.x, case.mixing, case.weights, case.how, [None])
        assert outs[0] is not None
        assert outs[0].isnan().all()


def test_one_norm_of_two_columns_moves_twice() -> None:
    case = Case(Chains((stage(),), (0, 1), relu=True), channels=[16, 16])
    first, second = case.weights
    case.weights[1] = StageWeights(*second[:4], first.mean, first.variance)
    assert first.mean is not None
    before = first.mean.clone()
    raw = [F.conv2d(F.conv2d(case.x.relu(), w.kernel, padding=1, groups=16), w.matrix) for w in case.weights]
    native_chains(case.x, case.mixing, case.weights, case.how, [None, None])
    means = [y.mean((0, 2, 3)) for y in raw]
    torch.testing.assert_close(first.mean, 0.9 * (0.9 * before + 0.1 * means[0]) + 0.1 * means[1])


def test_what_is_kept_may_come_back_in_other_memory() -> None:
    """As from hooks that keep tensors elsewhere."""
    case = Case(Chains((stage(), stage()), (0, 1), relu=True), channels=[3, 3, 3])
    upstream = [randn(2, 3, 6, 5, seed=i) for i in range(2)]
    _, (raw, moments) = native_chains(case.x, case.mixing, case.weights, case.how, [None, None])
    wanted = [w is not None for own in case.weights for w in own[:4]]
    odd = torch.empty(len(raw) + 1, dtype=raw.dtype)[1:].copy_(raw)
    found = [
        native_chains_gradients(case.x, case.mixing, case.weights, case.how, (kept, moments), upstream, wanted=wanted)[
            :2
        ]
        for kept in (raw, odd)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))  # type: ignore[arg-type]  # all are there


def test_other_memory_formats_are_brought_into_order() -> None:
    case = Case(Chains((stage(),), (0, 1), relu=True), channels=[3, 4])
    upstream = [randn(2, 4, 6, 5, seed=i) for i in range(2)]
    expected = run(case, upstream)
    case.x = case.x.contiguous()
    case.mixing = torch.stack([case.mixing, case.mixing], dim=1)[:, 0]
    for a, b in zip(run(case, upstream)[:3], expected[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_sizes_that_do_not_go_together_are_refused() -> None:
    case = Case(Chains((stage(),), (0, 0), relu=True))

    def refused(message: str, **changes: Any) -> None:
        given = {
            "x": case.x,
            "mixing": case.mixing,
            "weights": case.weights,
            "how": case.how,
            "outs": [None],
            **changes,
        }
        with pytest.raises(ValueError, match=message):
            native_chains(**given)

    refused("2 columns of 1 stages need as many sets of weights, got 1", weights=case.weights[:1])
    refused("or each image and column, got \\(3,\\)", mixing=randn(3, seed=0))
    refused("stage 0 takes 5 channels and gives 4 in all columns, got kernels of", x=randn(2, 5, 6, 5, seed=0))
    refused("fit into the middle of one of \\(2, 3\\)", how=case.how._replace(stages=(stage((2, 3)),)))
    refused("stride and dilation must be 1 or 2", how=case.how._replace(stages=(stage()._replace(stride=3),)))
    refused("got stride=1, dilation=3", how=case.how._replace(stages=(stage()._replace(dilation=3),)))
    refused("an image of 6x5 with padding=\\(0, 0\\)", how=case.how._replace(stages=(stage((9, 9), padding=(0, 0)),)))
    refused("one shape, got \\(2, 4, 1, 1\\) and \\(2, 4, 6, 5\\)", outs=[randn(2, 4, 1, 1, seed=0)])
    one = [own._replace(kernel=own.kernel[:, :, 1:2, 1:2].contiguous()) for own in case.weights]
    refused("more than one value per channel, got one image of 1x1", x=case.x[:1, :, :1, :1], weights=one)
    refused(
        "of 4 channels needs as many .* got \\[None, None, 3, 4\\]",
        weights=[w._replace(mean=w.mean[:3]) for w in case.weights],
    )  # type: ignore[index]  # there is one
    refused("in channels_last, got \\(2, 4, 6, 5\\) with strides", outs=[randn(2, 4, 6, 5, seed=0).contiguous()])
    half = [own._replace(variance=None) for own in case.weights]
    refused("need a running mean and variance", weights=half)
    unknown = [own._replace(mean=None, variance=None) for own in case.weights]
    refused("need a running mean and variance", weights=unknown, how=case.how._replace(known=True))
    with pytest.raises(TypeError, match=r"take torch.float64 on the CPU, got torch.float32 on cpu"):
        native_chains(
            case.x, case.mixing, [w._replace(matrix=w.matrix.float()) for w in case.weights], case.how, [None]
        )
    turned = [w._replace(matrix=w.matrix.transpose(0, 1).contiguous().transpose(0, 1)) for w in case.weights]
    refused("take contiguous tensors, got strides", weights=turned)


def test_gradients_of_another_shape_are_refused() -> None:
    case = Case(Chains((stage(),), (0,), relu=True), channels=[3, 3])
    _, kept = native_chains(case.x, case.mixing, case.weights, case.how, [None])
    inputs = (case.x, case.mixing, case.weights, case.how, kept)
    wanted = [False] * 4
    right = randn(2, 3, 6, 5, seed=0)
    for upstream, of_x in ((randn(1, 3, 6, 5, seed=0), None), (right.contiguous(), None), (right, right[:1])):
        with pytest.raises(ValueError, match=r"expected images of .*\(?2, 3, 6, 5.* in channels_last, got"):
            native_chains_gradients(*inputs, [upstream], wanted=wanted, of_x=of_x)
