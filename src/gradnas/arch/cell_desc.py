"""Descriptions of edges, nodes, cells and the auxiliary tower."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from gradnas.arch.limits import MAX_CELLS, MAX_CHANNELS, MAX_SIDE
from gradnas.arch.op_desc import OpDesc
from gradnas.arch.params import ConvMacroParams
from gradnas.arch.settings import CellConf
from gradnas.arch.shapes import Shape, check_count, check_shape


@dataclass(frozen=True)
class EdgeDesc:
    """An op and the states it reads: 0 and 1 are the cell's inputs, k + 2 is node k.

    Raises:
        ValueError: Unless there is one distinct, non-negative id for each input of the op.
    """

    op_desc: OpDesc
    input_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_ids", tuple(self.input_ids))
        for state in self.input_ids:
            check_count(state, f"input id of op {self.op_desc.name!r}", 0)
        if len(set(self.input_ids)) != len(self.input_ids):
            raise ValueError(f"input ids of op {self.op_desc.name!r} must be distinct, got {self.input_ids}.")
        if len(self.input_ids) != self.op_desc.in_len:
            raise ValueError(
                f"op {self.op_desc.name!r} reads {self.op_desc.in_len} inputs, got the ids {self.input_ids}."
            )

    def clone(self, conv_params: ConvMacroParams | None, clear_trainables: bool) -> "EdgeDesc":
        """A copy, with these channel counts (here and in the op's children) when given, without weights when asked.

        Weights of other channel counts do not fit and are dropped in any case.
        """
        op_desc = self.op_desc if conv_params is None else self.op_desc.with_conv(conv_params)
        return EdgeDesc(op_desc.clear_trainables() if clear_trainables else op_desc, self.input_ids)


@dataclass(frozen=True)
class NodeDesc:
    """A node: the plain sum of its edges' outputs. ``conv_params`` are the channels of the built node."""

    edges: tuple[EdgeDesc, ...]
    conv_params: ConvMacroParams

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(self.edges))


@dataclass(frozen=True)
class AuxTowerDesc:
    """The auxiliary classifier.

    Args:
        ch_in: Input channels, at least 1.
        n_classes: Classes, at least 1.
        stride: Stride of its pooling, at least 1.
        second_norm: Whether its second convolution has a batch norm.
    """

    ch_in: int
    n_classes: int
    stride: int
    second_norm: bool = field(default=True, metadata={"stored": "changed"})

    def __post_init__(self) -> None:
        for name, maximum in (("ch_in", MAX_CHANNELS), ("n_classes", MAX_CHANNELS), ("stride", MAX_SIDE)):
            check_count(getattr(self, name), f"{name} of the auxiliary tower", maximum=maximum)


class CellType(Enum):
    """Regular cells keep the map; reduction cells halve it and double the channels."""

    Regular = "regular"
    Reduction = "reduction"


