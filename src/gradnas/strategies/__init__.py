"""Strategies: how the architecture is learnt. One file per method."""

from gradnas.strategies.base import Batch as Batch
from gradnas.strategies.base import BatchLoss as BatchLoss
from gradnas.strategies.base import LossFn as LossFn
from gradnas.strategies.base import MetaOptimizer as MetaOptimizer
from gradnas.strategies.base import SearchSchedule as SearchSchedule
from gradnas.strategies.darts import Darts as Darts
from gradnas.strategies.random_search import RandomSearch as RandomSearch
from gradnas.strategies.xnas import Xnas as Xnas
from gradnas.strategies.xnas_op import XnasOp as XnasOp

Strategy = MetaOptimizer | RandomSearch
"""Whatever ``gradnas.search`` accepts as a strategy."""
