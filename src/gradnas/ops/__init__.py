"""Operations, the registry of their names, and what they are made of."""

import gradnas.ops.table  # noqa: F401 - fills the registry
from gradnas.ops.arch_module import ArchModule as ArchModule
from gradnas.ops.arch_params import ArchParams as ArchParams
from gradnas.ops.aux_tower import AuxTower as AuxTower
from gradnas.ops.base import Op as Op
from gradnas.ops.conv import ConvBNReLU as ConvBNReLU
from gradnas.ops.conv import DilConv as DilConv
from gradnas.ops.conv import FacConv as FacConv
from gradnas.ops.conv import ReLUConvBN as ReLUConvBN
from gradnas.ops.conv import SepConv as SepConv
from gradnas.ops.depthwise import DepthwiseConv2d as DepthwiseConv2d
from gradnas.ops.drop_path import DropPath_ as DropPath_
from gradnas.ops.heads import AvgPool2d7x7 as AvgPool2d7x7
from gradnas.ops.heads import LinearOp as LinearOp
from gradnas.ops.heads import PoolAdaptiveAvg2D as PoolAdaptiveAvg2D
from gradnas.ops.heads import PoolMeanTensor as PoolMeanTensor
from gradnas.ops.merge import ConcateChannelsOp as ConcateChannelsOp
from gradnas.ops.merge import MergeOp as MergeOp
from gradnas.ops.merge import ProjectChannelsOp as ProjectChannelsOp
from gradnas.ops.multi_op import MultiOp as MultiOp
from gradnas.ops.pool import PoolBN as PoolBN
from gradnas.ops.registry import OPS as OPS
from gradnas.ops.registry import CompositeFactory as CompositeFactory
from gradnas.ops.registry import OpRegistry as OpRegistry
from gradnas.ops.registry import register_op as register_op
from gradnas.ops.skip import FactorizedReduce as FactorizedReduce
from gradnas.ops.skip import Identity as Identity
from gradnas.ops.skip import SkipConnect as SkipConnect
from gradnas.ops.skip import Zero as Zero
from gradnas.ops.stems import StemBase as StemBase
from gradnas.ops.stems import StemConv3x3 as StemConv3x3
from gradnas.ops.stems import StemConv3x3Relu as StemConv3x3Relu
from gradnas.ops.stems import StemConv3x3S4 as StemConv3x3S4
from gradnas.ops.stems import StemConv3x3S4S2 as StemConv3x3S4S2
