"""The compiler: from the edges of a cell to wide groups of candidates.

Edges are taken per state they read; the candidates on them per chain. Candidates with equal chains form a *group*: one
wide operation with a column for each. The layers before the first weights, the *prefix*, give the same tensor on all
edges and are computed once per state, whatever groups need them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import nn

from gradnas.ops import Op
from gradnas.supergraph.dag_edge import DagEdge
from gradnas.supergraph.fused.layers import Chain, Layer, Norm, lower
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


@dataclass(frozen=True)
class Group:
    """Candidates on edges from one state that differ in their weights alone.

    Args:
        number: Its place in the plan.
        prefix: Layers without weights, whose result all edges from the state share.
        layers: The layers after them; none for a candidate without weights.
        columns: The candidates.
        modules: For each layer, prefix first, and each column: the modules whose weights and statistics it uses.
    """

    number: int
    prefix: tuple[Layer, ...]
    layers: tuple[Layer, ...]
    columns: tuple[Column, ...]
    modules: tuple[Modules, ...]

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
        single: Candidates without a fused form.
    """

    shared: list[Group] = field(default_factory=list)
    wide: list[Group] = field(default_factory=list)
    single: list[tuple[Column, Op]] = field(default_factory=list)


@dataclass
class Plan:
    """What a pass through a cell computes, state by state.

    Args:
        fans: One for each state.
        whole: For each state, the edges that run as they are once it is there: node, edge, and row if it mixes.
    """

    fans: list[Fan]
    whole: list[list[tuple[int, DagEdge, int | None]]]

    def groups(self) -> list[Group]:
        """The groups of all fans, by number."""
        return sorted((group for fan in self.fans for group in (*fan.shared, *fan.wide)), key=lambda g: g.number)


def compile_cell(nodes: Sequence[Sequence[DagEdge]], *, batch_statistics: bool) -> Plan:
    """Plan the pass through a cell.

    Args:
        nodes: The edges of each node.
        batch_statistics: Whether norms use the statistics of the batch. Otherwise each edge has statistics of its own,
            and a norm is no layer that edges could share.
    """
    n_states = 2 + len(nodes)
    plan = Plan([Fan() for _ in range(n_states)], [[] for _ in range(n_states)])
    members: list[dict[tuple[Layer, ...], list[tuple[Column, Chain]]]] = [{} for _ in range(n_states)]
    row = 0
    for n, edges in enumerate(nodes):
        for edge in edges:
            op = edge.op
            mixes = isinstance(op, MixedOp)
            if isinstance(op, MixedOp) and op.can_fuse() and op.computed and len(edge.input_ids) == 1:
                state = edge.input_ids[0]
                for k in op.computed:
                    candidate = op.candidates[k]
                    assert isinstance(candidate, Op)
                    column, chain = Column(n, row, k), lower(candidate)
                    if chain is None:
                        plan.fans[state].single.append((column, candidate))
                    else:
                        key = tuple(step.layer.framed() for step in chain)
                        members[state].setdefault(key, []).append((column, chain))
            else:
                plan.whole[max(edge.input_ids)].append((n, edge, row if mixes else None))
            row += mixes
    number = 0
    for fan, chains in zip(plan.fans, members, strict=True):
        for equal in chains.values():
            # The largest kernel is the frame of all; small ones come first, each size in one piece.
            equal.sort(key=lambda member: [step.layer.side for step in member[1]])
            positions = zip(*([step.layer for step in chain] for _, chain in equal), strict=True)
            layers = tuple(max(layers, key=lambda layer: layer.side) for layers in positions)
            own = _first_own(layers, batch_statistics)
            modules = tuple(tuple(chain[i].modules for _, chain in equal) for i in range(len(layers)))
            group = Group(number, layers[:own], layers[own:], tuple(column for column, _ in equal), modules)
            (fan.wide if group.layers else fan.shared).append(group)
            number += 1
    return plan


def _first_own(layers: tuple[Layer, ...], batch_statistics: bool) -> int:
    """Position of the first layer that differs from edge to edge."""
    for i, layer in enumerate(layers):
        if isinstance(layer, Norm):
            if layer.affine or not batch_statistics:
                return i
        elif layer.own:
            return i
    return len(layers)
