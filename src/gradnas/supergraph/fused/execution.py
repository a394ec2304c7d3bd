"""The fast execution of a cell: the same function as edge by edge, computed per state instead of per edge.

Nothing here changes the function; what saves time is

* a ReLU, a pool, a batch norm without weights, a skip: once per state instead of once per edge;
* convolutions of the edges that leave a state: one wide convolution, and one batch norm over all their channels, whose
  statistics are per channel anyway; on a CPU of as many edges at a time as the cache holds, which may be one;
* a mixing weight behind a batch norm: the weight of that norm, so that there is no product to compute or to keep, and
  its gradient comes out of the norm's own backward pass;
* on a CPU separable convolutions and pools, with their norms and mixing weights, image by image within the cache, in
  compiled code (``branches.py``);
* candidates that are left out (``MixedOp.computed``): not in the plan at all.

Reference test: ``tests/supergraph/fused/test_execution.py`` (equal in float64: values, gradients, statistics).
Shape suffixes: E edges that hold a choice, N candidates, B examples, M columns of a group.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradnas.ops import Op
from gradnas.ops.depthwise import from_sub_images
from gradnas.supergraph.dag_edge import DagEdge
from gradnas.supergraph.fused.branches import is_native, sum_branches
from gradnas.supergraph.fused.kernels import mixtures, split_columns, sum_columns
from gradnas.supergraph.fused.layers import Function, Layer, Norm, Value
from gradnas.supergraph.fused.plan import Fan, Group, Modules, compile_cell, parts_seen
from gradnas.supergraph.fused.program import Program
from gradnas.supergraph.mixed_op import MixedOp
from gradnas.supergraph.partial import passed_by, shuffled, split

WIDE_BYTES = 2**23  # of a wide tensor on a CPU: wider ones leave the cache, narrower ones cost more calls
MAX_PROGRAMS = 32  # a method that samples candidates makes ever new ones


class FusedNodes:
    """Computes the nodes of a cell from its two input states.

    The modules keep their weights and statistics under their names; they are read at each pass, not copied here. They
    are not *called*, so hooks on candidates do not run.

    Args:
        nodes: For each node the list of its edges.
    """

    def __init__(self, nodes: nn.ModuleList) -> None:
        self._nodes = nodes
        self._forget()

    def _forget(self) -> None:
        self._edges: list[list[DagEdge]] = []
        self._ops: list[Op] = []
        self._programs: dict[object, Program] = {}
        self._containers: list[tuple[dict[str, nn.Module | None], list[nn.Module | None]]] = []
        self._norms: list[nn.BatchNorm2d] = []
        self._settings: list[tuple[float, float | None]] = []
        self._partial = 1

    def __getstate__(self) -> dict[str, Any]:
        return {"_nodes": self._nodes}  # a copy compiles anew

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __call__(self, s0: Tensor, s1: Tensor, weights: Tensor | None) -> list[Tensor] | None:
        """All states of the cell.

        Args:
            s0: First input state, (B, C, H, W).
            s1: Second input state.
            weights: Mixing weights of shape (E, N), or (E, B, N) with one row per example; None without a choice.

        Returns:
            The states, the two inputs first; None when some norms use the statistics of the batch and others do not,
            which only the plain execution can do.
        """
        edges = [[edge for edge in node if isinstance(edge, DagEdge)] for node in self._nodes]  # type: ignore[attr-defined]  # each is a ModuleList
        ops = [edge.op for node in edges for edge in node]
        if (
            ops != self._ops
            or edges != self._edges
            or any(list(held.values()) != known for held, known in self._containers)
            or [(norm.eps, norm.momentum) for norm in self._norms] != self._settings
        ):
            self._look(edges, ops)
        modes = {(norm.training, norm.track_running_stats or not norm.training) for norm in self._norms}
        if len(modes) > 1:
            return None
        training, tracking = modes.pop() if modes else (True, False)
        seen_bytes = s1.numel() * s1.element_size() // self._partial
        widest = max(1, WIDE_BYTES // max(1, seen_bytes)) if s1.device.type == "cpu" else None
        computed = (op.computed if op.can_fuse() else None for op in self._ops if isinstance(op, MixedOp))
        compiled = is_native(s1) and not torch.is_autocast_enabled("cpu")
        key = (training, widest, compiled, *computed)
        if key not in self._programs:
            if len(self._programs) == MAX_PROGRAMS:
                self._programs.clear()
            plan = compile_cell(self._edges, batch_statistics=training, widest=widest, compiled=compiled)
            self._programs[key] = Program(plan)
        return _Pass(self._programs[key], weights, s0.device.type, training, training and tracking).states(s0, s1)

    def _look(self, edges: list[list[DagEdge]], ops: list[Op]) -> None:
        """Note which modules there are: a plan is for these, and they may be exchanged, or norms set otherwise."""
        self._forget()
        self._edges, self._ops = edges, ops
        for module in (module for op in self._ops for module in op.modules()):
            if module._modules:
                self._containers.append((module._modules, list(module._modules.values())))
            if isinstance(module, nn.BatchNorm2d):
                self._norms.append(module)
        self._settings = [(norm.eps, norm.momentum) for norm in self._norms]
        self._partial = parts_seen(ops)


class _Sum:
    """A sum in the making, in place as soon as it is a tensor of its own."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self._own = False

    def add(self, x: Tensor, *, own: bool = False) -> None:
        """Add a tensor; ``own`` says that nobody else has it."""
        if self.total is None:
            self.total, self._own = x, own
        elif self._own and self.total.dtype == x.dtype:
            self.total.add_(x)
        else:
            self.total, self._own = self.total + x, True