@dataclass(frozen=True)
class CellDesc:
    """One cell: two stems that pre-process its inputs, nodes, and the op that merges them.

    Args:
        id: Position in the model.
        cell_type: Regular or reduction.
        conf_cell: The settings it was built from; not part of its identity.
        stems: Ops applied to the outputs of the cell before the previous one (s0) and of the previous one (s1).
        stem_shapes: Their output shapes.
        node_descs: The nodes; also as :meth:`nodes`.
        node_shapes: Output shape of each node.
        post_op: The merge.
        out_shape: Output shape of the cell.
        trainables_from: Id of the first cell of the same type, whose architecture parameters this cell uses.

    Raises:
        ValueError: When counts, sizes or ids contradict each other.
    """

    id: int
    cell_type: CellType
    conf_cell: CellConf = field(compare=False)
    stems: tuple[OpDesc, OpDesc]
    stem_shapes: tuple[Shape, Shape]
    node_descs: tuple[NodeDesc, ...]
    node_shapes: tuple[Shape, ...]
    post_op: OpDesc
    out_shape: Shape
    trainables_from: int

    def __post_init__(self) -> None:
        place = f"cells[{check_count(self.id, 'cell id', 0, MAX_CELLS)}]"
        for name in ("stems", "node_descs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("stem_shapes", "node_shapes"):
            shapes = tuple(check_shape(s, f"{place}.{name}[{i}]") for i, s in enumerate(getattr(self, name)))
            object.__setattr__(self, name, shapes)
        object.__setattr__(self, "out_shape", check_shape(self.out_shape, f"{place}.out_shape"))
        if len(self.stems) != 2 or len(self.stem_shapes) != 2:
            raise ValueError(
                f"{place} needs exactly two stems and two stem shapes, "
                f"got {len(self.stems)} and {len(self.stem_shapes)}."
            )
        if len(self.node_descs) != len(self.node_shapes):
            raise ValueError(f"{place} has {len(self.node_descs)} nodes but {len(self.node_shapes)} node shapes.")
        if len({shape[1:] for shape in self.node_shapes}) > 1:
            raise ValueError(f"{place}: all nodes must have one height and width, got {self.node_shapes}.")
        if not 0 <= self.trainables_from <= self.id:
            raise ValueError(f"{place}: trainables_from must be an earlier cell or itself, got {self.trainables_from}.")
        for n, node in enumerate(self.node_descs):
            for e, edge in enumerate(node.edges):
                late = [state for state in edge.input_ids if state > n + 1]
                if late:
                    raise ValueError(
                        f"{place}.nodes[{n}].edges[{e}] reads state {late[0]}, "
                        f"but only states 0-{n + 1} exist before it."
                    )

    def nodes(self) -> tuple[NodeDesc, ...]:
        """The nodes in order."""
        return self.node_descs

    def clone(self, id: int) -> "CellDesc":
        """A copy with another id; it takes architecture parameters from where the original does."""
        return replace(self, id=id)

    def reset_nodes(
        self,
        nodes: tuple[NodeDesc, ...] | list[NodeDesc],
        node_shapes: tuple[Shape, ...] | list[Shape],
        post_op: OpDesc,
        out_shape: Shape,
    ) -> "CellDesc":
        """A copy with other nodes, after the same checks."""
        return replace(
            self, node_descs=tuple(nodes), node_shapes=tuple(node_shapes), post_op=post_op, out_shape=out_shape
        )

    def all_empty(self) -> bool:
        """True when no node has an edge."""
        return all(not node.edges for node in self.node_descs)

    def all_full(self) -> bool:
        """True when every node has an edge."""
        return all(node.edges for node in self.node_descs)

    def top_ops(self) -> Iterator[tuple[str, OpDesc]]:
        """Every op of the cell with its dotted place, children left inside their parents."""
        for i, stem in enumerate(self.stems):
            yield f"stems.{i}", stem
        for n, node in enumerate(self.node_descs):
            for e, edge in enumerate(node.edges):
                yield f"nodes.{n}.edges.{e}", edge.op_desc
        yield "post_op", self.post_op

    def map_ops(self, change: Callable[[str, OpDesc], OpDesc]) -> "CellDesc":
        """A copy in which each op of :meth:`top_ops` is what ``change(place, op)`` returns."""
        nodes = tuple(
            replace(
                node,
                edges=tuple(
                    replace(edge, op_desc=change(f"nodes.{n}.edges.{e}", edge.op_desc))
                    for e, edge in enumerate(node.edges)
                ),
            )
            for n, node in enumerate(self.node_descs)
        )
        stems = (change("stems.0", self.stems[0]), change("stems.1", self.stems[1]))
        return replace(self, stems=stems, node_descs=nodes, post_op=change("post_op", self.post_op))

    def clear_trainables(self) -> "CellDesc":
        """A copy without weights."""
        return self.map_ops(lambda _, op: op.clear_trainables())

    def state_dict(self) -> dict[str, Any]:
        """Id, type and the weights of every op by place."""
        ops = {place: op.state_dict() for place, op in self.top_ops()}
        return {"id": self.id, "cell_type": self.cell_type.value, "ops": ops}

    def load_state_dict(self, state: Mapping[str, Any]) -> "CellDesc":
        """A copy that holds the weights of :meth:`state_dict`.

        Raises:
            ValueError: When id, type or the ops differ.
        """
        if (state["id"], state["cell_type"]) != (self.id, self.cell_type.value):
            raise ValueError(
                f"weights of cell {state['id']} ({state['cell_type']}) were given to "
                f"cell {self.id} ({self.cell_type.value})."
            )
        if set(state["ops"]) != {place for place, _ in self.top_ops()}:
            raise ValueError(f"cells[{self.id}]: the stored weights are of a cell with other nodes or edges.")
        return self.map_ops(lambda place, op: op.load_state_dict(state["ops"][place]))
