"""From a description to a running network in which every candidate operation has a weight."""

from gradnas.ops import ArchModule as ArchModule
from gradnas.ops import ArchParams as ArchParams
from gradnas.ops import AuxTower as AuxTower
from gradnas.supergraph.cell import Cell as Cell
from gradnas.supergraph.dag_edge import DagEdge as DagEdge
from gradnas.supergraph.edge_data import EdgeData as EdgeData
from gradnas.supergraph.edge_data import GraphEdge as GraphEdge
from gradnas.supergraph.edge_data import GraphNode as GraphNode
from gradnas.supergraph.mixed_op import NONE as NONE
from gradnas.supergraph.mixed_op import MixedOp as MixedOp
from gradnas.supergraph.mixing import MixingRule as MixingRule
from gradnas.supergraph.mixing import Softmax as Softmax
from gradnas.supergraph.model import Model as Model
from gradnas.supergraph.passes import batch_norms as batch_norms
from gradnas.supergraph.passes import fixed as fixed
from gradnas.supergraph.passes import same_random_draws as same_random_draws
from gradnas.supergraph.passes import untouched_statistics as untouched_statistics
