"""Tests of ``src/gradnas/foundation/optimizers.py``."""

from pathlib import Path

import pytest
import torch
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from gradnas.foundation.optimizers import load_optimizer_state, optimizer_state

NAMES = ["a", "b"]


def stepped(kind: type[Optimizer], steps: int = 2) -> tuple[list[Parameter], Optimizer]:
    """Two parameters and an optimizer with state."""
    params = [Parameter(torch.arange(3.0)), Parameter(torch.ones(2))]
    settings = {"momentum": 0.9} if kind is SGD else {}
    optimizer = kind(params, lr=0.1, **settings)
    for _ in range(steps):
        step(params, optimizer)
    return params, optimizer


def step(params: list[Parameter], optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    torch.stack([p.square().sum() for p in params]).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_restored_optimizer_goes_on_bit_for_bit(kind: type[Optimizer], tmp_path: Path) -> None:
    params, optimizer = stepped(kind)
    torch.save(optimizer_state(optimizer, NAMES), tmp_path / "state.pt")
    copies = [Parameter(p.detach().clone()) for p in params]
    restored = kind(copies, lr=0.7)
    load_optimizer_state(restored, NAMES, torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(2):
        step(params, optimizer)
        step(copies, restored)
    assert all(torch.equal(p, q) for p, q in zip(params, copies, strict=True))


def test_state_carries_the_names_in_order() -> None:
    _, optimizer = stepped(SGD)
    assert optimizer_state(optimizer, NAMES)["names"] == ["a", "b"]


def test_names_of_all_groups_are_counted() -> None:
    optimizer = SGD([{"params": [Parameter(torch.ones(1))]}, {"params": [Parameter(torch.ones(1))]}], lr=0.1)
    assert optimizer_state(optimizer, NAMES)["names"] == NAMES


def test_wrong_number_of_names_is_our_own_mistake() -> None:
    _, optimizer = stepped(SGD)
    with pytest.raises(AssertionError):
        optimizer_state(optimizer, ["a"])


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (["b", "a"], "expected 'b', found 'a'"),
        (["a", "c"], "expected 'c', found 'b'"),
        (["a"], "expected '1 names', found '2 names'"),
        (["a", "b", "c"], "expected '3 names', found '2 names'"),
    ],
)
def test_state_of_other_parameters_is_refused_with_the_first_difference(ours: list[str], message: str) -> None:
    _, optimizer = stepped(SGD)
    stored = optimizer_state(optimizer, NAMES)
    other = SGD([Parameter(torch.ones(1)) for _ in ours], lr=0.1)
    with pytest.raises(ValueError, match=f"state is of other parameters: {message}"):
        load_optimizer_state(other, ours, stored)


def test_refused_state_changes_nothing() -> None:
    _, optimizer = stepped(SGD)
    stored = optimizer_state(optimizer, NAMES)
    other = SGD([Parameter(torch.ones(3)), Parameter(torch.ones(2))], lr=0.7)
    with pytest.raises(ValueError, match="other parameters"):
        load_optimizer_state(other, ["b", "a"], stored)
    assert not other.state
    assert other.param_groups[0]["lr"] == 0.7


def test_how_an_optimizer_computes_stays_its_own() -> None:
    stored = Adam([Parameter(torch.ones(2))], capturable=False)
    stored.param_groups[0]["params"][0].grad = torch.ones(2)
    stored.step()
    mine = Adam([Parameter(torch.ones(2, device="meta"))], capturable=True)
    load_optimizer_state(mine, ["a"], optimizer_state(stored, ["a"]))
    assert mine.param_groups[0]["capturable"] is True
    (state,) = mine.state.values()
    assert state["step"].device.type == "meta"  # beside the parameter, where a recorded step needs it