class _Node:
    """What arrives at a node: from edges that run whole, from mixtures, from those in sub-images, and unseen."""

    def __init__(self) -> None:
        self.whole, self.mixed, self.in_parts, self.passed = _Sum(), _Sum(), _Sum(), _Sum()

    def total(self, partial: int) -> Tensor | None:
        """All of it; None when nothing arrived."""
        if self.in_parts.total is not None:
            self.mixed.add(from_sub_images(self.in_parts.total))
        mixed = self.mixed.total
        if mixed is not None:
            passed = self.passed.total
            self.whole.add(mixed if passed is None else shuffled(mixed, passed.to(mixed.dtype), partial))
        return self.whole.total


Statistics = tuple[Tensor, Tensor]
"""Mean and unbiased variance of the channels of a batch."""

Known = dict[tuple[Layer, ...], tuple[Value, Statistics | None]]
"""What layers without weights made of a state, and the statistics of the last one if it is a norm."""


class _Pass:
    """One pass through the nodes of a cell.

    Args:
        program: What to do.
        weights: Mixing weights of the cell, or None.
        device: Type of the device.
        training: Whether norms use the statistics of the batch.
        moving: Whether running statistics move.
    """

    def __init__(self, program: Program, weights: Tensor | None, device: str, training: bool, moving: bool) -> None:
        self._program, self._plan = program, program.plan
        self._weights = program.weights(torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None)
        self._mixing = None if weights is None else program.mixing(weights)
        self._rows = () if weights is None else weights.unbind(0)
        self._training, self._moving = training, moving
        self._moved: list[tuple[Norm, Modules, Statistics]] = []
        self._counted: list[nn.BatchNorm2d] = []  # whose statistics have moved by themselves

    def states(self, s0: Tensor, s1: Tensor) -> list[Tensor]:
        """All states, from the first two."""
        states = [s0, s1]
        n_nodes = len(self._plan.fans) - 2
        nodes = [_Node() for _ in range(n_nodes)]
        for j, (fan, whole) in enumerate(zip(self._plan.fans, self._plan.whole, strict=True)):
            if j >= 2:
                total = nodes[j - 2].total(self._plan.partial)
                states.append(states[-1].clone() if total is None else total)
            states[j] = states[j].contiguous(memory_format=torch.channels_last)
            if self._mixing is not None:
                seen = states[j]
                if self._plan.passing[j]:
                    seen, rest = split(seen, self._plan.partial)
                    for node, x in self._passing(rest, self._plan.passing[j]):
                        nodes[node].passed.add(x)
                compiled = len(fan.compiled)
                for node, x in self._branches(fan, seen, self._mixing[j][:compiled]):
                    nodes[node].mixed.add(x, own=True)
                for node, part, x in self._fan(fan, seen, self._mixing[j][compiled:]):
                    (nodes[node].in_parts if part else nodes[node].mixed).add(x)
            for n, edge, row in whole:
                nodes[n].whole.add(edge(states, None if row is None else self._rows[row]))
        self._move_statistics()
        return states

    def _passing(self, rest: Tensor, edges: Mapping[int, Sequence[tuple[int, int]]]) -> Iterator[tuple[int, Tensor]]:
        """Channels that no candidate sees, for each edge they pass by, times its weight."""
        for stride, nodes_and_rows in edges.items():
            passed = passed_by(rest, stride).contiguous(memory_format=torch.channels_last)
            weights = torch.stack([self._rows[row][..., -1] for _, row in nodes_and_rows], dim=-1)
            for (node, _), x in zip(nodes_and_rows, mixtures((passed,), (weights,)), strict=True):
                yield node, x

    def _branches(self, fan: Fan, x: Tensor, mixing: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """What compiled operations make of a state, for each node they lead to."""
        if not fan.compiled:
            return
        branches = []
        for group, own in zip(fan.compiled, mixing, strict=True):
            compiled = self._program.compiled(group)
            branches.append(compiled.branch(own, training=self._training, moving=self._moving))
            if self._moving:
                self._counted += compiled.norms
        yield from zip(fan.places, sum_branches(x, branches), strict=True)

    def _fan(self, fan: Fan, x: Tensor, mixing: Sequence[Tensor]) -> Iterator[tuple[int, bool, Tensor]]:
        """What else comes from a state, in parts: the node it goes to, whether it is in sub-images, and the tensor."""
        known: Known = {(): (Value(x), None)}
        rest = iter(mixing)
        bundles: dict[tuple[tuple[int, ...], torch.Size], list[tuple[Tensor, Tensor]]] = {}
        for group in fan.shared:
            out = self._prefix(group, known).tensor
            bundles.setdefault((group.nodes, out.shape), []).append((out, next(rest)))
        for (nodes, _), terms in bundles.items():
            for node, mixture in zip(nodes, mixtures(*zip(*terms, strict=True)), strict=True):
                yield node, False, mixture
        wide: dict[tuple[tuple[int, ...], bool, torch.Size], _Sum] = {}
        for group in fan.wide:
            nodes = _period(group.nodes)
            value = self._wide(group, len(nodes), self._prefix(group, known), next(rest))
            wide.setdefault((nodes, value.parts, value.tensor.shape), _Sum()).add(value.tensor, own=True)
        for (nodes, in_parts, _), total in wide.items():
            assert total.total is not None
            for node, part in zip(nodes, split_columns(total.total, len(nodes)), strict=True):
                yield node, in_parts, part
        for column, op in fan.single:
            yield column.node, False, _times(op(x), next(rest), 1)

    def _prefix(self, group: Group, known: Known) -> Value:
        """What the layers without weights give, computed once per state."""
        for i, (layer, modules) in enumerate(group.steps()):
            if i == len(group.prefix):
                break
            value, _ = known[group.prefix[:i]]
            path = group.prefix[: i + 1]
            if path not in known:
                if isinstance(layer, Norm):
                    known[path] = self._normalized(layer, value, (), modules, None)
                else:
                    assert isinstance(layer, Function)
                    known[path] = layer.run(value, (), len(group.columns)), None
            statistics = known[path][1]
            if statistics is not None:
                assert isinstance(layer, Norm)
                self._moved.append((layer, modules, statistics))
        return known[group.prefix][0]

    def _wide(self, group: Group, places: int, value: Value, mixing: Tensor) -> Value:
        """What the layers with weights make of it, times the mixing weights, columns of the same place added up."""
        columns, mixed = len(group.columns), False
        steps = list(enumerate(group.steps()))
        for i, (layer, modules) in steps[len(group.prefix) :]:
            weights = self._weights.get((group.number, i), [])
            if isinstance(layer, Norm):
                mixed = i + 1 == len(steps) and mixing.dim() == 1
                value = value.spread(columns)
                value, statistics = self._normalized(layer, value, weights, modules, mixing if mixed else None)
                if statistics is not None:
                    self._moved.append((layer, modules, statistics))
            else:
                assert isinstance(layer, Function)
                value = layer.run(value, weights, columns)
        tensor = value.spread(columns).tensor
        if not mixed:
            tensor = _times(tensor, mixing, columns)
        return value._replace(tensor=sum_columns(tensor, columns // places), columns=places)

    def _normalized(
        self, layer: Norm, value: Value, weights: Sequence[Tensor], modules: Modules, mixing: Tensor | None
    ) -> tuple[Value, Statistics | None]:
        """Batch norm of all columns at once, with the mixing weights in its own weights."""
        x = value.tensor
        scale, shift = weights if weights else (None, None)
        if mixing is not None:
            per_channel = _per_channel(mixing, layer.channels)
            scale = per_channel if scale is None else scale * per_channel
            shift = None if shift is None else shift * per_channel
        moved: Statistics | None = None
        mean = variance = None
        if layer.tracks and not self._training:
            norms = [norm for (norm,) in modules]
            mean = torch.cat([norm.running_mean for norm in norms])  # type: ignore[misc]  # torch's modules say "or None"
            variance = torch.cat([norm.running_var for norm in norms])  # type: ignore[misc]  # as above
        elif layer.tracks and self._moving:
            precision = torch.promote_types(x.dtype, torch.float32) if scale is None else scale.dtype
            both = torch.zeros((2, x.shape[1]), dtype=precision, device=x.device)
            mean, variance = moved = both[0], both[1]
        batch = self._training or not layer.tracks
        # Momentum 1 leaves the statistics of the batch in the two tensors.
        out = F.batch_norm(x, mean, variance, scale, shift, batch, 1.0 if moved else 0.0, layer.eps)
        return value._replace(tensor=out), moved

    @torch.no_grad()
    def _move_statistics(self) -> None:
        """Let the running statistics of every norm follow those of the batch."""
        by_momentum: dict[float, tuple[list[Tensor], list[Tensor]]] = {}
        counters = [x for norm in self._counted if (x := norm._buffers["num_batches_tracked"]) is not None]
        for layer, modules, (mean, variance) in self._moved:
            running, new = by_momentum.setdefault(layer.momentum, ([], []))
            buffers = [norm._buffers for (norm,) in modules]
            for name, own_batch in (("running_mean", mean), ("running_var", variance)):
                running += [x for own in buffers if (x := own[name]) is not None]
                batch = own_batch.to(running[-1].dtype)
                new += batch.split(layer.channels) if len(batch) > layer.channels else [batch] * len(buffers)
            counters += [x for own in buffers if (x := own["num_batches_tracked"]) is not None]
        for momentum, (running, new) in by_momentum.items():
            torch._foreach_lerp_(running, new, momentum)
        if counters:
            torch._foreach_add_(counters, 1)


def _period(nodes: tuple[int, ...]) -> tuple[int, ...]:
    """The shortest beginning that the whole repeats: (0, 1, 0, 1) gives (0, 1)."""
    lengths = (n for n in range(1, len(nodes) + 1) if len(nodes) % n == 0)
    return next(nodes[:n] for n in lengths if nodes[:n] * (len(nodes) // n) == nodes)


def _times(x: Tensor, mixing: Tensor, columns: int) -> Tensor:
    """Columns times their mixing weights, (M,), or (B, M) with a row per example."""
    factor = _per_channel(mixing, x.shape[1] // columns)
    if mixing.dim() == 2:
        factor = factor.repeat(len(x) // len(mixing), 1)  # sub-images come in the order of the examples, four times
    return x * factor.to(x.dtype).unsqueeze(-1).unsqueeze(-1)


def _per_channel(mixing: Tensor, channels: int) -> Tensor:
    """(…, M) to (…, M·C), contiguous: torch's batch norm reads other weights wrongly in its backward pass on a CPU."""
    return mixing.repeat_interleave(channels, dim=-1)
