"""Drop path: drop the output of an edge for whole samples."""

import torch
from torch import Tensor, nn


class DropPath_(nn.Module):  # noqa: N801 - the name the literature knows
    """Scheduled drop path (Larsson et al., FractalNet, 2017; Zoph et al., 2018).

    In training, per sample, the output is 0 with probability p and ``x / (1 - p)`` otherwise, so its expectation is x;
    in evaluation, or with p = 0, it is x. Never changes its input. Random numbers come from ``generator`` on the
    input's device, or from torch's default one when it is None.
    """

    def __init__(self, p: float = 0.0, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.p = check_drop_probability(p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``(B, …)``; one draw per sample."""
        if not self.training or self.p == 0.0:
            return x
        shape = (x.shape[0],) + (1,) * (x.dim() - 1)
        wide = torch.promote_types(x.dtype, torch.float32)  # 1 / (1 - p) is another number in bfloat16
        mask = torch.empty(shape, dtype=wide, device=x.device).bernoulli_(1.0 - self.p, generator=self.generator)
        return (x * mask.div_(1.0 - self.p)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def check_drop_probability(p: float) -> float:
    """Return p if 0 <= p < 1, else ValueError."""
    if not 0.0 <= p < 1.0:
        raise ValueError(f"the drop-path probability must be at least 0 and below 1, got {p}.")
    return float(p)
