"""Strategies: how the architecture is learnt. One file per method."""

from gradnas.strategies.base import Batch as Batch
from gradnas.strategies.base import BatchLoss as BatchLoss
from gradnas.strategies.base import LossFn as LossFn
from gradnas.strategies.base import MetaOptimizer as MetaOptimizer
from gradnas.strategies.base import SearchSchedule as SearchSchedule
from gradnas.strategies.darts import Darts as Darts
from gradnas.strategies.didarts import DiDarts as DiDarts
from gradnas.strategies.drnas import DrNas as DrNas
from gradnas.strategies.fair_darts import FairDarts as FairDarts
from gradnas.strategies.gdas import Gdas as Gdas
from gradnas.strategies.gradient import AdamStrategy as AdamStrategy
from gradnas.strategies.gradient import GradientStrategy as GradientStrategy
from gradnas.strategies.pc_darts import PcDarts as PcDarts
from gradnas.strategies.random_search import RandomSearch as RandomSearch
from gradnas.strategies.sampling import SampledRule as SampledRule
from gradnas.strategies.sampling import Temperature as Temperature
from gradnas.strategies.sampling import gumbel_like as gumbel_like
from gradnas.strategies.snas import Snas as Snas
from gradnas.strategies.stabilize import StabilizeConf as StabilizeConf
from gradnas.strategies.xnas import Xnas as Xnas
from gradnas.strategies.xnas_op import XnasOp as XnasOp

Strategy = MetaOptimizer | RandomSearch
"""Whatever ``gradnas.search`` accepts as a strategy."""
