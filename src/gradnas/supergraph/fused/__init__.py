"""The fast execution of cells: a compiler from edges to wide operations."""

from gradnas.supergraph.fused.execution import FusedNodes as FusedNodes
