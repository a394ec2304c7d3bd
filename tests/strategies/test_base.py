"""Tests of ``src/gradnas/strategies/base.py``."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch.optim import Optimizer

from gradnas.strategies import Batch, BatchLoss, MetaOptimizer
from gradnas.supergraph import Model, Softmax


class Still(MetaOptimizer):
    """The least a strategy must have."""

    bilevel: ClassVar[bool] = False

    def forward_equivalents(self, n_candidates: int) -> float:
        return 3.0

    def prepare(self, model: Model, loss: BatchLoss, weight_optimizer: Optimizer, *, chunks: int = 1) -> None: ...

    def step(self, train_batch: Batch, val_batch: Batch | None) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def test_interface_cannot_be_used_itself() -> None:
    with pytest.raises(TypeError, match="abstract"):
        MetaOptimizer()  # type: ignore[abstract]


@pytest.mark.parametrize("method", ["forward_equivalents", "prepare", "step", "state_dict", "load_state_dict"])
def test_strategy_must_say_how_it(method: str) -> None:
    assert method in MetaOptimizer.__abstractmethods__


def test_architecture_parameters_are_mixed_by_a_softmax_unless_the_strategy_says_otherwise() -> None:
    assert isinstance(Still().mixing_rule, Softmax)


def test_new_epoch_and_check_do_nothing_unless_the_strategy_says_otherwise() -> None:
    still = Still()
    before = (dict(vars(still)), torch.get_rng_state())
    still.new_epoch(3)
    still.check()
    assert vars(still) == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
