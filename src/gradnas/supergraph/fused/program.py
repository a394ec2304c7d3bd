"""A plan made ready: what each pass collects for it, the weights and the mixing weights."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from gradnas.supergraph.fused.branches import CompiledGroup
from gradnas.supergraph.fused.layers import Norm, Source, read
from gradnas.supergraph.fused.plan import Column, Fan, Group, Plan

Collected = dict[tuple[int, int], list[Tensor]]
"""Weights of a layer, by the number of its group and its position in the chain."""


class Program:
    """A plan with what a pass collects for it.

    Shape suffixes: E edges that hold a choice, N candidates, B examples, M columns of a group.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        side_by_side = [group for fan in plan.fans for group in (*fan.shared, *fan.wide)]
        self._convolutions = _Collection(side_by_side, norms=False)
        self._norms = _Collection(side_by_side, norms=True)
        self._compiled = {
            group.number: CompiledGroup(group, [fan.places.index(node) for node in group.nodes])
            for fan in plan.fans
            for group in fan.compiled
        }
        self._columns = [list(_columns(fan)) for fan in plan.fans]
        self._index: Tensor | None = None

    def weights(self, autocast: torch.dtype | None) -> Collected:
        """The weights of all groups; those of convolutions in the precision that autocast asks for."""
        return self._convolutions.collect(autocast) | self._norms.collect(None)

    def compiled(self, group: Group) -> CompiledGroup:
        """One of ``fan.compiled``."""
        return self._compiled[group.number]

    def mixing(self, weights: Tensor) -> list[list[Tensor]]:
        """For each state, the mixing weights of what is computed from it: compiled groups, others, single candidates.

        Args:
            weights: The table of the cell, (E, N), or (E, B, N) with one row per example.

        Returns:
            Tensors of shape (M,), or (B, M).
        """
        if self._index is None or self._index.device != weights.device:
            columns = [column for fan in self._columns for columns in fan for column in columns]
            used = [column.row * weights.shape[-1] + column.candidate for column in columns]
            with torch.inference_mode(False):  # kept for later passes, which may train
                self._index = torch.tensor(used, dtype=torch.int64, device=weights.device)
        flat = weights.flatten() if weights.dim() == 2 else weights.transpose(0, 1).flatten(1)
        sizes = [len(columns) for fan in self._columns for columns in fan]
        pieces = iter(flat.index_select(-1, self._index).split(sizes, dim=-1))
        return [[next(pieces) for _ in fan] for fan in self._columns]


def _columns(fan: Fan) -> Iterator[tuple[Column, ...]]:
    for group in (*fan.compiled, *fan.shared, *fan.wide):
        yield group.columns
    for column, _ in fan.single:
        yield (column,)


class _Collection:
    """Where the weights of groups are kept."""

    def __init__(self, groups: Sequence[Group], *, norms: bool) -> None:
        self._slots: dict[tuple[int, int], list[list[Source]]] = {}
        for group in groups:
            for i, (layer, modules) in enumerate(group.steps()):
                of_columns = [layer.weights(own) for own in modules]
                if isinstance(layer, Norm) is norms and of_columns[0]:
                    self._slots[group.number, i] = [list(slot) for slot in zip(*of_columns, strict=True)]

    def collect(self, dtype: torch.dtype | None) -> Collected:
        return {key: [_side_by_side(slot, dtype) for slot in slots] for key, slots in self._slots.items()}


def _side_by_side(sources: list[Source], dtype: torch.dtype | None) -> Tensor:
    """Weights one after the other on the first axis; depthwise kernels smaller than the largest in a frame of zeros."""
    # Kernels of one size come one after the other.
    runs = [list(run) for _, run in groupby((read(*source) for source in sources), lambda t: t.shape)]
    joined = [torch.cat(run) if len(run) > 1 else run[0] for run in runs]
    if len(joined) > 1:
        largest = max(kernel.shape[-1] for kernel in joined)
        margins = [(largest - kernel.shape[-1]) // 2 for kernel in joined]
        joined = [torch.cat([F.pad(k, (m,) * 4) if m else k for k, m in zip(joined, margins, strict=True)])]
    # Autocast leaves float64 alone.
    return joined[0] if dtype is None or joined[0].dtype == torch.float64 else joined[0].to(dtype)
