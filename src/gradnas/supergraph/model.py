"""A network compiled from a description: the supergraph of a search, or a discrete network."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from gradnas.arch import ModelDesc
from gradnas.ops import OPS, ArchModule, AuxTower, DropPath_, Op, OpRegistry
from gradnas.ops.drop_path import check_drop_probability
from gradnas.supergraph.cell import Cell
from gradnas.supergraph.edge_data import GraphEdge, GraphNode, Notes, Scope, graph_edges, graph_nodes, known_scopes
from gradnas.supergraph.mixed_op import MixedOp
from gradnas.supergraph.mixing import MixingRule


class Model(ArchModule):
    """The network of a description, executed edge by edge (the readable reference) or fused.

    Args:
        desc: What to build; never modified. Weights it holds are loaded.
        droppath: Whether edges of a discrete network pass through drop path (see :meth:`drop_path_prob`).
        affine: Whether batch norms inside cells have weights: no while searching, yes otherwise. Those of the model
            stems always have.
        fused: Whether cells are computed by the fast execution, see ``fused/execution.py``: the same function, with
            less time and memory. Weights, statistics and their names are the same. Modules inside mixed ops are not
            called, so hooks on them do not run; ``torch.func`` cannot transform it. A cell in which some norms train
            and others do not runs edge by edge.
        registry: Where op names are looked up; a space with ops of its own passes its registry.

    Raises:
        ValueError: When the description contradicts an op, naming the place.
        KeyError: For an op that the registry does not know.
    """

    def __init__(
        self,
        desc: ModelDesc,
        droppath: bool = False,
        affine: bool = True,
        fused: bool = False,
        *,
        registry: OpRegistry = OPS,
    ) -> None:
        super().__init__()
        self.desc, self.fused = desc, fused
        self._notes: Notes = {}
        first, second = desc.model_stems
        self.stems_equal = bool(second.params.get("shared")) and first.name == second.name
        self.stems_chained = bool(second.params.get("shared")) and not self.stems_equal
        stems = [first] if self.stems_equal else [first, second]
        self.model_stems = nn.ModuleList(Op.create(stem, affine, registry=registry) for stem in stems)
        self.cells = nn.ModuleList()
        for cell in desc.cell_descs:
            owner = None if cell.trainables_from == cell.id else self.cells[cell.trainables_from]
            assert owner is None or isinstance(owner, Cell)
            self.cells.append(Cell(cell, affine, droppath, owner, registry=registry, fused=fused))
        self.aux_towers = nn.ModuleDict(
            {str(i): AuxTower(tower) for i, tower in enumerate(desc.aux_tower_descs) if tower is not None}
        )
        self.pool_op = Op.create(desc.pool_op, affine, registry=registry)
        self.logits_op = Op.create(desc.logits_op, affine, registry=registry)

    def forward(self, x: Tensor, mixing: Sequence[Tensor | None] | None = None) -> tuple[Tensor, Tensor | None]:
        """Classify images.

        Args:
            x: Images of shape (B, C, H, W), as the description says.
            mixing: Mixing weights of each cell, shape (E, N), or (E, B, N) with one row per example, None for a cell
                without a choice; by default what the rule makes of the architecture parameters. Rows have one entry
                more where candidates see a part of the channels (:meth:`Cell.mixing_weights`).

        Returns:
            Logits (B, n_classes), and those of the auxiliary tower in training mode, None otherwise.

        Raises:
            ValueError: For another number of channels, another image size, or mixing weights that do not fit.
        """
        if mixing is None:
            mixing = self.mixing_weights()
        elif len(mixing) != len(self.cells):
            raise ValueError(f"expected mixing weights for {len(self.cells)} cells, one entry each, got {len(mixing)}.")
        expected = self.desc.conf_model_desc.dataset.image_shape
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"the network takes images of shape (batch, {', '.join(map(str, expected))}), got {tuple(x.shape)}. "
                "Build it for this size: image_size and in_channels of the space."
            )
        if self.fused:
            x = x.contiguous(memory_format=torch.channels_last)
        s0: Tensor = self.model_stems[0](x)
        s1 = s0 if self.stems_equal else self.model_stems[1](s0 if self.stems_chained else x)
        aux_logits: Tensor | None = None
        with self.only_weighted(mixing) if any(rule.sparse for rule in self._rules()) else nullcontext():
            for i, (cell, weights) in enumerate(zip(self.typed_cells(), mixing, strict=True)):
                s0, s1 = s1, cell(s0, s1, weights)
                if self.training and str(i) in self.aux_towers:
                    aux_logits = self.aux_towers[str(i)](s1)
        logits: Tensor = self.logits_op(self.pool_op(s1))
        return logits, aux_logits

    def mixing_weights(self) -> list[Tensor | None]:
        """Mixing weights of each cell, shape (E, N), evaluated once per cell type; None for a cell without a choice."""
        for rule in self._rules():
            rule.begin_pass()
        of_type = {cell.desc.id: cell.mixing_weights() for cell in self.owner_cells()}
        return [of_type[cell.desc.trainables_from] for cell in self.typed_cells()]

    def probabilities(self) -> list[Tensor | None]:
        """Mixing weights of each cell without randomness: each candidate with its probability under the rule."""
        of_type: dict[int, Tensor | None] = {}
        for cell in self.owner_cells():
            alphas = cell.alphas()
            rows = None if alphas is None else cell.mixed_ops()[0].rule.probabilities(alphas)
            of_type[cell.desc.id] = None if rows is None else cell.complete(rows)
        return [of_type[cell.desc.trainables_from] for cell in self.typed_cells()]

    @contextmanager
    def only_weighted(self, mixing: Sequence[Tensor | None]) -> Iterator[None]:
        """Call no candidate whose weight in these tables is 0; all of a cell whose table has a row per example.

        Reads once from the device.

        Args:
            mixing: Mixing weights of each cell, as :meth:`forward` takes them.
        """
        tables = {id(table): table for table in mixing if table is not None and table.dim() == 2}
        wanted: dict[int, list[list[bool]]] = {}
        if tables:
            flags = torch.cat([table.detach().ne(0).flatten() for table in tables.values()]).cpu()
            pieces = flags.split([table.numel() for table in tables.values()])
            wanted = {key: piece.view(tables[key].shape).tolist() for key, piece in zip(tables, pieces, strict=True)}
        before = [(op, op.computed) for op in self.mixed_ops()]
        try:
            for cell, table in zip(self.typed_cells(), mixing, strict=True):
                if id(table) in wanted:
                    for op, row in zip(cell.mixed_ops(), wanted[id(table)], strict=True):
                        op.compute_only(row[: len(op.names)])
            yield
        finally:
            for op, computed in before:
                op.computed = computed

    def _rules(self) -> list[MixingRule]:
        """The rules of the cell types that have a choice, each once."""
        choices = (owner.mixed_ops() for owner in self.owner_cells())
        return list({id(ops[0].rule): ops[0].rule for ops in choices if ops}.values())

    def typed_cells(self) -> list[Cell]:
        """The cells in order."""
        return [cell for cell in self.cells if isinstance(cell, Cell)]

    def owner_cells(self) -> list[Cell]:
        """The first cell of each type: it owns the architecture parameters of all cells of the type."""
        return [cell for cell in self.typed_cells() if cell.desc.trainables_from == cell.desc.id]

    def ops(self) -> Iterator[Op]:
        """All edge ops in (cell, node, edge) order."""
        return (edge.op for cell in self.typed_cells() for edge in cell.edges())

    def mixed_ops(self) -> Iterator[MixedOp]:
        """The edge ops that hold a choice, in the same order."""
        return (op for op in self.ops() if isinstance(op, MixedOp))

    def weights(self) -> Iterator[Parameter]:
        """The operation weights: every parameter that is not an architecture parameter."""
        return self.nonarch_params(recurse=True)

    def set_mixing_rule(self, rule: MixingRule, *, afresh: bool = False) -> None:
        """Make every mixed op use this rule; each type's first cell owns what it learns, the others share it.

        Args:
            rule: The rule. Architecture parameters that are not those it learns are replaced by fresh ones.
            afresh: Replace them in any case.
        """
        for cell in self.typed_cells():
            owner = self.cells[cell.desc.trainables_from]
            assert isinstance(owner, Cell)
            for op, owned in zip(cell.mixed_ops(), owner.mixed_ops(), strict=True):
                op.use_rule(rule, None if cell is owner else owned.arch_params(), afresh=afresh)

    def scopes(self) -> list[str]:
        """What limits an update to some cells: ``all``, ``normal``, ``reduction``, ``stage-1``, …, those there are.

        A reduction cell begins the next stage, so the outputs of all cells of a stage have one size.
        """
        return known_scopes(self.typed_cells())

    def update_edges(
        self, update_func: Callable[[GraphEdge], object], scope: Scope = None, private_edge_data: bool = False
    ) -> int:
        """Call a function for edges, cell by cell; see :class:`gradnas.supergraph.edge_data.EdgeData`.

        Args:
            update_func: Gets the edge. What it returns is not used.
            scope: One or several of :meth:`scopes`; None means all.
            private_edge_data: For each copy of an edge; otherwise once for each edge of a cell type, with the first
                copy that is in scope and not finalized.

        Returns:
            How often it was called.

        Raises:
            ValueError: For an unknown scope.
        """
        calls = 0
        for edge in graph_edges(self.typed_cells(), self._notes, scope, private_edge_data):
            update_func(edge)
            calls += 1
        return calls

    def update_nodes(
        self, update_func: Callable[[GraphNode], object], scope: Scope = None, private_edge_data: bool = False
    ) -> int:
        """The same for nodes: not the inputs of a cell, which it does not compute."""
        calls = 0
        for node in graph_nodes(self.typed_cells(), self._notes, scope, private_edge_data):
            update_func(node)
            calls += 1
        return calls

    def drop_path_prob(self, p: float) -> None:
        """Set the drop-path probability, 0 <= p < 1; a model built without drop path ignores it."""
        check_drop_probability(p)
        for module in self.modules():
            if isinstance(module, DropPath_):
                module.p = p

    def drop_path_generator(self, generator: torch.Generator | None) -> None:
        """Draw drop-path masks from this generator; it must live on the model's device."""
        for module in self.modules():
            if isinstance(module, DropPath_):
                module.generator = generator

    def device_type(self) -> str:
        """Device type of the parameters, such as ``cpu`` or ``cuda``."""
        return next(self.parameters()).device.type
