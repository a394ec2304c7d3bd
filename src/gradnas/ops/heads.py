"""Global pooling and the classifier."""

from torch import Tensor, nn

from gradnas.arch import OpDesc
from gradnas.ops.base import Op


class _Head(Op):
    def can_drop_path(self) -> bool:
        return False


class PoolAdaptiveAvg2D(_Head):
    """Average over the whole map by adaptive pooling: ``(B, C, H, W) -> (B, C)``."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(x)
        return out.flatten(1)


class AvgPool2d7x7(_Head):
    """7×7 average pooling that must leave a single pixel: ``(B, C, 7, 7) -> (B, C)``."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(7)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] // 7 != 1 or x.shape[3] // 7 != 1:
            raise ValueError(f"pool_avg2d7x7 must leave 1×1, got a map of {x.shape[2]}×{x.shape[3]}; 7 to 13 fit.")
        out: Tensor = self.pool(x)
        return out.flatten(1)


class PoolMeanTensor(_Head):
    """Mean over height and width: ``(B, C, H, W) -> (B, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class LinearOp(_Head):
    """Flatten everything after the batch axis, then a linear layer with bias: ``(B, …) -> (B, n_classes)``.

    Reads ``params['n_ch']`` (features) and ``params['n_classes']``. ValueError for another number of features.
    """

    def __init__(self, op_desc: OpDesc) -> None:
        super().__init__()
        n_ch, n_classes = op_desc.params.get("n_ch"), op_desc.params.get("n_classes")
        if not isinstance(n_ch, int) or not isinstance(n_classes, int):
            raise TypeError(f"'linear' needs whole numbers n_ch and n_classes, got {n_ch!r} and {n_classes!r}.")
        self.linear = nn.Linear(n_ch, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = x.flatten(1)
        if features.shape[1] != self.linear.in_features:
            raise ValueError(f"'linear' expects {self.linear.in_features} features, got {features.shape[1]}.")
        out: Tensor = self.linear(features)
        return out
