"""The names of the built-in operations."""

from gradnas.ops.conv import ConvBNReLU, DilConv, FacConv, ReLUConvBN, SepConv
from gradnas.ops.heads import AvgPool2d7x7, LinearOp, PoolAdaptiveAvg2D, PoolMeanTensor
from gradnas.ops.merge import ConcateChannelsOp, ProjectChannelsOp
from gradnas.ops.multi_op import MultiOp
from gradnas.ops.pool import PoolBN
from gradnas.ops.registry import CompositeFactory, OpFactory, register_op
from gradnas.ops.skip import FactorizedReduce, Identity, SkipConnect, Zero
from gradnas.ops.stems import StemConv3x3, StemConv3x3Relu, StemConv3x3S4, StemConv3x3S4S2

_TABLE: dict[str, OpFactory | CompositeFactory] = {
    "max_pool_3x3": lambda desc, affine, _: PoolBN("max", desc, affine),
    "avg_pool_3x3": lambda desc, affine, _: PoolBN("avg", desc, affine),
    "skip_connect": lambda desc, affine, _: SkipConnect(desc, affine),
    "sep_conv_3x3": lambda desc, affine, _: SepConv(desc, 3, 1, affine),
    "sep_conv_5x5": lambda desc, affine, _: SepConv(desc, 5, 2, affine),
    "sep_conv_7x7": lambda desc, affine, _: SepConv(desc, 7, 3, affine),
    "dil_conv_3x3": lambda desc, affine, _: DilConv(desc, 3, desc.stride, 2, 2, affine),
    "dil_conv_5x5": lambda desc, affine, _: DilConv(desc, 5, desc.stride, 4, 2, affine),
    "none": lambda desc, affine, _: Zero(desc),
    "identity": lambda desc, affine, _: Identity(desc),
    "conv_7x1_1x7": lambda desc, affine, _: FacConv(desc, 7, 3, affine),
    "conv_3x1_1x3": lambda desc, affine, _: FacConv(desc, 3, 1, affine),
    "convbnrelu_3x3": lambda desc, affine, _: ConvBNReLU(desc, 3, desc.stride, 1, affine),
    "convbnrelu_1x1": lambda desc, affine, _: ConvBNReLU(desc, 1, desc.stride, 0, affine),
    "prepr_normal": lambda desc, affine, _: ReLUConvBN(desc, 1, 1, 0, affine),
    "prepr_reduce": lambda desc, affine, _: FactorizedReduce(desc, affine),
    "stem_conv3x3": lambda desc, affine, _: StemConv3x3(desc, affine),
    "stem_conv3x3Relu": lambda desc, affine, _: StemConv3x3Relu(desc, affine),
    "stem_conv3x3_s4": lambda desc, affine, _: StemConv3x3S4(desc, affine),
    "stem_conv3x3_s4s2": lambda desc, affine, _: StemConv3x3S4S2(desc, affine),
    "pool_adaptive_avg2d": lambda desc, affine, _: PoolAdaptiveAvg2D(),
    "pool_avg2d7x7": lambda desc, affine, _: AvgPool2d7x7(),
    "pool_mean_tensor": lambda desc, affine, _: PoolMeanTensor(),
    "linear": lambda desc, affine, _: LinearOp(desc),
    "concate_channels": lambda desc, affine, _: ConcateChannelsOp(desc, affine),
    "proj_channels": lambda desc, affine, _: ProjectChannelsOp(desc, affine),
    "multi_op": CompositeFactory(lambda desc, affine, _, registry: MultiOp(desc, affine, registry=registry)),
}

for _name, _factory in _TABLE.items():
    register_op(_name, _factory)
