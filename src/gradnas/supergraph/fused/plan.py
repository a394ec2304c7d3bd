"""The compiler: from the edges of a cell to wide groups of candidates.

Edges are taken per state they read; the candidates on them per chain. Candidates with equal chains form a *group*: one
wide operation with a column for each. The layers before the first weights, the *prefix*, give the same tensor on all
edges and are computed once per state, whatever groups need them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from torch import nn

from gradnas.ops import Op
from gradnas.supergraph.dag_edge import DagEdge
from gradnas.supergraph.fused.layers import Chain, Layer, Norm, has_compiled_form, lower
from gradnas.supergraph.mixed_op import MixedOp

Modules = tuple[tuple[nn.Module, ...], ...]
"""For each column of a layer, the modules whose weights and statistics it uses."""


@dataclass(frozen=True)
class Column:
    """One candidate of one edge.

    Args:
        node: The node that the edge leads to.
        row: The edge's row in the table of mixing weights.
        candidate: The column of that table.
    """

    node: int
    row: int
    candidate: int


@dataclass
class Group:
    """Candidates on edges from one state that differ in their weights alone.

    Args:
        prefix: Layers without weights, whose result all edges from the state share.
        layers: The layers after them; none for a candidate without weights.
        columns: The candidates.
        modules: For each layer, prefix first, and each column: the modules whose weights and statistics it uses.
    """

    prefix: tuple[Layer, ...]
    layers: tuple[Layer, ...]
    columns: tuple[Column, ...]
    modules: tuple[Modules, ...]
    number: int = 0
    """Its place in the plan."""

    @property
    def nodes(self) -> tuple[int, ...]:
        """The node of each column."""
        return tuple(column.node for column in self.columns)

    def steps(self) -> Iterator[tuple[Layer, Modules]]:
        """All layers, each with the modules of each column."""
        return zip((*self.prefix, *self.layers), self.modules, strict=True)


@dataclass
class Fan:
    """All that reads one state alone.

    Args:
        shared: Groups without weights of their own, such as pools and skips.
        wide: Groups with.
        compiled: Groups that run as one compiled operation.
        single: Candidates without a fused form.
    """

    shared: list[Group] = field(default_factory=list)
    wide: list[Group] = field(default_factory=list)
    compiled: list[Group] = field(default_factory=list)
    single: list[tuple[Column, Op]] = field(default_factory=list)

    @property
    def places(self) -> list[int]:
        """The nodes that compiled groups lead to."""
        return sorted({node for group in self.compiled for node in group.nodes})


@dataclass
class Plan:
    """What a pass through a cell computes, state by state.

    Args:
        fans: One for each state.
        whole: For each state, the edges that run as they are once it is there: node, edge, and row if it mixes.
        partial: Of how many equal parts of the channels the fans see the first.
        passing: For each state and stride, node and row of the edges by which the other parts pass.
    """

    fans: list[Fan]
    whole: list[list[tuple[int, DagEdge, int | None]]]
    partial: int = 1
    passing: list[dict[int, list[tuple[int, int]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.passing = self.passing or [{} for _ in self.fans]

    def groups(self) -> list[Group]:
        """The groups of all fans."""
        return [group for fan in self.fans for group in (*fan.shared, *fan.wide, *fan.compiled)]

    def number(self) -> None:
        """Give each group its number."""
        for i, group in enumerate(self.groups()):
            group.number = i


def compile_cell(
    nodes: Sequence[Sequence[DagEdge]], *, batch_statistics: bool, widest: int | None = None, compiled: bool = False
) -> Plan:
    """Plan the pass through a cell.

    Args:
        nodes: The edges of each node.
        batch_statistics: Whether norms use the statistics of the batch. Otherwise each edge has statistics of its own,
            and a norm is no layer that edges could share.
        widest: Most columns of a group with weights of its own; None sets no limit.
        compiled: Whether there are compiled operations.
    """
    states = range(2 + len(nodes))
    partial = parts_seen([edge.op for edges in nodes for edge in edges])
    plan = Plan([Fan() for _ in states], [[] for _ in states], partial)
    members: list[dict[tuple[Layer, ...], list[Member]]] = [{} for _ in states]
    row = 0
    for n, edges in enumerate(nodes):
        for edge in edges:
            op = edge.op
            mixes = isinstance(op, MixedOp)
            alone = len(edge.input_ids) == 1 and edge.drop_path is None
            if isinstance(op, MixedOp) and op.can_fuse() and op.computed and alone and op.partial == partial:
                state = edge.input_ids[0]
                if partial > 1:
                    plan.passing[state].setdefault(op.desc.stride, []).append((n, row))
                for k in op.computed:
                    candidate = op.candidates[k]
                    assert isinstance(candidate, Op)
                    column, chain = Column(n, row, k), lower(candidate, compiled=compiled)
                    if chain is None:
                        plan.fans[state].single.append((column, candidate))
                    else:
                        key = tuple(step.layer.framed() for step in chain)
                        members[state].setdefault(key, []).append((column, chain))
            else:
                plan.whole[max(edge.input_ids)].append((n, edge, row if mixes else None))
            row += mixes
    for fan, chains in zip(plan.fans, members, strict=True):
        for equal in chains.values():
            # Small kernels first, each size in one piece: the largest one is the frame of all.
            equal.sort(key=lambda member: [step.layer.side for step in member[1]])
            own = _first_own(tuple(step.layer for step in equal[0][1]), batch_statistics)
            layers = [step.layer for step in equal[0][1]]
            if compiled and has_compiled_form(layers):
                fan.compiled.append(_group(equal, own))
            elif own == len(layers):
                fan.shared.append(_group(equal, own))
            else:
                fan.wide += [_group(piece, own) for piece in _pieces(equal, widest)]
    plan.number()
    return plan


def parts_seen(ops: Iterable[Op]) -> int:
    """Of how many parts of the channels the candidates of a cell see one; edges unlike the first one run whole."""
    return next((op.partial for op in ops if isinstance(op, MixedOp)), 1)


Member = tuple[Column, Chain]


def _group(members: Sequence[Member], own: int) -> Group:
    """The group of these candidates; the layers from position ``own`` on have weights."""
    positions = list(zip(*(chain for _, chain in members), strict=True))
    layers = tuple(max((step.layer for step in steps), key=lambda layer: layer.side) for steps in positions)
    modules = tuple(tuple(step.modules for step in steps) for steps in positions)
    return Group(layers[:own], layers[own:], tuple(column for column, _ in members), modules)


def _pieces(members: Sequence[Member], widest: int | None) -> list[Sequence[Member]]:
    """As few pieces of at most so many members as possible, of about one size."""
    count = 1 if widest is None else -(-len(members) // widest)
    cuts = [round(i * len(members) / count) for i in range(count + 1)]
    return [members[first:last] for first, last in pairwise(cuts)]


def _first_own(layers: tuple[Layer, ...], batch_statistics: bool) -> int:
    """Position of the first layer that differs from edge to edge."""
    for i, layer in enumerate(layers):
        if isinstance(layer, Norm):
            if layer.affine or not batch_statistics:
                return i
        elif layer.own:
            return i
    return len(layers)
