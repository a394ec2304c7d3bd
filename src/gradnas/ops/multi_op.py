"""Several operations as one."""

import torch
from torch import Tensor, nn

from gradnas.arch import OpDesc
from gradnas.ops.base import Op
from gradnas.ops.conv import batch_norm
from gradnas.ops.registry import OPS, OpRegistry


class MultiOp(Op):
    """Children side by side, their outputs concatenated and projected by 1×1 convolution and batch norm.

    Child i reads input number ``children_ins[i]``, with the channel counts of the parent and its own stride.
    """

    def __init__(self, op_desc: OpDesc, affine: bool, *, registry: OpRegistry = OPS) -> None:
        """Build the children, whose names are looked up in ``registry``.

        Raises:
            ValueError: When there are none.
        """
        super().__init__()
        if not op_desc.children or op_desc.children_ins is None:
            raise ValueError(f"{op_desc.name!r} needs at least one child operation.")
        conv = op_desc.conv
        self.children_ins = op_desc.children_ins
        self.children_ops = nn.ModuleList(
            Op.create(child.with_params(conv=conv), affine, registry=registry) for child in op_desc.children
        )
        self.projection = nn.Conv2d(conv.ch_out * len(op_desc.children), conv.ch_out, 1, bias=False)
        self.bn = batch_norm(conv.ch_out, affine)

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        """Apply to one input, or to the list of inputs of the edge; ``(B, C_in, H, W) -> (B, C_out, H', W')``."""
        inputs = x if isinstance(x, list) else [x]
        if max(self.children_ins) >= len(inputs):
            raise ValueError(f"children read the inputs {self.children_ins}, but only {len(inputs)} came.")
        outs = [op(inputs[i]) for op, i in zip(self.children_ops, self.children_ins, strict=True)]
        out: Tensor = self.bn(self.projection(torch.cat(outs, dim=1)))
        return out

    def accepted_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        # A child may leave out what belongs to the search network only, as a pool does with its norm.
        for i, child in enumerate(self.children_ops):
            assert isinstance(child, Op)
            prefix = f"children_ops.{i}."
            own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            accepted = child.accepted_weights(own)
            weights = {
                k: v for k, v in weights.items() if not k.startswith(prefix) or k.removeprefix(prefix) in accepted
            }
        return weights
