"""Merge operations: the states of a cell become its output."""

import torch
from torch import Tensor, nn

from gradnas.arch import OpDesc
from gradnas.ops.base import Op
from gradnas.ops.conv import batch_norm


class MergeOp(Op):
    """Base of merges. Reads all states of the cell, s0 and s1 included.

    ``params['concat_ids']`` lists the states to merge in order; without it the last ``params['out_states']`` are taken.
    """

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__()
        ids = op_desc.params.get("concat_ids")
        listed = tuple(i for i in ids if isinstance(i, int) and i >= 0) if isinstance(ids, tuple) else None
        if ids is not None and listed != ids:
            raise ValueError(f"{op_desc.name!r}: concat_ids must be ids of states, got {ids!r}.")
        count = op_desc.params.get("out_states", None if listed is None else len(listed))
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{op_desc.name!r} must merge at least one state, got out_states={count!r}.")
        if listed is not None and len(listed) != count:
            raise ValueError(f"{op_desc.name!r}: concat_ids {ids} and out_states {count} disagree.")
        self.concat_ids, self.out_states = listed, count

    def merge(self, states: list[Tensor]) -> Tensor:
        """The chosen states side by side on the channel axis. ValueError when there are too few."""
        ids = self.concat_ids
        if (len(states) < self.out_states) if ids is None else (max(ids) >= len(states)):
            raise ValueError(f"merge needs the states {ids or f'-{self.out_states}…-1'}, got {len(states)} states.")
        chosen = states[-self.out_states :] if ids is None else [states[i] for i in ids]
        return torch.cat(chosen, dim=1)

    def can_drop_path(self) -> bool:
        return False


class ConcateChannelsOp(MergeOp):
    """The chosen states side by side: ``states × C`` channels."""

    def forward(self, states: list[Tensor]) -> Tensor:
        return self.merge(states)


class ProjectChannelsOp(MergeOp):
    """The chosen states side by side, a 1×1 convolution back to C channels, batch norm; no ReLU."""

    def __init__(self, op_desc: OpDesc, affine: bool) -> None:
        super().__init__(op_desc, affine)
        self.conv = nn.Conv2d(op_desc.conv.ch_in, op_desc.conv.ch_out, 1, bias=False)
        self.bn = batch_norm(op_desc.conv.ch_out, affine)

    def forward(self, states: list[Tensor]) -> Tensor:
        out: Tensor = self.bn(self.conv(self.merge(states)))
        return out
