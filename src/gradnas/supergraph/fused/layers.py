"""What candidate operations are made of, in a form that says which of them can run side by side.

A candidate is a *chain* of steps. A step is a layer, which says what is computed, and the modules whose weights it
uses. Two candidates with equal layers differ in their weights alone, so they can run as one wide operation; and as long
as no weights have been met, chains from one state compute the very same tensor.

The list is open: an op with a form of its own here needs an entry in :data:`_LOWERING`; every other op runs as it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.ops import (
    ConvBNReLU,
    DilConv,
    FacConv,
    FactorizedReduce,
    Identity,
    Op,
    PoolBN,
    ReLUConvBN,
    SepConv,
    SkipConnect,
)
from gradnas.ops.depthwise import DepthwiseConv2d, depthwise_conv2d, sub_images
from gradnas.supergraph.fused.kernels import grouped_pointwise, repeat_columns, separable_conv2d


class Value(NamedTuple):
    """A tensor on its way through chains.

    Attributes:
        tensor: Of shape (B, C, H, W) if it is the same for all chains, (B, M·C, H, W) if it has a part for each.
        columns: M, or 0 for a tensor that all chains share.
        parts: Whether it holds the four interleaved sub-images of each image, as (4·B, C, H/2, W/2).
    """

    tensor: Tensor
    columns: int = 0
    parts: bool = False

    def spread(self, columns: int) -> "Value":
        """With a column for each of so many chains."""
        if self.columns:
            return self
        return self._replace(tensor=repeat_columns(self.tensor, columns), columns=columns)


Source = tuple[nn.Module, str]
"""Where a weight is kept: a module and the name of its attribute."""


def read(module: nn.Module, name: str) -> Tensor:
    """What ``getattr`` gives, sooner where the weight is an ordinary parameter."""
    parameters = module._parameters
    return parameters[name] if name in parameters else getattr(module, name)  # type: ignore[return-value]  # norms have None


class Layer:
    """One layer of a chain; equal layers can run side by side."""

    own = False
    """Whether it has weights, so that its result differs from chain to chain."""
    side = 0
    """Side of its kernel."""

    def framed(self) -> "Layer":
        """A more general form that more layers are equal in, if there is one."""
        return self

    def weights(self, modules: Sequence[nn.Module]) -> list[Source]:
        """The weights that a chain with these modules brings for it; the same number for equal layers."""
        return []


class Function(Layer, ABC):
    """A layer that is a function of its input and its weights."""

    @abstractmethod
    def run(self, value: Value, weights: Sequence[Tensor], columns: int) -> Value:
        """Apply to ``columns`` chains at once.

        Args:
            value: What the layers before gave.
            weights: Each weight of the layer, those of all chains one after the other on the first axis.
            columns: Number of chains.
        """


@dataclass(frozen=True)
class Relu(Function):
    """max(0, x)."""

    def run(self, value: Value, weights: Sequence[Tensor], columns: int) -> Value:
        # A wide value was made by the layer before, and no layer here needs its own output for its gradient.
        return value._replace(tensor=F.relu(value.tensor, inplace=value.columns > 0))


@dataclass(frozen=True)
class Pool(Function):
    """Max or average pooling."""

    average: bool
    size: int
    stride: int
    padding: int

    @staticmethod
    def of(module: nn.Module) -> "Pool | None":
        """That of a module; None for settings that no candidate has."""
        average = isinstance(module, nn.AvgPool2d)
        pool = Pool(average, *(getattr(module, name) for name in ("kernel_size", "stride", "padding")))
        known = nn.MaxPool2d(3) if not average else nn.AvgPool2d(3, count_include_pad=False)
        others = vars(known).keys() - {"kernel_size", "stride", "padding", "training"}
        plain = all(isinstance(side, int) for side in (pool.size, pool.stride, pool.padding))
        same = all(getattr(module, k) == getattr(known, k) for k in others if not k.startswith("_"))
        return pool if plain and same else None

    def run(self, value: Value, weights: Sequence[Tensor], columns: int) -> Value:
        if self.average:
            out = F.avg_pool2d(value.tensor, self.size, self.stride, self.padding, count_include_pad=False)
        else:
            out = F.max_pool2d(value.tensor, self.size, self.stride, self.padding)
        return value._replace(tensor=out)


@dataclass(frozen=True)
class SubImages(Function):
    """The four interleaved sub-images, in which a kernel of dilation 2 is dense. Maps of odd size stay as they are."""

    def run(self, value: Value, weights: Sequence[Tensor], columns: int) -> Value:
        if value.tensor.shape[2] % 2 or value.tensor.shape[3] % 2:
            return value
        return value._replace(tensor=sub_images(value.tensor), parts=True)


@dataclass(frozen=True)
class EvenPixels(Function):
    """Every second row and column: all that a kernel of dilation 2 sees at stride 2."""

    def run(self, value: Value, weights: Sequence[Tensor], columns: int) -> Value:
        even = value.tensor[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        return value._replace(tensor=even)


Pair = tuple[int, int]

FRAME = 5  # side of the kernel that smaller ones are put into


@dataclass(frozen=True)
class Convolution(Function):
    """A convolution without bias."""

    ch_in: int
    ch_out: int
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    own = True

    @staticmethod
    def of(module: nn.Conv2d) -> "Convolution | None":
        """That of a module; None for one with a bias or with padding other than so many zeros."""
        if module.bias is not None or module.padding_mode != "zeros" or isinstance(module.padding, str):
            return None
        return Convolution(
            module.in_channels,
            module.out_channels,
            _pair(module.kernel_size),
            _pair(module.stride),
            _pair(module.padding),
            _pair(module.dilation),
            module.groups,
        )

    @property
    def side(self) -> int:  # type: ignore[override]  # the same for most layers
        return self.kernel[0]

    @property
    def depthwise(self) -> bool:
        """Whether each channel has a kernel of its own."""
        return self.groups == self.ch_in == self.ch_out

    @property
    def pointwise(self) -> bool:
        """Whether it mixes the channels of each pixel, and nothing else."""
        return (self.kernel, self.stride, self.padding, self.groups) == ((1, 1), (1, 1), (0, 0), 1)

    @property
    def same(self) -> bool:
        """Whether the kernel is odd and centred."""
        reach = zip(self.kernel, self.padding, self.dilation, strict=True)
        return all(k % 2 == 1 and p == d * (k // 2) for k, p, d in reach)

    def framed(self) -> "Convolution":
        """The same with a small depthwise kernel in a frame of zeros, so that kernels of several sizes are equal.

        Reading and writing maps costs more than the few products with zero, and one operation less saves its overhead.
        """
        height, width = self.kernel
        if not (self.depthwise and self.same and height == width <= FRAME):
            return self
        height, width = self.dilation
        return replace(self, kernel=(FRAME, FRAME), padding=(height * (FRAME // 2), width * (FRAME // 2)))

    def dense(self) -> "Convolution":
        """The same kernel without dilation and stride, still centred."""
        height, width = self.kernel
        return replace(self, stride=(1, 1), dilation=(1, 1), padding=(height // 2, width // 2))

    def weights(self, modules: Sequence[nn.Module]) -> list[Source]:
        return [(module, "weight") for module in modules]

    def run(self, value: Value, weights: Sequence[Tensor], columns: int) -> Value:
        (weight,) = weights
        conv = self.dense() if value.parts else self
        if not value.columns and self.groups == 1:  # many outputs from one input
            out = F.conv2d(value.tensor, weight, None, conv.stride, conv.padding, conv.dilation)
            return value._replace(tensor=out, columns=columns)
        value = value.spread(columns)
        if self.depthwise:
            out = depthwise_conv2d(value.tensor, weight, conv.stride, conv.padding, conv.dilation)
        elif self.pointwise:
            out = grouped_pointwise(value.tensor, weight.view(columns, self.ch_out, self.ch_in))
        else:
            groups = columns * self.groups
            out = F.conv2d(value.tensor, weight, None, conv.stride, conv.padding, conv.dilation, groups)
        return value._replace(tensor=out)


@dataclass(frozen=True)
class Separable(Function):
    """A depthwise convolution and the pointwise one after it."""

    depthwise: Convolution
    pointwise: Convolution

    own = True

    @property
    def side(self) -> int:  # type: ignore[override]  # the same for most layers
        return self.depthwise.side

    def framed(self) -> "Separable":
        return replace(self, depthwise=self.depthwise.framed())

    def weights(self, modules: Sequence[nn.Module]) -> list[Source]:
        return [(module, "weight") for module in modules]

    def run(self, value: Value, weights: Sequence[Tensor], columns: int) -> Value:
        depthwise, pointwise = weights
        conv = self.depthwise.dense() if value.parts else self.depthwise
        matrices = pointwise.view(columns, self.pointwise.ch_out, self.pointwise.ch_in)
        out = separable_conv2d(value.tensor, depthwise, matrices, conv.stride[0], conv.padding, conv.dilation[0])
        return value._replace(tensor=out, columns=columns)


@dataclass(frozen=True)
class Halving(Function):
    """The two 1×1 convolutions of stride 2 of a factorized reduce, the second on the shifted input."""

    ch_in: int
    ch_out: int

    own = True

    def weights(self, modules: Sequence[nn.Module]) -> list[Source]:
        return [(module, "weight") for module in modules]

    def run(self, value: Value, weights: Sequence[Tensor], columns: int) -> Value:
        groups = columns if value.columns else 1
        x = value.tensor
        shifted = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1::2, 1::2]
        halves = [
            F.conv2d(pixels.contiguous(memory_format=torch.channels_last), weight, groups=groups)
            for pixels, weight in zip((x[:, :, ::2, ::2], shifted), weights, strict=True)
        ]
        # Side by side per chain, in the order of the plain op: (B, M, 2, C/2, H, W).
        out = torch.stack([half.unflatten(1, (columns, -1)) for half in halves], dim=2).flatten(1, 3)
        return value._replace(tensor=out.contiguous(memory_format=torch.channels_last), columns=columns)


@dataclass(frozen=True)
class Norm(Layer):
    """Batch norm; what it does with statistics and mixing weights is up to ``execution.py``."""

    channels: int
    eps: float
    momentum: float
    affine: bool
    tracks: bool

    @staticmethod
    def of(module: nn.BatchNorm2d) -> "Norm | None":
        """That of a module; None for one with a cumulative average, or with a weight and no bias."""
        if module.momentum is None or (module.weight is None) != (module.bias is None):
            return None
        tracks = module.running_mean is not None
        return Norm(module.num_features, module.eps, module.momentum, bool(module.affine), tracks)

    def weights(self, modules: Sequence[nn.Module]) -> list[Source]:
        return [(module, name) for module in modules for name in ("weight", "bias")] if self.affine else []


class Step(NamedTuple):
    """A layer with the modules of one candidate."""

    layer: Layer
    modules: tuple[nn.Module, ...] = ()


Chain = list[Step]


def lower(op: Op, *, compiled: bool = False) -> Chain | None:
    """The chain that an op is, or None for an op without such a form.

    Args:
        op: The op.
        compiled: Whether separable convolutions run in compiled code, which needs no rearrangement of dilated kernels.
    """
    lowering = _LOWERING.get(type(op))
    chain = None if lowering is None else lowering(op)
    if chain is None:
        return None
    joined = _separable(chain)
    return joined if compiled and has_compiled_form([s.layer for s in joined]) else _separable(_undilated(chain))


def has_compiled_form(layers: Sequence[Layer]) -> bool:
    """Whether ``branches.py`` knows these: separable convolutions with norms, or a pool with a norm or without."""
    pooled = layers[1:] if layers and isinstance(layers[0], Pool) else layers
    return _is_separable(layers) or not pooled or (len(pooled) == 1 and isinstance(pooled[0], Norm))


def _is_separable(layers: Sequence[Layer]) -> bool:
    """Whether these are separable convolutions, each with its norm, and ReLUs between them."""
    rest = layers[1:] if layers and isinstance(layers[0], Relu) else layers
    kinds = (Separable, Norm, Relu)
    if len(rest) % 3 != 2 or not all(isinstance(layer, kinds[i % 3]) for i, layer in enumerate(rest)):
        return False
    return len({layer.tracks for layer in rest if isinstance(layer, Norm)}) == 1


def _of_sequence(op: Op) -> Chain | None:
    layers = op.layers
    assert isinstance(layers, nn.Sequential)
    chain: Chain = []
    for module in layers:
        step = _of_module(module)
        if step is None:
            return None
        if not (chain and isinstance(step.layer, Relu) and isinstance(chain[-1].layer, Relu)):  # once is enough
            chain.append(step)
    return chain


def _of_pool(op: Op) -> Chain | None:
    assert isinstance(op, PoolBN)
    parts = [op.pool] if op.bn is None else [op.pool, op.bn]
    steps = [_of_module(part) for part in parts]
    return None if None in steps else [step for step in steps if step is not None]


def _of_factorized(op: Op) -> Chain | None:
    assert isinstance(op, FactorizedReduce)
    relu, first, second, norm = (_of_module(m) for m in (op.relu, op.conv_1, op.conv_2, op.bn))
    if relu is None or first is None or second is None or norm is None or first.layer != second.layer:
        return None
    conv = first.layer
    halves = Convolution(op.conv_1.in_channels, op.conv_1.out_channels, (1, 1), (1, 1), (0, 0), (1, 1), 1)
    if relu.layer != Relu() or conv != halves:
        return None
    return [relu, Step(Halving(halves.ch_in, 2 * halves.ch_out), (op.conv_1, op.conv_2)), norm]


def _of_skip(op: Op) -> Chain | None:
    assert isinstance(op, SkipConnect)
    return lower(op.op)


def _of_module(module: nn.Module) -> Step | None:
    layer: Layer | None = None
    if type(module) is nn.ReLU:
        return Step(Relu())
    if type(module) in (nn.MaxPool2d, nn.AvgPool2d):
        layer = Pool.of(module)
    elif type(module) in (nn.Conv2d, DepthwiseConv2d):
        assert isinstance(module, nn.Conv2d)
        layer = Convolution.of(module)
    elif type(module) is nn.BatchNorm2d:
        layer = Norm.of(module)
    return None if layer is None else Step(layer, (module,))


def _undilated(chain: Chain) -> Chain:
    """The same chain with its depthwise kernels of dilation 2 made dense, on sub-images or on even pixels."""
    spatial = [s.layer for s in chain if isinstance(s.layer, Convolution) and not s.layer.pointwise]
    first = next((i for i, s in enumerate(chain) if isinstance(s.layer, Convolution)), None)
    if not spatial or not all(c.depthwise and c.same and c.dilation == (2, 2) for c in spatial):
        return chain
    if any(isinstance(s.layer, Pool) for s in chain) or first is None:
        return chain
    if all(c.stride == (1, 1) for c in spatial):
        return [*chain[:first], Step(SubImages()), *chain[first:]]
    if len(spatial) == 1 and spatial[0].stride == (2, 2) and chain[first].layer is spatial[0]:
        return [*chain[:first], Step(EvenPixels()), Step(spatial[0].dense(), chain[first].modules), *chain[first + 1 :]]
    return chain


def _separable(chain: Chain) -> Chain:
    """The same chain with each depthwise convolution and the pointwise one behind it as one step."""
    joined: Chain = []
    for step in chain:
        before = joined[-1].layer if joined else None
        if isinstance(step.layer, Convolution) and step.layer.pointwise and _separates(before):
            assert isinstance(before, Convolution)
            joined[-1] = Step(Separable(before, step.layer), (*joined[-1].modules, *step.modules))
        else:
            joined.append(step)
    return joined


def _separates(layer: Layer | None) -> bool:
    """Whether it is a depthwise convolution with one stride and dilation for rows and columns, 1 or 2."""
    if not isinstance(layer, Convolution) or not layer.depthwise:
        return False
    return {*layer.stride, *layer.dilation} <= {1, 2} and len({*layer.stride}) == len({*layer.dilation}) == 1


def _pair(size: tuple[int, ...]) -> Pair:
    return size[0], size[1]


_LOWERING: dict[type[Op], Callable[[Op], Chain | None]] = {
    Identity: lambda op: [],
    SkipConnect: _of_skip,
    FactorizedReduce: _of_factorized,
    PoolBN: _of_pool,
    ReLUConvBN: _of_sequence,
    ConvBNReLU: _of_sequence,
    DilConv: _of_sequence,
    SepConv: _of_sequence,
    FacConv: _of_sequence,
}
