"""A cell: two stems, nodes that sum their edges, and a merge."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from gradnas.arch import CellDesc
from gradnas.ops import OPS, ArchModule, Op, OpRegistry
from gradnas.supergraph.dag_edge import DagEdge
from gradnas.supergraph.fused import FusedNodes
from gradnas.supergraph.mixed_op import MixedOp
from gradnas.supergraph.partial import with_passing


class Cell(ArchModule):
    """One cell of a model.

    Args:
        desc: Its description.
        affine: Whether batch norms have weights.
        droppath: Whether edges pass through drop path.
        trainables_from: The first cell of the type, already built, whose architecture parameters are used; None for
            that cell itself.
        registry: Where op names are looked up.
        fused: Whether its nodes are computed by the fast execution (see :class:`Model`).

    Raises:
        ValueError: When ``trainables_from`` lacks a choice of this cell or has one more, when edges differ in the
            number of candidates, or when an op refuses its description; the message names the place.
        KeyError: For an op that the registry does not know, naming the place.
    """

    def __init__(
        self,
        desc: CellDesc,
        affine: bool,
        droppath: bool,
        trainables_from: "Cell | None",
        *,
        registry: OpRegistry = OPS,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.desc = desc
        self.stems = nn.ModuleList()
        for i, stem in enumerate(desc.stems):
            with _named(f"cells[{desc.id}].stems[{i}]"):
                self.stems.append(Op.create(stem, affine, registry=registry))
        self.nodes = nn.ModuleList()
        for n, node in enumerate(desc.nodes()):
            edges = nn.ModuleList()
            for e, edge in enumerate(node.edges):
                template = None if trainables_from is None else _counterpart(trainables_from, n, e)
                with _named(f"cells[{desc.id}].nodes[{n}].edges[{e}]"):
                    edges.append(DagEdge(edge, affine, droppath, template, registry=registry))
                if trainables_from is not None:
                    _check_shared(edges[-1], template, f"cells[{desc.id}].nodes[{n}].edges[{e}]", trainables_from)
            self.nodes.append(edges)
        with _named(f"cells[{desc.id}].post_op"):
            self.post_op = Op.create(desc.post_op, affine, registry=registry)
        self._check_candidates(trainables_from)
        self._fused = FusedNodes(self.nodes) if fused else None

    def _check_candidates(self, owner: "Cell | None") -> None:
        if owner is not None and len(self.mixed_ops()) != len(owner.mixed_ops()):
            raise ValueError(
                f"cells[{self.desc.id}] has {len(self.mixed_ops())} edges that hold a choice, but "
                f"cells[{owner.desc.id}], whose architecture parameters it uses, has {len(owner.mixed_ops())}. "
                "Cells of one type need the same edges."
            )
        lengths = {len(op.names) for op in self.mixed_ops()}
        if len(lengths) > 1:
            raise ValueError(
                f"cells[{self.desc.id}] has edges with {sorted(lengths)} candidates; all edges of a cell need the same "
                "number, because a mixing rule acts on one table of shape (edges, candidates)."
            )

    def node_edges(self) -> list[nn.ModuleList]:
        """The edges of each node."""
        return [node for node in self.nodes if isinstance(node, nn.ModuleList)]

    def edges(self) -> list[DagEdge]:
        """All edges in (node, edge) order."""
        return [edge for node in self.node_edges() for edge in node if isinstance(edge, DagEdge)]

    def mixed_ops(self) -> list[MixedOp]:
        """The ops that hold a choice, in (node, edge) order: the rows of the cell's mixing table."""
        return [edge.op for edge in self.edges() if isinstance(edge.op, MixedOp)]

    def alphas(self) -> Tensor | None:
        """The table of architecture parameters that the rule acts on, shape (E, N); None without a choice."""
        ops = self.mixed_ops()
        return ops[0].rule.table([op.arch_params() for op in ops]) if ops else None

    def mixing_weights(self) -> Tensor | None:
        """The rule applied to :meth:`alphas`, in the network's precision; None without a choice.

        What the rule draws at random is left out in evaluation mode. Where candidates see a part of the channels, a
        last column has the weights of what passes by.

        Returns:
            Shape (E, N), or (E, N + 1).
        """
        alphas = self.alphas()
        if alphas is None:
            return None
        rule = self.mixed_ops()[0].rule
        return self.complete(rule.weights(alphas) if self.training else rule.evaluation_weights(alphas))

    def probabilities(self) -> Tensor | None:
        """How strong each candidate of each edge is, without randomness, shape (E, N); None without a choice."""
        alphas = self.alphas()
        if alphas is None:
            return None
        factors, strengths = self.edge_factors(), self.mixed_ops()[0].rule.probabilities(alphas)
        return strengths if factors is None else strengths * factors.unsqueeze(1)

    def edge_factors(self) -> Tensor | None:
        """What multiplies each row of the rule's weights, shape (E,); None where the rule has no such factors."""
        ops = self.mixed_ops()
        return ops[0].rule.edge_weights([op.arch_params() for op in ops], self.ends())

    def complete(self, weights_EN: Tensor) -> Tensor:
        """Mixing weights as :meth:`forward` takes them, from those of the candidates of each edge by itself."""
        factors = self.edge_factors()
        table = weights_EN if factors is None else weights_EN * factors.unsqueeze(1)
        table = table if self._row_length() == table.shape[1] else with_passing(table, factors)
        return table.to(next(self.parameters(), table).dtype)

    def ends(self) -> list[int]:
        """The node that each edge with a choice leads to, one entry per row of the mixing table."""
        return [n for n, node in enumerate(self.node_edges()) for edge in node if isinstance(edge.op, MixedOp)]

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor | None = None) -> Tensor:
        """Run the cell.

        Args:
            s0: Output of the cell before the previous one, (B, C, H, W).
            s1: Output of the previous cell.
            weights: Mixing weights, shape (E, N), as the model computed them once for all cells of the type, or
                (E, B, N) with one row per example; None computes them here.

        Raises:
            ValueError: For mixing weights of another shape.
        """
        if weights is None:
            weights = self.mixing_weights()
        else:
            self._check_weights(weights, len(s0))
        s0, s1 = self.stems[0](s0), self.stems[1](s1)
        states = None
        if self._fused is not None:
            given = None if weights is None else weights.to(next(self.parameters(), weights).dtype)
            states = self._fused(s0, s1, given)
        if states is None:
            states = self._plain([s0, s1], weights)
        merged: Tensor = self.post_op(states)
        return merged

    def _check_weights(self, weights: Tensor, examples: int) -> None:
        ops = self.mixed_ops()
        candidates, length = len(ops[0].names) if ops else 0, self._row_length()
        if tuple(weights.shape) not in ((len(ops), length), (len(ops), examples, length)):
            raise ValueError(
                f"cells[{self.desc.id}] has {len(ops)} edges that hold a choice, each of {candidates} candidates, got "
                f"mixing weights of shape {tuple(weights.shape)}. Pass one row per edge, {(len(ops), length)}, or "
                f"one per edge and example, {(len(ops), examples, length)}."
            )

    def _row_length(self) -> int:
        return max((op.row_length for op in self.mixed_ops()), default=0)

    def _plain(self, states: list[Tensor], weights: Tensor | None) -> list[Tensor]:
        """All states from the first two, edge by edge: the definition."""
        rows = iter(() if weights is None else weights.unbind(0))
        for node in self.node_edges():
            total: Tensor | None = None
            for edge in node:
                out = edge(states, next(rows) if isinstance(edge.op, MixedOp) else None)
                total = out if total is None else total + out
            states.append(states[-1].clone() if total is None else total)
        return states


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Say in the message of an error which part of the model it is about."""
    try:
        yield
    except KeyError as error:
        raise KeyError(f"{place}: {error.args[0]}") from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _check_shared(edge: nn.Module, template: DagEdge | None, place: str, owner: Cell) -> None:
    """Refuse architecture parameters of its own in a cell that should use those of the first cell of the type."""
    assert isinstance(edge, DagEdge)
    if not edge.op.arch_params():
        return  # nothing to take: a discrete network
    if template is None or not template.op.arch_params():
        raise ValueError(
            f"{place} has no counterpart in cells[{owner.desc.id}], from which it should take its architecture "
            "parameters."
        )
    if isinstance(edge.op, MixedOp) and isinstance(template.op, MixedOp) and edge.op.names != template.op.names:
        raise ValueError(
            f"{place} has the candidates {list(edge.op.names)}, but its counterpart in cells[{owner.desc.id}] has "
            f"{list(template.op.names)}. Cells of one type need the same candidates in the same order."
        )


def _counterpart(owner: Cell, n: int, e: int) -> DagEdge | None:
    if n >= len(owner.nodes) or e >= len(owner.nodes[n]):  # type: ignore[arg-type]  # a ModuleList
        return None
    edge = owner.nodes[n][e]  # type: ignore[index]  # a ModuleList
    assert isinstance(edge, DagEdge)
    return edge
