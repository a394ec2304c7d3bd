"""What a pass through the supergraph may touch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def fixed(parameters: Iterable[Parameter]) -> Iterator[None]:
    """Treat parameters as constants: nothing is computed or stored for their gradients. Restores them afterwards."""
    changed = [p for p in parameters if p.requires_grad]
    for p in changed:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in changed:
            p.requires_grad_(True)


@contextmanager
def untouched_statistics(model: nn.Module) -> Iterator[None]:
    """Normalize with batch statistics in training mode, but leave running statistics and their counters as they are.

    The architecture pass runs like this: only the weight step may move what evaluation will use.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
