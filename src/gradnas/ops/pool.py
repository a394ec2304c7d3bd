"""Pooling as a candidate operation."""

from torch import Tensor, nn

from gradnas.arch import OpDesc
from gradnas.ops.base import Op
from gradnas.ops.conv import batch_norm


class PoolBN(Op):
    """3×3 max or average pooling, padding 1 (not counted in the average), then batch norm in a search network.

    The paper normalizes pools while searching only. ``params['pool_bn']`` decides; absent or None means "exactly when
    batch norms have no weights of their own", which is the search network. The norm never has weights.
    """

    def __init__(self, pool_type: str, op_desc: OpDesc, affine: bool) -> None:
        """Build it.

        Raises:
            ValueError: For a pool type other than ``max`` and ``avg``, or when the channels change.
        """
        super().__init__()
        if op_desc.conv.ch_in != op_desc.conv.ch_out:
            raise ValueError(f"{op_desc.name!r} keeps the channels, got {op_desc.conv}.")
        stride = op_desc.stride
        if pool_type == "max":
            self.pool: nn.Module = nn.MaxPool2d(3, stride, padding=1)
        elif pool_type == "avg":
            self.pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        else:
            raise ValueError(f"pool_type must be 'max' or 'avg', got {pool_type!r}.")
        wanted = op_desc.params.get("pool_bn")
        normalized = (not affine) if wanted is None else bool(wanted)
        self.bn = batch_norm(op_desc.conv.ch_out, affine=False) if normalized else None

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(x)
        return pooled if self.bn is None else self.bn(pooled)

    def accepted_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        # The statistics gathered in search have no place in an evaluation network, which does not normalize pools.
        return weights if self.bn is not None else {k: v for k, v in weights.items() if not k.startswith("bn.")}
