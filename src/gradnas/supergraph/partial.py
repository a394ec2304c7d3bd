"""Partial channel connections: the candidates of an edge see a part of the channels, the rest passes them by.

Implements: Xu et al., PC-DARTS (ICLR 2020), equation 2, with the channel shuffle of the released code. Of K parts of
channels x1 is the first and x2 the others:

    edge(x) = shuffle_K(concat(sum_i w_i f_i(x1), v pool(x2)))

with the max pool 2×2 where the edge halves the map, and nothing else. The paper's edge weight gamma multiplies both
parts; here it is in the mixing weights w_i, and v, the last column of the mixing table, is gamma itself.
Deviation: odd maps are halved to ceil(size / 2), as the candidates do; the released pool cuts the last row.
Reference test: ``tests/supergraph/test_partial.py``.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gradnas.arch import ConvMacroParams, OpDesc, Params


def partial_of(op_desc: OpDesc) -> int:
    """K of a mixed op, 1 where it says none. ValueError unless its channels stay and are a multiple of K."""
    parts = op_desc.params.get("partial", 1)
    if not isinstance(parts, int) or isinstance(parts, bool) or parts < 1:
        raise ValueError(f"partial must be a whole number of at least 1, got {parts!r}.")
    conv = op_desc.conv
    if parts > 1 and (conv.ch_in != conv.ch_out or conv.ch_in % parts):
        raise ValueError(
            f"the candidates cannot see one of {parts} equal parts of the channels: the edge has {conv.ch_in} input "
            f"and {conv.ch_out} output channels. Give the space channels that are a multiple of {parts}."
        )
    return parts


def narrowed(params: Params, parts: int) -> Params:
    """Parameters of a candidate that sees one of so many parts of the channels."""
    conv = params["conv"]
    assert isinstance(conv, ConvMacroParams)
    return params.replace(conv=ConvMacroParams(conv.ch_in // parts, conv.ch_out // parts))


def with_passing(weights_EN: Tensor, factors_E: Tensor | None) -> Tensor:
    """A table of mixing weights with the column of what passes by: the factors of the edges, 1 where there are none."""
    passing = weights_EN.new_ones(len(weights_EN)) if factors_E is None else factors_E
    return torch.cat([weights_EN, passing.unsqueeze(1)], dim=1)


def split(x: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """The channels that the candidates see, and the others."""
    seen = x.shape[1] // parts
    return x[:, :seen].contiguous(memory_format=torch.channels_last), x[:, seen:]


def passed_by(x: Tensor, stride: int) -> Tensor:
    """What becomes of the channels that no candidate sees, (B, C, ceil(H/S), ceil(W/S))."""
    return x if stride == 1 else F.max_pool2d(x, 2, stride=2, ceil_mode=True)


def shuffled(computed: Tensor, passed: Tensor, parts: int) -> Tensor:
    """Both on the channel axis, shuffled in so many groups: channel c of part k comes to c · parts + k."""
    return torch.stack([computed, *passed.chunk(parts - 1, dim=1)], dim=2).flatten(1, 2)
