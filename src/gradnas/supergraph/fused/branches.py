"""What a state gives to the nodes by compiled operations: separable convolutions and pools, normalized and mixed.

On a CPU all candidates of these kinds that read a state are one operation in compiled code (:mod:`gradnas.ops.native`).
Of a convolution only what its pointwise part gives is kept; what lies between, and what norms and ReLUs make of it,
stays in the cache and is computed again for the gradients.

Reference test: ``tests/supergraph/fused/test_branches.py`` (against the definition, with all derivatives).
Shape suffixes: B examples, M columns.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.ops.depthwise import depthwise_conv2d
from gradnas.ops.native import (
    Chains,
    ChainStage,
    NormWeights,
    Pool,
    PoolKind,
    StageWeights,
    is_usable,
    native_chains,
    native_chains_gradients,
    native_pool,
    native_pool_gradients,
)
from gradnas.supergraph.fused import layers
from gradnas.supergraph.fused.kernels import differentiable
from gradnas.supergraph.fused.plan import Group

Weights = StageWeights | NormWeights


class Branch(NamedTuple):
    """Columns of one kind with their mixing weights.

    Attributes:
        how: What they do.
        mixing: (M,), or (B, M) with a row per example.
        weights: Of chains those of all columns in the first stage, then the next; of pools those of each column.
            Running statistics move, unless ``how`` has them known.
    """

    how: Chains | Pool
    mixing: Tensor
    weights: Sequence[Weights]


class CompiledGroup:
    """A group in compiled form: what it does, and where its weights are.

    Args:
        group: Of separable convolutions, or of a pool or the state itself, with norms.
        places: Where each column goes.
    """

    def __init__(self, group: Group, places: Sequence[int]) -> None:
        steps = [(layer, modules) for layer, modules in group.steps() if not isinstance(layer, layers.Relu)]
        relu = isinstance(next(iter((*group.prefix, *group.layers)), None), layers.Relu)
        own_norms = [(layer, modules) for layer, modules in steps if isinstance(layer, layers.Norm)]
        self._tracks = any(layer.tracks for layer, _ in own_norms)
        self.norms: list[nn.BatchNorm2d] = [norm for _, modules in own_norms for (norm,) in modules]  # type: ignore[misc]  # a Norm has one
        self._convolutions: list[tuple[nn.Module, nn.Module]] = []
        stages: list[ChainStage] = []
        pool: layers.Pool | None = None
        for i, (layer, modules) in enumerate(steps):
            if isinstance(layer, layers.Separable):
                norm, _ = steps[i + 1]
                assert isinstance(norm, layers.Norm)
                conv = layer.depthwise
                stages.append(
                    ChainStage(conv.kernel, conv.stride[0], conv.padding, conv.dilation[0], norm.eps, norm.momentum)
                )
                self._convolutions += modules  # type: ignore[arg-type]  # pairs
            elif isinstance(layer, layers.Pool):
                pool = layer
        if stages:
            self._how: Chains | Pool = Chains(tuple(stages), tuple(places), relu)
        else:
            self._how = _pool_of(pool, own_norms[0][0] if own_norms else None, tuple(places))

    def branch(self, mixing: Tensor, *, training: bool, moving: bool) -> Branch:
        """The group with its weights as they are now.

        Args:
            mixing: Its mixing weights, (M,), or (B, M).
            training: Whether norms use the statistics of the batch.
            moving: Whether running statistics move.
        """
        known = self._tracks and not training
        running = known or (self._tracks and moving)
        norms = [_norm_weights(norm, running=running) for norm in self.norms]
        how = self._how._replace(known=True) if known else self._how
        if isinstance(how, Pool):
            return Branch(how, mixing, norms or [NormWeights()] * len(how.places))
        weights = [
            StageWeights(layers.read(spatial, "weight"), layers.read(pointwise, "weight"), *own)
            for (spatial, pointwise), own in zip(self._convolutions, norms, strict=True)
        ]
        return Branch(how, mixing, weights)


def _pool_of(pool: layers.Pool | None, norm: layers.Norm | None, places: tuple[int, ...]) -> Pool:
    kind, window = PoolKind.IDENTITY, (1, 1, 0)
    if pool is not None:
        kind = PoolKind.AVERAGE if pool.average else PoolKind.MAXIMUM
        window = pool.size, pool.stride, pool.padding
    eps, momentum = (0.0, 0.0) if norm is None else (norm.eps, norm.momentum)
    return Pool(kind, *window, norm is not None, eps, momentum, places)


def is_native(x: Tensor) -> bool:
    """Whether there is compiled code for such a tensor."""
    # Not for one without memory, as those that only stand for one while torch traces.
    return x.device.type == "cpu" and type(x) in (Tensor, nn.Parameter) and is_usable(x.dtype)


def sum_branches(x: Tensor, branches: Sequence[Branch]) -> tuple[Tensor, ...]:
    """Run all branches on ``x``, and add up what goes to the same place.

    Args:
        x: Input, (B, C, H, W), of a type that :func:`is_native` accepts.
        branches: Each place is in one at least.

    Returns:
        Tensor of shape (B, O, H', W') for each place, channels_last.

    Raises:
        ValueError: For sizes that do not go together.
    """
    given: list[Tensor | None] = []
    for _, mixing, weights in branches:
        given += [mixing, *(w if w is None or w.is_contiguous() else w.contiguous() for own in weights for w in own)]
    out: tuple[Tensor, ...] = _SumBranches.apply([branch.how for branch in branches], x, *given)
    return out


def branches_definition(x: Tensor, branches: Sequence[Branch]) -> tuple[Tensor, ...]:
    """The same in plain torch, column by column; running statistics stay."""
    outs: list[Tensor | None] = [None] * _places(how for how, _, _ in branches)
    for how, mixing, weights in branches:
        for m, place in enumerate(how.places):
            y = _chain(x, how, weights, m) if isinstance(how, Chains) else _pooled(x, how, weights[m])  # type: ignore[arg-type]  # those of its kind
            y = y * (mixing[:, m, None, None, None] if mixing.dim() == 2 else mixing[m])
            before = outs[place]
            outs[place] = y if before is None else before + y
    return tuple(out for out in outs if out is not None)


def _chain(x: Tensor, how: Chains, weights: Sequence[StageWeights], column: int) -> Tensor:
    for s, stage in enumerate(how.stages):
        own = weights[s * len(how.places) + column]
        x = x.relu() if s or how.relu else x
        sides = zip(stage.padding, stage.kernel, own.kernel.shape[2:], strict=True)
        padding = [pad - stage.dilation * ((largest - side) // 2) for pad, largest, side in sides]
        x = depthwise_conv2d(x, own.kernel, stage.stride, (padding[0], padding[1]), stage.dilation)
        x = F.conv2d(x, own.matrix)
        x = _normed(x, NormWeights(*own[2:]), known=how.known, eps=stage.eps)
    return x


def _pooled(x: Tensor, how: Pool, own: NormWeights) -> Tensor:
    if how.kind is PoolKind.MAXIMUM:
        x = F.max_pool2d(x, how.size, how.stride, how.padding)
    elif how.kind is PoolKind.AVERAGE:
        x = F.avg_pool2d(x, how.size, how.stride, how.padding, count_include_pad=False)
    return _normed(x, own, known=how.known, eps=how.eps) if how.normed else x


def _normed(x: Tensor, own: NormWeights, *, known: bool, eps: float) -> Tensor:
    statistics = (own.mean, own.variance) if known else (None, None)
    return F.batch_norm(x, *statistics, own.scale, own.shift, not known, 0.0, eps)


def _places(hows: Any) -> int:
    return 1 + max(place for how in hows for place in how.places)


def _norm_weights(norm: nn.BatchNorm2d, *, running: bool) -> NormWeights:
    buffers = norm._buffers
    statistics = (buffers["running_mean"], buffers["running_var"]) if running else (None, None)
    return NormWeights(layers.read(norm, "weight"), layers.read(norm, "bias"), *statistics)


def _joined(hows: Sequence[Chains | Pool], given: Sequence[Tensor | None]) -> Iterator[Branch]:
    """The branches, from mixing weights and weights one after the other."""
    rest = iter(given)
    for how in hows:
        mixing = next(rest)
        assert mixing is not None
        kind, stages = (StageWeights, len(how.stages)) if isinstance(how, Chains) else (NormWeights, 1)
        count = stages * len(how.places)
        weights = [kind(*(next(rest) for _ in kind._fields)) for _ in range(count)]  # type: ignore[arg-type]  # as they were given
        yield Branch(how, mixing, weights)


class _SumBranches(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hows: list[Chains | Pool], x: Tensor, *given: Tensor | None) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        outs: list[Tensor | None] = [None] * _places(hows)
        saved: list[Tensor | None] = [x]
        kept: list[Tensor] = []
        for how, mixing, weights in _joined(hows, given):
            run: Any = native_chains if isinstance(how, Chains) else native_pool
            outs, own = run(x, mixing, weights, how, outs)
            kept += own
            running = [t for w in weights for t in (w.mean, w.variance) if t is not None and not how.known]
            torch.autograd.graph.increment_version(running)  # who has them for a gradient shall notice
            without = (w if how.known else w._replace(mean=None, variance=None) for w in weights)
            saved += [mixing, *(t for w in without for t in w)]
        ctx.save_for_backward(*saved, *kept)
        ctx.hows = hows
        return tuple(out for out in outs if out is not None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        given, kept = saved[: -2 * len(ctx.hows)], iter(saved[-2 * len(ctx.hows) :])
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_again(ctx.hows, x, given, gradients, needed)
        above = [None if g is None else g.contiguous(memory_format=torch.channels_last) for g in gradients]
        of_x: Tensor | None = None
        found: list[Tensor | None] = []
        rest = iter(needed[1:])
        for how, mixing, weights in _joined(ctx.hows, given):
            run: Any = native_chains_gradients if isinstance(how, Chains) else native_pool_gradients
            for_mixing, wanted = next(rest), [[next(rest) for _ in own][:-2] for own in weights]
            arguments = (x, mixing, weights, how, (next(kept), next(kept)), above)
            chosen = {"wanted": [want for own in wanted for want in own], "for_x": needed[0], "for_mixing": for_mixing}
            of_x, of_mixing, flat = run(*arguments, of_x=of_x, **chosen)
            of_weights = iter(flat)
            found.append(of_mixing)
            for own in wanted:
                found += [*(next(of_weights) for _ in own), None, None]
        return None, of_x, *found


def _again(
    hows: Sequence[Chains | Pool],
    x: Tensor,
    given: Sequence[Tensor | None],
    gradients: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> Iterator[Tensor | None]:
    """Gradients that can be differentiated again."""
    there = [i for i, t in enumerate(given) if t is not None]
    which = [i for i, g in enumerate(gradients) if g is not None]

    def definition(x: Tensor, *some: Tensor) -> tuple[Tensor, ...]:
        again: list[Tensor | None] = [None] * len(given)
        for i, t in zip(there, some, strict=True):
            again[i] = t
        outs = branches_definition(x, list(_joined(hows, again)))
        return tuple(outs[i] for i in which)

    inputs = [x, *(t for t in given if t is not None)]
    wanted = [needed[0], *(needed[1 + i] for i in there)]
    found = iter(differentiable(definition, inputs, wanted, [g for g in gradients if g is not None]))
    yield next(found)
    yield from (None if t is None else next(found) for t in given)
