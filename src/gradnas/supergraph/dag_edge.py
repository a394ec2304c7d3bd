"""An edge of a cell: picks its input states and applies its op."""

from torch import Tensor

from gradnas.arch import EdgeDesc
from gradnas.ops import OPS, ArchModule, DropPath_, Op, OpRegistry
from gradnas.supergraph.mixed_op import MixedOp


class DagEdge(ArchModule):
    """One edge.

    Args:
        desc: Its op and the ids of the states it reads.
        affine: Whether batch norms have weights.
        droppath: Whether the output passes through drop path, where the op allows it.
        template_edge: The same edge of the first cell of the type, whose architecture parameters are used; None here
            makes own ones.
        registry: Where op names are looked up.
    """

    def __init__(
        self,
        desc: EdgeDesc,
        affine: bool,
        droppath: bool,
        template_edge: "DagEdge | None",
        *,
        registry: OpRegistry = OPS,
    ) -> None:
        super().__init__()
        self.desc = desc
        self.input_ids = desc.input_ids
        shared = None if template_edge is None else template_edge.op.arch_params()
        self.op: Op = Op.create(desc.op_desc, affine, shared or None, registry=registry)
        self.drop_path = DropPath_() if droppath and self.op.can_drop_path() else None

    def forward(self, inputs: list[Tensor], weights: Tensor | None = None) -> Tensor:
        """Apply the edge.

        Args:
            inputs: The states of the cell so far, each (B, C, H, W).
            weights: Mixing weights of this edge, shape (N,), for a mixed op; a last entry for channels that pass by is
                left out where none do.
        """
        chosen = [inputs[i] for i in self.input_ids]
        x = chosen[0] if len(chosen) == 1 else chosen
        if isinstance(self.op, MixedOp) and weights is not None:
            weights = weights[..., : self.op.row_length]
        out: Tensor = self.op(x, weights) if isinstance(self.op, MixedOp) else self.op(x)
        return out if self.drop_path is None else self.drop_path(out)
