"""Tests of ``src/gradnas/strategies/xnas_op.py``.

Tests named ``departure_NN`` fail when the departure of that number, found in other implementations, is introduced.
"""

import math

import pytest
import torch
from torch import Tensor

from gradnas.arch import ConvMacroParams, OpDesc, Params
from gradnas.ops import OPS, Op, OpRegistry
from gradnas.strategies import XnasOp
from gradnas.strategies.expert_advice import learning_rate
from gradnas.strategies.expert_weights import ExpertWeights
from gradnas.supergraph import Softmax

F64 = torch.float64


class Constant(Op):
    """Puts out a number everywhere."""

    def __init__(self, desc: OpDesc, value: float) -> None:
        super().__init__()
        self.desc, self.value, self.calls = desc, value, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.full_like(x, self.value)


def constants(*values: float) -> tuple[XnasOp, OpRegistry]:
    """An op whose expert k puts out ``values[k]``; ``none`` comes last."""
    registry = OpRegistry(parent=OPS)
    for k, value in enumerate(values):
        registry.register_op(f"constant_{k}", lambda desc, affine, _, v=value: Constant(desc, v))
    names = (*(f"constant_{k}" for k in range(len(values))), "none")
    desc = OpDesc("xnas_op", Params(conv=ConvMacroParams(1, 1), stride=1, primitives=names))
    return XnasOp(desc, None, False, registry=registry), registry


ONES = torch.ones(2, 1, 2, 2, dtype=F64)


def test_departure_04_the_reward_itself_is_bounded_not_the_gradient() -> None:
    op, _ = constants(1e4, 1.0)
    with op.reward_pass():
        (1e-2 * op(ONES)).sum().backward()  # a small gradient at the output, a huge inner product with expert 0
    op.update_alphas(0.1, 2, 1000, 1.0)
    expected = 0.1 * torch.tensor([-2.0, -0.08, 0.0], dtype=F64)  # two examples: 2 · min(1, 4e2), 2 · 0.04, 0
    torch.testing.assert_close(op.log_weights, expected)


def play(op: XnasOp, rounds: int = 400) -> str:
    """Let an op predict a constant: the loss is the squared distance to 1. Returns the name of what it chooses."""
    eta = learning_rate(len(op.names), rounds, 1.0)
    for t in range(rounds):
        if not op.computed:
            break  # nothing is left that could earn
        with op.reward_pass():
            ((op(ONES[:1]) - 1.0) ** 2).mean().backward()
        op.update_alphas(eta, t + 1, rounds, 1.0)
    return op.names[int(op.log_weights.argmax())]


def test_the_best_expert_of_a_planted_game_wins_and_a_dominated_one_changes_nothing() -> None:
    game, _ = constants(0.2, 0.9)
    assert play(game) == "constant_1"
    assert game.survivors.tolist() == [False, True, False]
    game, _ = constants(0.2, 0.9, -1.0)  # always worse than both
    assert play(game) == "constant_1"


def test_none_never_wins_an_edge() -> None:
    game, _ = constants(-0.3, -0.1)  # every expert hurts, so none leads
    assert play(game) == "none"
    desc, rank = game.finalize()
    assert rank == 0.0
    assert isinstance(game.rule, ExpertWeights)
    assert game.rule.choose(game.arch_params(), [0, 1])[0] == 1  # the lesser evil
    assert desc.name != "none"


def test_the_op_starts_with_equal_weights_and_all_alive() -> None:
    op, _ = constants(1.0, 2.0)
    assert op.log_weights.tolist() == [0.0, 0.0, 0.0]
    assert op.log_weights.dtype == F64
    assert op.survivors.tolist() == [True, True, True]
    assert list(op.parameters()) == []
    assert sorted(op.state_dict()) == ["log_weights_arch_param", "survivors_arch_param"]
    assert not op.can_drop_path()
    assert [round(weight, 6) for _, weight in op.ops()] == [0.333333] * 3


def test_the_op_has_the_primitives_of_the_literature() -> None:
    op = XnasOp(OpDesc("xnas_op", Params(conv=ConvMacroParams(2, 2), stride=1)), None, False)
    assert len(op.names) == 8
    assert op.names[-1] == "none"
    assert op.names == XnasOp.PRIMITIVES


