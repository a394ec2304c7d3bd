"""The cell that a search would end with after an epoch: read from its log, drawn, and compared with that of another."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gradnas.arch import (
    CELL_OPS,
    CellConf,
    CellDesc,
    CellType,
    ConvMacroParams,
    EdgeDesc,
    Genotype,
    ModelDesc,
    NodeDesc,
    OpDesc,
    Params,
    Shape,
    concat_ids,
    state_name,
)
from gradnas.report.records.plain_values import member, words


@dataclass(frozen=True, kw_only=True)
class Wire:
    """An edge of a would-be cell: an operation, the states it reads, and the parts of a composite."""

    op: str
    input_ids: tuple[int, ...]
    parts: tuple["Wire", ...] = ()

    def sources(self) -> str:
        """The states by name: ``s0, n1``."""
        return ", ".join(map(state_name, self.input_ids))


@dataclass(frozen=True, kw_only=True)
class WouldBe:
    """A would-be cell; equal cells look alike.

    Args:
        kind: Cell type.
        nodes: The edges of each node.
        merge: Name of the operation behind the nodes.
        merged: Ids of the states it reads.
        shapes: (channels, height, width) of each state, the two inputs first, and of the output.
        stems: Names of the operations through which the inputs come.
    """

    kind: str
    nodes: tuple[tuple[Wire, ...], ...]
    merge: str
    merged: tuple[int, ...]
    shapes: tuple[Shape, ...]
    stems: tuple[str, str]

    def cell(self) -> CellDesc:
        """The description to draw. ValueError when the parts contradict each other."""
        *states, out_shape = self.shapes
        kind = next((kind for kind in CellType if kind.value == self.kind), None)
        if kind is None or len(states) != len(self.nodes) + 2:
            raise ValueError(f"{len(states)} shapes of states for {len(self.nodes)} nodes of a {self.kind} cell.")
        if not all(0 <= state < len(states) for state in self.merged):
            raise ValueError(f"the output merges the states {self.merged}, but there are {len(states)}.")
        conv = ConvMacroParams(out_shape[0], out_shape[0])  # not drawn
        return CellDesc(
            id=0,
            cell_type=kind,
            conf_cell=CellConf(n_nodes=len(self.nodes)),
            stems=(OpDesc(self.stems[0]), OpDesc(self.stems[1])),
            stem_shapes=(states[0], states[1]),
            node_descs=tuple(
                NodeDesc(tuple(self._edge(wire, node) for wire in wires), conv) for node, wires in enumerate(self.nodes)
            ),
            node_shapes=tuple(states[2:]),
            post_op=OpDesc(self.merge, Params(concat_ids=self.merged)),
            out_shape=out_shape,
            trainables_from=0,
        )

    def _edge(self, wire: Wire, node: int) -> EdgeDesc:
        if not all(0 <= state < node + 2 for state in wire.input_ids):
            raise ValueError(f"node {node} reads the states {wire.input_ids}, but only {node + 2} exist before it.")
        op = OpDesc(
            wire.op,
            self._stride(wire, node),
            in_len=len(wire.input_ids),
            children=tuple(OpDesc(part.op, self._stride(part, node)) for part in wire.parts),
            children_ins=tuple(wire.input_ids.index(part.input_ids[0]) for part in wire.parts),
        )
        return EdgeDesc(op, wire.input_ids)

    def _stride(self, wire: Wire, node: int) -> Params:
        """2 where a state is larger than the node that reads it."""
        return Params(stride=1 + any(self.shapes[state][1] > self.shapes[node + 2][1] for state in wire.input_ids))


def read_would_be(record: object) -> dict[str, WouldBe]:
    """The would-be cells that a line of ``alphas.jsonl`` describes, by cell type; damaged ones are left out."""
    cells = member(record, "would_be")
    read = (
        {str(kind): _read_cell(str(kind), cell) for kind, cell in cells.items()} if isinstance(cells, Mapping) else {}
    )
    return {kind: cell for kind, cell in read.items() if cell is not None}


def from_genotype(text: str | None, found: ModelDesc | None, ops: Collection[str]) -> dict[str, WouldBe]:
    """The would-be cells of an older line, which has their genotype only, with the shapes of the found architecture.

    Args:
        text: The genotype.
        found: What the search found; without it the shapes are not known, and there is no cell.
        ops: Candidates that the genotype may name besides those of the library.
    """
    if text is None or found is None:
        return {}
    try:
        genotype = Genotype.from_string(text, ops={*CELL_OPS, *ops})
    except ValueError:
        return {}
    nodes = {CellType.Regular: genotype.normal_nodes, CellType.Reduction: genotype.reduce_nodes}
    merged = {CellType.Regular: genotype.normal_concat, CellType.Reduction: genotype.reduce_concat}
    cells = {}
    for kind, pairs in nodes.items():
        alike = found.first_cell(kind)
        if alike is not None and len(pairs) == len(alike.nodes()):
            cells[kind.value] = WouldBe(
                kind=kind.value,
                nodes=tuple(tuple(Wire(op=op, input_ids=(state,)) for op, state in node) for node in pairs),
                merge=alike.post_op.name,
                merged=merged[kind],
                shapes=_shapes(alike),
                stems=_stems(alike),
            )
    return cells


def of_cell(cell: CellDesc) -> WouldBe:
    """A found cell as the would-be cell that equals it."""
    return WouldBe(
        kind=cell.cell_type.value,
        nodes=tuple(tuple(_wire(edge.op_desc, edge.input_ids) for edge in node.edges) for node in cell.nodes()),
        merge=cell.post_op.name,
        merged=concat_ids(cell),
        shapes=_shapes(cell),
        stems=_stems(cell),
    )


def changes(old: WouldBe, new: WouldBe) -> list[str]:
    """What another would-be cell of the same type reads otherwise, in words, node after node."""
    said = []
    for node in range(max(len(old.nodes), len(new.nodes))):
        before = old.nodes[node] if node < len(old.nodes) else ()
        after = new.nodes[node] if node < len(new.nodes) else ()
        gone = [wire for wire in before if wire not in after]
        come = [wire for wire in after if wire not in before]
        name = state_name(node + 2)
        for wire in sorted(come, key=lambda wire: all(other.input_ids != wire.input_ids for other in gone)):
            same = [other for other in gone if other.input_ids == wire.input_ids] or gone[:1]
            if not same:
                said.append(f"{name} also reads {wire.sources()} through {_op(wire)}")
                continue
            gone.remove(same[0])
            instead = _op(same[0])
            if same[0].input_ids != wire.input_ids:
                instead = f"{same[0].sources()} through {instead}"
            said.append(f"{name} reads {wire.sources()} through {_op(wire)} instead of {instead}")
        said += [f"{name} no longer reads {wire.sources()} through {_op(wire)}" for wire in gone]
    return said


def _shapes(cell: CellDesc) -> tuple[Shape, ...]:
    return (*cell.stem_shapes, *cell.node_shapes, cell.out_shape)


def _stems(cell: CellDesc) -> tuple[str, str]:
    return cell.stems[0].name, cell.stems[1].name


def _op(wire: Wire) -> str:
    return f"{wire.op}[{', '.join(part.op for part in wire.parts)}]" if wire.parts else wire.op


def _wire(op: OpDesc, input_ids: tuple[int, ...]) -> Wire:
    parts = zip(op.children or (), op.children_ins or (), strict=True)
    return Wire(
        op=op.name,
        input_ids=input_ids,
        parts=tuple(_wire(part, (input_ids[port],) * part.in_len) for part, port in parts),
    )


def _read_cell(kind: str, value: object) -> WouldBe | None:
    nodes, merge, merged, shapes = (member(value, name) for name in ("nodes", "merge", "merged", "shapes"))
    try:
        first, second = _list(member(value, "stems"))
        read = WouldBe(
            kind=kind,
            nodes=tuple(tuple(_read_wire(wire) for wire in _list(node)) for node in _list(nodes)),
            merge=_text(merge),
            merged=_ids(merged),
            shapes=tuple(_shape(shape) for shape in _list(shapes)),
            stems=(_text(first), _text(second)),
        )
        read.cell()
    except (ValueError, TypeError, RecursionError):
        return None
    return read


def _read_wire(value: object) -> Wire:
    op, input_ids, *parts = _list(value)
    return Wire(
        op=_text(op),
        input_ids=_ids(input_ids),
        parts=tuple(_read_wire(part) for part in _list(parts[0])) if parts else (),
    )


def _shape(value: object) -> Shape:
    channels, height, width = _ids(value)
    return channels, height, width


def _ids(value: object) -> tuple[int, ...]:
    ids = _list(value)
    if not all(type(item) is int for item in ids):
        raise ValueError(f"expected a list of integers, got {value!r}.")
    return tuple(int(str(item)) for item in ids)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {value!r}.")
    return value


def _text(value: object) -> str:
    text = words(value)
    if text is None:
        raise TypeError(f"expected a name, got {value!r}.")
    return text
