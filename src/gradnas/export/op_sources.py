"""Which text stands for an op in an exported ``model.py``: one table, by the names of :mod:`gradnas.ops`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from gradnas.arch import OpDesc
from gradnas.export.layout import Expression, call, listed
from gradnas.foundation.names import did_you_mean
from gradnas.ops import OPS

Channels = Callable[[int], str]
"""How a number of channels is written, e.g. ``2 * ch`` inside a cell."""

Source = Callable[[OpDesc, Channels], Expression]
"""Writes the constructor of an op."""


def op_source(op: OpDesc, channels: Channels = str) -> Expression:
    """The expression that builds an op.

    Args:
        op: Its description.
        channels: How numbers of channels are written.

    Raises:
        ValueError: For an op without a source form: one that holds a choice, or one of the user's own.
    """
    if op.name in SOURCES:
        return SOURCES[op.name](op, channels)
    if "primitives" in op.params or op.name == "mixed_op":
        raise ValueError(
            f"op {op.name!r} still holds a choice: this is the network of a search. Export the found description, or a "
            "run folder."
        )
    own = "" if op.name in OPS.names() else f" {did_you_mean(op.name, SOURCES)}"
    raise ValueError(
        f"there is no source form of the op {op.name!r}, so that it cannot be written as plain PyTorch. The formats "
        f"'torch' and 'onnx' hold ops of any kind.{own}"
    )


def _plain(name: str) -> Source:
    """A class that takes channels in and out."""
    return lambda op, channels: call(name, channels(op.conv.ch_in), channels(op.conv.ch_out))


def _sized(name: str, size: int) -> Source:
    """A convolution of this size, with its stride where it has one."""

    def source(op: OpDesc, channels: Channels) -> Expression:
        return call(name, channels(op.conv.ch_in), channels(op.conv.ch_out), str(size), *_stride(op))

    return source


def _pool(name: str, *more: str) -> Source:
    def source(op: OpDesc, channels: Channels) -> Expression:
        pool = call(name, "3", f"stride={op.stride}", "padding=1", *more)
        # Without a word in the description, only the search network has the norm (PoolBN in gradnas.ops).
        return call("PoolBN", pool, channels(op.conv.ch_out)) if op.params.get("pool_bn") else pool

    return source


def _skip(op: OpDesc, channels: Channels) -> Expression:
    return PASS if op.stride == 1 else _plain("HalvingSkip")(op, channels)


def _zero(op: OpDesc, channels: Channels) -> Expression:
    return call("Zero", channels(op.conv.ch_out), *_stride(op))


def _multi_op(op: OpDesc, channels: Channels) -> Expression:
    children = [op_source(child.with_params(conv=op.conv), channels) for child in op.children or ()]
    reads = listed(str(port) for port in op.children_ins or ())
    return call("MultiOp", channels(op.conv.ch_out), listed(children), reads)


def _eighth_stem(op: OpDesc, channels: Channels) -> Expression:
    return (
        call("HalvingStem", channels(op.conv.ch_out)) if op.params.get("shared") else _plain("EighthStem")(op, channels)
    )


def _linear(op: OpDesc, channels: Channels) -> Expression:
    return call("Classifier", str(op.params["n_ch"]), str(op.params["n_classes"]))


def _stride(op: OpDesc) -> tuple[str, ...]:
    return () if op.stride == 1 else (f"stride={op.stride}",)


def _constant(text: Expression) -> Source:
    return lambda op, channels: text


PASS = "nn.Identity()"
"""What an op without an effect is written as."""

_GLOBAL_AVERAGE = call("nn.Sequential", "nn.AdaptiveAvgPool2d(1)", "nn.Flatten()")

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "max_pool_3x3": _pool("nn.MaxPool2d"),
        "avg_pool_3x3": _pool("nn.AvgPool2d", "count_include_pad=False"),
        "skip_connect": _skip,
        "sep_conv_3x3": _sized("SepConv", 3),
        "sep_conv_5x5": _sized("SepConv", 5),
        "sep_conv_7x7": _sized("SepConv", 7),
        "dil_conv_3x3": _sized("DilConv", 3),
        "dil_conv_5x5": _sized("DilConv", 5),
        "none": _zero,
        "identity": _constant(PASS),
        "conv_7x1_1x7": _sized("FacConv", 7),
        "conv_3x1_1x3": _sized("FacConv", 3),
        "convbnrelu_3x3": _sized("ConvBNReLU", 3),
        "convbnrelu_1x1": _sized("ConvBNReLU", 1),
        "prepr_normal": _plain("ReLUConvBN"),
        "prepr_reduce": _plain("FactorizedReduce"),
        "stem_conv3x3": _plain("Stem"),
        "stem_conv3x3Relu": _plain("StemReLU"),
        "stem_conv3x3_s4": _plain("QuarterStem"),
        "stem_conv3x3_s4s2": _eighth_stem,
        "pool_adaptive_avg2d": _constant(_GLOBAL_AVERAGE),
        "pool_mean_tensor": _constant(_GLOBAL_AVERAGE),
        "pool_avg2d7x7": _constant(call("nn.Sequential", "nn.AvgPool2d(7)", "nn.Flatten()")),
        "linear": _linear,
        "concate_channels": _constant(PASS),  # the cell puts states side by side itself
        "proj_channels": _plain("Projection"),
        "multi_op": _multi_op,
    }
)
"""Op name to what writes its constructor."""