def test_the_op_shares_its_state() -> None:
    op, registry = constants(1.0, 2.0)
    other = XnasOp(op.desc, op.arch_params(), False, registry=registry)
    assert other.log_weights is op.log_weights
    assert list(other.state_dict()) == []
    short = XnasOp(
        OpDesc("xnas_op", op.desc.params.replace(primitives=("constant_0", "none"))), None, False, registry=registry
    )
    with pytest.raises(ValueError, match=r"shared log_weights have shape \(2,\), but the edge has 3 candidates"):
        XnasOp(op.desc, short.arch_params(), False, registry=registry)


def test_the_op_adds_the_rewards_of_the_other_cells_before_the_wipe_out() -> None:
    op, registry = constants(1.0, 2.0)
    other = XnasOp(op.desc, op.arch_params(), False, registry=registry)
    for each, factor in ((op, -0.1), (other, 0.03)):
        with each.reward_pass():
            (factor * each(ONES)).sum().backward()
    op.update_alphas(0.5, 4, 100, 1.0, others=[other])
    gained = 0.5 * 8 * 0.07 * torch.tensor([1.0, 2.0, 0.0], dtype=F64)  # 2 examples of 4 pixels
    torch.testing.assert_close(op.log_weights, gained - gained.max())


def test_the_op_does_not_compute_the_fallen() -> None:
    op, _ = constants(0.5, 1.0)
    play(op)
    calls = [candidate.calls for candidate in op.candidates if isinstance(candidate, Constant)]
    assert torch.equal(op(ONES), ONES)
    assert [c.calls for c in op.candidates if isinstance(c, Constant)] == [calls[0], calls[1] + 1]
    assert [weight for _, weight in op.ops()] == [0.0, 1.0, 0.0]


def test_the_op_refuses_an_update_without_rewards_and_bad_numbers() -> None:
    op, _ = constants(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"no rewards were gathered: .* inside reward_pass"):
        op.update_alphas(0.1, 1, 10, 1.0)
    with op.reward_pass():
        op(ONES).sum().backward()
    for arguments, message in (
        ((0.1, 11, 10, 1.0), r"round 11 is outside the horizon of 10 rounds"),
        ((0.0, 2, 10, 1.0), r"eta must be positive"),
        ((0.1, 2, 10, 0.0), r"grad_clip bounds the rewards and must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            op.update_alphas(*arguments)
        assert op.log_weights.tolist() == [0.0, 0.0, 0.0]
    op.update_alphas(0.1, 2, 10, 1.0)
    with pytest.raises(RuntimeError, match="no rewards were gathered"):
        op.update_alphas(0.1, 2, 10, 1.0)


def test_the_op_refuses_rewards_that_are_not_finite() -> None:
    op, _ = constants(1.0, 2.0)
    with op.reward_pass():
        (op(ONES) * math.inf).sum().backward()
    with pytest.raises(ValueError, match="a reward of expert 'constant_0' is not finite; the update is refused"):
        op.update_alphas(0.1, 2, 10, 1.0)
    assert op.log_weights.tolist() == [0.0, 0.0, 0.0]


def test_departure_05_a_reward_pass_of_the_op_leaves_weights_and_statistics_alone() -> None:
    desc = OpDesc("xnas_op", Params(conv=ConvMacroParams(2, 2), stride=1))
    op = XnasOp(desc, None, False)
    before = {name: value.clone() for name, value in op.state_dict().items()}
    with op.reward_pass():
        op(torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(p.grad is None and p.requires_grad for p in op.parameters())
    assert all(torch.equal(before[name], value) for name, value in op.state_dict().items())
    op.update_alphas(0.1, 3, 30, 1.0)
    assert op.log_weights.any()


def test_the_op_refuses_another_rule() -> None:
    op, _ = constants(1.0, 2.0)
    with pytest.raises(ValueError, match=r"xnas_op learns by expert advice and cannot mix by Softmax"):
        op.use_rule(Softmax())
