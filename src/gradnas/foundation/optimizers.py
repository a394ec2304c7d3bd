"""Optimizer state by parameter name: restored to the same tensors, or refused."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

HOW_COMPUTED = ("capturable", "foreach", "fused")
"""Arguments that say how an optimizer computes: up to this machine, not to the stored state."""


def optimizer_state(optimizer: Optimizer, names: Sequence[str]) -> dict[str, Any]:
    """The state of an optimizer together with the names of its parameters in order.

    Args:
        optimizer: The optimizer.
        names: One name per parameter, in the order in which the optimizer holds them.
    """
    assert len(names) == sum(len(group["params"]) for group in optimizer.param_groups)
    return {"names": list(names), "state": optimizer.state_dict()}


def load_optimizer_state(optimizer: Optimizer, names: Sequence[str], stored: Mapping[str, Any]) -> None:
    """Restore :func:`optimizer_state`.

    Raises:
        ValueError: When the parameters or their order differ, naming the first difference.
    """
    if list(names) != list(stored["names"]):
        pairs = [*zip(names, stored["names"], strict=False), (f"{len(names)} names", f"{len(stored['names'])} names")]
        ours, theirs = next(pair for pair in pairs if pair[0] != pair[1])
        raise ValueError(f"the stored optimizer state is of other parameters: expected {ours!r}, found {theirs!r}.")
    # torch decides by these where to put the state, so they must be ours before it loads.
    state = stored["state"]
    groups = [
        {**group, **{key: own[key] for key in HOW_COMPUTED if key in own}}
        for group, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
