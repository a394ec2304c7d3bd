"""gradnas: differentiable neural architecture search."""

from gradnas import arch as arch
from gradnas import ops as ops
from gradnas import spaces as spaces
from gradnas import supergraph as supergraph
from gradnas.arch import Genotype as Genotype
from gradnas.arch import ModelDesc as ModelDesc
