"""Networks of the literature from their genotype."""

from collections.abc import Sequence

from gradnas.arch import CellConf, CellType, Genotype, ModelDescConf, NodeDesc, OpDesc, Shape
from gradnas.ops import OpRegistry
from gradnas.spaces.builder import ModelDescBuilder, wired_nodes


class GenotypeBuilder(ModelDescBuilder):
    """Builds the network whose cells are those of a genotype; its node count wins over the configured one."""

    def __init__(
        self, genotype: Genotype, conf: ModelDescConf | None = None, *, registry: OpRegistry | None = None
    ) -> None:
        super().__init__(conf)
        self.genotype = genotype
        if registry is not None:
            self.registry = registry

    def build_nodes(
        self,
        stem_shapes: Sequence[Shape],
        conf_cell: CellConf,
        cell_index: int,
        cell_type: CellType,
        node_count: int,
        in_shape: Shape,
        out_shape: Shape,
    ) -> tuple[list[Shape], list[NodeDesc]]:
        """Two edges per node, as the genotype says. ValueError when it has no cell of the type."""
        regular = cell_type is CellType.Regular
        nodes = self.genotype.normal_nodes if regular else self.genotype.reduce_nodes
        if not nodes:
            raise ValueError(
                f"cells[{cell_index}] is a reduction cell, but the genotype has none; build it with reductions=0."
            )
        wiring = [[(OpDesc(op), state) for op, state in node] for node in nodes]
        return wired_nodes(wiring, cell_type, in_shape, out_shape)

    def merged_states(self, cell_index: int, node_count: int) -> tuple[int, ...]:
        """The genotype's concat list."""
        regular = self.get_cell_type(cell_index) is CellType.Regular
        return self.genotype.normal_concat if regular else self.genotype.reduce_concat
