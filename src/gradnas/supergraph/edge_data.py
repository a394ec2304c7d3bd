"""Edges and nodes of a supergraph as NASLib's callbacks see them: where they are, and data under names.

Data is private, own to one copy of a cell, or shared, one for all cells of a type. Three keys of an edge are the
network itself and not notes about it: ``op`` (private), ``alpha`` and ``rule`` (shared).

Deviation: there is no flag ``deleted``. What an edge computes and which edges a cell has come from the description; to
leave an edge out, build another one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.nn import Parameter

from gradnas.arch import CellType
from gradnas.foundation.names import did_you_mean
from gradnas.ops import ArchParams, Op
from gradnas.supergraph.cell import Cell
from gradnas.supergraph.dag_edge import DagEdge
from gradnas.supergraph.mixed_op import MixedOp
from gradnas.supergraph.mixing import MixingRule, Softmax

Scope = str | Sequence[str] | None
"""Tags of cells: ``normal``, ``reduction``, ``stage-1``, …, or ``all``; several mean their union, None means all."""

Notes = dict[tuple[str, int, int, int], dict[str, Any]]
"""Values under names, for (``private`` or ``shared``, cell or first cell of the type, node, edge or -1)."""

ALL = "all"
_TYPES = {CellType.Regular: "normal", CellType.Reduction: "reduction"}
_FINALIZED = "finalized"
_RESERVED = ("has", "set", "finalize", _FINALIZED)  # attributes of the data itself


@dataclass(frozen=True)
class LiveKey:
    """A key behind which is a part of the network.

    Args:
        shared: Whether it is one for all cells of the type.
        read: Gives the value; None where the edge has none.
        write: Puts another one into the network.
    """

    shared: bool
    read: Callable[[], Any]
    write: Callable[[Any], None]


class EdgeData:
    """What an edge, or a node, holds: ``data.key`` reads, :meth:`set` writes.

    Args:
        private: Values of this copy alone.
        shared: Values of all cells of the type.
        live: The keys that are parts of the network; a node has none.
    """

    _private: dict[str, Any]
    _shared: dict[str, Any]
    _live: Mapping[str, LiveKey]

    def __init__(self, private: dict[str, Any], shared: dict[str, Any], live: Mapping[str, LiveKey]) -> None:
        vars(self).update(_private=private, _shared=shared, _live=live)

    def __getattr__(self, key: str) -> Any:
        if not key.startswith("_"):  # Python itself looks for special names
            if key in self._live and (value := self._live[key].read()) is not None:
                return value
            for part in (self._private, self._shared):
                if key in part:
                    return part[key]
        raise AttributeError(f"no data {key!r} here. {did_you_mean(key, self.keys())}")

    def __setattr__(self, key: str, value: object) -> None:
        raise AttributeError(f"write data.set({key!r}, …, shared=…), which says for whom it is.")

    def keys(self) -> list[str]:
        """The keys that can be read, those of the network first."""
        live = [key for key, part in self._live.items() if part.read() is not None]
        return [*live, *(key for key in self._private if key != _FINALIZED), *self._shared]

    def has(self, key: str) -> bool:
        """Whether the key can be read."""
        return key in self.keys()

    def set(self, key: str, value: Any, shared: bool = False) -> None:
        """Write a value, of this copy alone or, with ``shared``, of all cells of the type.

        An edge takes as ``op`` an operation without a choice; as ``alpha`` a parameter with one number per candidate,
        which the model owns from then on and the op mixes by, by the softmax unless its rule learns the same; as
        ``rule`` what turns it into mixing weights, the same for all edges of a cell type. All else are notes: torch
        neither moves nor saves them.

        Raises:
            RuntimeError: When this copy was finalized.
            ValueError: For a key that is private and would become shared or the reverse, or that cannot be one.
            TypeError: For a value of the network that is of another kind.
        """
        if self.finalized:
            raise RuntimeError(f"{key!r} cannot be set: this copy of the edge or node was finalized.")
        if key in _RESERVED or key == "keys" or not key.isidentifier() or key.startswith("_"):
            raise ValueError(f"{key!r} cannot be a key; take a name, other than {', '.join(_RESERVED)} and keys.")
        if key in self._live:
            if shared != self._live[key].shared:
                kind, argument = ("shared", "True") if self._live[key].shared else ("private", "False")
                raise ValueError(f"{key!r} is always {kind}; write set({key!r}, …, shared={argument}).")
            self._live[key].write(value)
            return
        here, there = (self._shared, self._private) if shared else (self._private, self._shared)
        if key in there:
            raise ValueError(f"{key!r} is {'private' if shared else 'shared'} already; take another name.")
        here[key] = value

    @property
    def finalized(self) -> bool:
        """Whether this copy can no longer be set and is left out by updates."""
        return bool(self._private.get(_FINALIZED, False))

    def finalize(self) -> None:
        """Let this copy be as it is. Other copies of the cell, and what is shared with them, can still be set."""
        self._private[_FINALIZED] = True


@dataclass(frozen=True)
class GraphEdge:
    """An edge in one copy of a cell.

    Args:
        cell: Index of the cell.
        heads: States that it reads, usually one: 0 and 1 are the inputs of the cell, nodes count from 2.
        tail: The node that it leads to.
        data: What it holds.
    """

    cell: int
    heads: tuple[int, ...]
    tail: int
    data: EdgeData

    @property
    def head(self) -> int:
        """The state that it reads. ValueError for an edge that reads several."""
        if len(self.heads) != 1:
            raise ValueError(f"the edge reads the states {self.heads}; ask for its heads.")
        return self.heads[0]

    def __str__(self) -> str:
        return f"cells[{self.cell}] {', '.join(map(str, self.heads))} -> {self.tail}"


@dataclass(frozen=True)
class GraphNode:
    """A node in one copy of a cell.

    Args:
        cell: Index of the cell.
        id: Its state; the first node is 2.
        incoming: The edges that it sums.
        outgoing: The edges that read it.
        data: What it holds.
    """

    cell: int
    id: int
    incoming: tuple[GraphEdge, ...]
    outgoing: tuple[GraphEdge, ...]
    data: EdgeData


def known_scopes(cells: Sequence[Cell]) -> list[str]:
    """What a scope may be: ``all``, the types there are, the stages there are.

    A reduction cell begins the next stage, so the outputs of all cells of a stage have one size.
    """
    tags = list(dict.fromkeys(tag for pair in _tags(cells) for tag in pair))
    return [ALL, *(tag for tag in tags if tag in _TYPES.values()), *(tag for tag in tags if tag not in _TYPES.values())]


def in_scope(cells: Sequence[Cell], scope: Scope) -> list[Cell]:
    """The cells that have one of the tags. ValueError for an unknown tag, or none at all."""
    wanted = [ALL] if scope is None else [scope] if isinstance(scope, str) else list(scope)
    known = known_scopes(cells)
    for tag in wanted or [""]:
        if tag not in known:
            raise ValueError(f"unknown scope {tag if wanted else scope!r}. {did_you_mean(str(tag), known)}")
    return [cell for cell, tags in zip(cells, _tags(cells), strict=True) if {ALL, *tags} & set(wanted)]


def _tags(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    tags, stage = [], 1
    for cell in cells:
        stage += cell.desc.cell_type is CellType.Reduction
        tags.append((_TYPES[cell.desc.cell_type], f"stage-{stage}"))
    return tags


def graph_edges(cells: Sequence[Cell], notes: Notes, scope: Scope, private: bool) -> Iterator[GraphEdge]:
    """The edges in scope that are not finalized: of all copies of a cell, or each of a type once."""
    known: set[tuple[int, int, int]] = set()
    for cell in in_scope(cells, scope):
        for n, node in enumerate(cell.node_edges()):
            for e in range(len(node)):
                edge = _edge(cells, notes, cell, n, e)
                place = (cell.desc.id if private else cell.desc.trainables_from, n, e)
                if place not in known and not edge.data.finalized:
                    known.add(place)
                    yield edge


def graph_nodes(cells: Sequence[Cell], notes: Notes, scope: Scope, private: bool) -> Iterator[GraphNode]:
    """The nodes, likewise."""
    known: set[tuple[int, int]] = set()
    for cell in in_scope(cells, scope):
        nodes = cell.node_edges()
        edges = [[_edge(cells, notes, cell, n, e) for e in range(len(node))] for n, node in enumerate(nodes)]
        for n, incoming in enumerate(edges):
            outgoing = tuple(edge for node in edges for edge in node if n + 2 in edge.heads)
            data = EdgeData(*_parts(notes, cell, n, -1), {})
            place = (cell.desc.id if private else cell.desc.trainables_from, n)
            if place not in known and not data.finalized:
                known.add(place)
                yield GraphNode(cell.desc.id, n + 2, tuple(incoming), outgoing, data)


def _parts(notes: Notes, cell: Cell, n: int, e: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        notes.setdefault(("private", cell.desc.id, n, e), {}),
        notes.setdefault(("shared", cell.desc.trainables_from, n, e), {}),
    )


def _edge(cells: Sequence[Cell], notes: Notes, cell: Cell, n: int, e: int) -> GraphEdge:
    edge = cell.node_edges()[n][e]
    assert isinstance(edge, DagEdge)
    network = _Network(cells, cell, n, e, edge)
    live = {
        "op": LiveKey(False, lambda: edge.op, network.put_op),
        "alpha": LiveKey(True, network.alpha, network.put_alpha),
        "rule": LiveKey(True, network.rule, network.put_rule),
    }
    return GraphEdge(cell.desc.id, edge.input_ids, n + 2, EdgeData(*_parts(notes, cell, n, e), live))


@dataclass(frozen=True)
class _Network:
    """An edge and its counterparts in the other cells of the type."""

    cells: Sequence[Cell]
    cell: Cell
    n: int
    e: int
    edge: DagEdge

    def mixed_ops(self) -> list[MixedOp]:
        """Those of all copies, that of the first cell of the type first: it owns what is learnt."""
        ops = []
        for cell in self.cells:
            nodes = cell.node_edges()
            if cell.desc.trainables_from == self.cell.desc.trainables_from and self.n < len(nodes):
                edges = nodes[self.n][self.e : self.e + 1]
                ops += [edge.op for edge in edges if isinstance(edge, DagEdge)]
        return [op for op in ops if isinstance(op, MixedOp)]

    def put_op(self, op: Any) -> None:
        if isinstance(op, MixedOp) or not isinstance(op, Op):
            raise TypeError(
                f"'op' must be an operation without a choice (an Op), got {type(op).__name__}. Candidates come from "
                "the description; change how they are mixed by 'alpha' and 'rule'."
            )
        self.edge.op = op

    def rule(self) -> MixingRule | None:
        return self.edge.op.rule if isinstance(self.edge.op, MixedOp) else None

    def alpha(self) -> Parameter | None:
        value = self.edge.op.arch_params().get("alphas")
        return value if isinstance(value, Parameter) else None

    def put_alpha(self, alpha: Any) -> None:
        op = self._choice("alpha")
        rule = op.rule if op.rule.entries == ("alphas",) else Softmax()
        shape = rule.shape("alphas", len(op.names))
        if not isinstance(alpha, Parameter):
            raise TypeError(f"'alpha' must be a Parameter of shape {shape}, got {type(alpha).__name__}.")
        if tuple(alpha.shape) != shape:
            raise ValueError(
                f"'alpha' must have shape {shape}, one number for each of {list(op.names)}, got {tuple(alpha.shape)}."
            )
        self._mix(rule, alpha)

    def put_rule(self, rule: Any) -> None:
        self._choice("rule")
        if not isinstance(rule, MixingRule):
            raise TypeError(f"'rule' must be a MixingRule, got {type(rule).__name__}.")
        self._mix(rule, self.alpha() if rule.entries == ("alphas",) else None)

    def _choice(self, key: str) -> MixedOp:
        if not isinstance(self.edge.op, MixedOp):
            raise ValueError(
                f"{key!r} cannot be set: the edge has no candidates to choose from, but {type(self.edge.op).__name__}."
            )
        return self.edge.op

    def _mix(self, rule: MixingRule, alpha: Parameter | None) -> None:
        """Use a rule in all copies, with these alphas or, for None, with parameters of its own."""
        owner, *others = self.mixed_ops()
        if alpha is None:
            owner.use_rule(rule)
        else:
            owner.use_rule(rule, ArchParams([("alphas", alpha)]))
            owner.release_arch_params()
            owner.create_arch_params([("alphas", alpha)])
        for op in others:
            op.use_rule(rule, owner.arch_params())
