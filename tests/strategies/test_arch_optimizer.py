"""Tests of ``src/gradnas/strategies/arch_optimizer.py``."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode

from gradnas.finalizers import Finalizers
from gradnas.spaces import DartsSpace
from gradnas.strategies.arch_optimizer import ArchOptimizer, learnt_parameters
from gradnas.strategies.expert_weights import ExpertWeights
from gradnas.supergraph import Model

F64 = torch.float64
SPACE = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=1, reductions=1, primitives=("skip_connect", "none"))


def parameters(*rows: Sequence[float]) -> dict[str, Parameter]:
    return {f"edge{i}": Parameter(torch.tensor(row, dtype=F64)) for i, row in enumerate(rows)}


def by_sgd(lr: float = 0.1, **settings: Any) -> ArchOptimizer:
    held = parameters([1.0, -2.0], [0.5, 3.0])
    return ArchOptimizer(held, SGD(held.values(), lr=lr, **settings))


def gradients(*rows: Sequence[float]) -> list[Tensor]:
    return [torch.tensor(row, dtype=F64) for row in rows]


def test_learnt_parameters_are_those_that_the_first_cell_of_each_type_owns() -> None:
    model = Model(SPACE.build(), affine=False)
    learnt = learnt_parameters(model)
    assert len(learnt) == 4  # two types with two edges
    for c in (0, 1):
        for e, op in enumerate(model.typed_cells()[c].mixed_ops()):
            assert learnt[f"cells.{c}.nodes.0.{e}.op.alphas"] is op.alphas


def test_a_model_without_anything_to_learn_is_refused() -> None:
    model = Model(SPACE.build(), affine=False)
    with pytest.raises(
        ValueError, match=r"no architecture parameter that a gradient could move.*no edge with a choice"
    ):
        learnt_parameters(Model(Finalizers().finalize_model(model)))
    model.set_mixing_rule(ExpertWeights())
    with pytest.raises(ValueError, match=r"or another strategy's mixing rule"):
        learnt_parameters(model)


def test_a_step_follows_the_gradients_given_and_leaves_none() -> None:
    learner = by_sgd()
    learner.alphas[0].grad = torch.full((2,), 99.0, dtype=F64)  # left by somebody else
    learner.step(gradients([1.0, 2.0], [-1.0, 0.0]))
    assert torch.cat([alpha.detach() for alpha in learner.alphas]).tolist() == [0.9, -2.2, 0.6, 3.0]
    assert all(alpha.grad is None for alpha in learner.alphas)


def test_a_gradient_is_needed_for_each_parameter() -> None:
    with pytest.raises(ValueError, match="zip"):
        by_sgd().step(gradients([1.0, 2.0]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_check_names_the_first_step_whose_gradient_was_not_finite(bad: float) -> None:
    learner = by_sgd()
    fine, broken = gradients([1.0, 2.0], [3.0, 4.0]), gradients([1.0, 2.0], [3.0, bad])
    for step in (fine, fine):
        learner.step(step)
        learner.check()
    for step in (broken, fine, broken):
        learner.step(step)
    for _ in range(2):  # it stays known
        with pytest.raises(FloatingPointError, match=r"gradient was not finite at architecture step 2 of this search"):
            learner.check()


def test_a_bad_first_step_counts() -> None:
    learner = by_sgd()
    learner.step(gradients([math.nan, 0.0], [0.0, 0.0]))
    with pytest.raises(FloatingPointError, match="at architecture step 0 "):
        learner.check()


def test_steps_are_counted_across_a_saved_state() -> None:
    learner, again = by_sgd(), by_sgd()
    for _ in range(3):
        learner.step(gradients([0.0, 0.0], [0.0, 0.0]))
    again.load_state_dict(learner.state_dict())
    again.step(gradients([math.nan, 0.0], [0.0, 0.0]))
    with pytest.raises(FloatingPointError, match="at architecture step 3 "):
        again.check()


def test_a_loaded_state_forgets_an_earlier_bad_step() -> None:
    learner, fine, broken = by_sgd(), gradients([1.0, 2.0], [3.0, 4.0]), gradients([1.0, math.nan], [3.0, 4.0])
    learner.step(fine)
    saved = copy.deepcopy(learner.state_dict())
    learner.step(broken)
    with pytest.raises(FloatingPointError, match="at architecture step 1 "):
        learner.check()
    learner.load_state_dict(saved)
    learner.check()
    learner.step(fine)
    learner.check()
    learner.step(broken)
    with pytest.raises(FloatingPointError, match="at architecture step 2 "):  # the new one, and with its own number
        learner.check()


def test_a_loaded_optimizer_goes_on_bit_for_bit() -> None:
    learner, again = by_sgd(momentum=0.9), by_sgd(momentum=0.9)
    learner.step(gradients([1.0, 2.0], [-1.0, 0.3]))
    again.load_state_dict(copy.deepcopy(learner.state_dict()))
    for alpha, other in zip(learner.alphas, again.alphas, strict=True):
        other.data.copy_(alpha.data)
    for one in (learner, again):
        one.step(gradients([0.1, 0.0], [1.0, 0.7]))
    assert all(torch.equal(a, b) for a, b in zip(learner.alphas, again.alphas, strict=True))
    assert learner.state_dict()["steps"] == again.state_dict()["steps"] == 2


def test_a_state_of_other_parameters_is_refused() -> None:
    held = {"elsewhere": Parameter(torch.zeros(2))}
    with pytest.raises(ValueError, match=r"state is of other parameters: expected 'elsewhere', found 'edge0'"):
        ArchOptimizer(held, SGD(held.values(), lr=0.1)).load_state_dict(by_sgd().state_dict())


def test_a_step_reads_nothing_from_the_device() -> None:
    read: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            read.append(func.__name__.split(".")[0])
            return func(*args, **(kwargs or {}))

    learner, given = by_sgd(momentum=0.9), gradients([1.0, 2.0], [3.0, math.nan])
    with Watch():
        learner.step(given)
    assert "_local_scalar_dense" not in read
    assert len(read) > 5
