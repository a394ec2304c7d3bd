"""gradnas: differentiable neural architecture search."""

from gradnas import arch as arch
from gradnas import config as config
from gradnas import data as data
from gradnas import finalizers as finalizers
from gradnas import models as models
from gradnas import ops as ops
from gradnas import spaces as spaces
from gradnas import strategies as strategies
from gradnas import supergraph as supergraph
from gradnas import training as training
from gradnas.api import load as load
from gradnas.api import resume as resume
from gradnas.api import retrain as retrain
from gradnas.api import run as run
from gradnas.api import search as search
from gradnas.api import train as train
from gradnas.arch import Genotype as Genotype
from gradnas.arch import ModelDesc as ModelDesc
from gradnas.pipeline.plan import Plan as Plan
from gradnas.pipeline.plan import plan as plan
from gradnas.report import Comparison as Comparison
from gradnas.report import compare as compare
from gradnas.result import Result as Result

__version__ = "0.1.0"
