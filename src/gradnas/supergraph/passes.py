"""What a pass through the supergraph may touch."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _BatchNorm

from gradnas.ops import DropPath_


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


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """The batch norms of a model: what :func:`untouched_statistics` looks for, which takes a while in a supergraph."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm)]


@contextmanager
def untouched_statistics(model: nn.Module | Sequence[nn.Module]) -> Iterator[None]:
    """Normalize with batch statistics in training mode, but leave running statistics and their counters as they are.

    The architecture pass runs like this: only the weight step may move what evaluation will use.

    Args:
        model: The model, or its :func:`batch_norms`, for who asks at every step.
    """
    found = batch_norms(model) if isinstance(model, nn.Module) else model
    norms = [m for m in found if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def same_random_draws(model: nn.Module) -> Iterator[None]:
    """Put every random generator a pass may draw from back afterwards: repeated passes draw the same numbers."""
    own = {
        id(m.generator): m.generator for m in model.modules() if isinstance(m, DropPath_) and m.generator is not None
    }
    states = [(g, g.get_state()) for g in own.values()]
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for g, state in states:
            g.set_state(state)
