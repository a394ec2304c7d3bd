"""Tests of ``src/gradnas/strategies/expert_weights.py``.

Tests named ``departure_NN`` fail when the departure of that number, found in other implementations, is introduced.
"""

import copy
import itertools
import math
from collections.abc import Sequence

import pytest
import torch

from gradnas.ops import ArchParams
from gradnas.spaces import DartsSpace
from gradnas.strategies.expert_weights import ExpertWeights, per_example
from gradnas.supergraph import Model, Softmax

F64 = torch.float64
RULE = ExpertWeights()


def edge(log_weights: Sequence[float], survivors: Sequence[bool] | None = None) -> ArchParams:
    alive = torch.tensor([True] * len(log_weights) if survivors is None else survivors)
    return ArchParams.view([("log_weights", torch.tensor(log_weights, dtype=F64)), ("survivors", alive)])


def test_mixing_weights_are_the_normalized_weights_of_the_survivors() -> None:
    params = edge([math.log(v) + 7 for v in (3, 1, 4, 2)], [True, True, False, True])
    expected = torch.tensor([[0.5, 1 / 6, 0.0, 1 / 3]], dtype=F64)
    torch.testing.assert_close(RULE.weights(RULE.table([params])), expected)
    torch.testing.assert_close(RULE.probabilities(RULE.table([params])), expected)


def test_departure_09_edges_rank_by_normalized_weight() -> None:
    ranks = [RULE.choose(edge([1.0 + c, 2.0 + c, 0.5 + c]), [0, 1])[1] for c in (0.0, 3.0, -50.0)]  # c: a common factor
    assert ranks[0] == pytest.approx(ranks[1], rel=1e-12)
    assert ranks[0] == pytest.approx(ranks[2], rel=1e-12)
    assert ranks[0] == pytest.approx(math.e**2 / (math.e + math.e**2 + math.e**0.5))
    # An edge whose weights are larger but closer together is less sure of its choice.
    assert RULE.choose(edge([9.0, 9.1, 9.0]), [0, 1])[1] < ranks[0]


def test_departure_10_the_share_of_none_counts_and_none_is_not_chosen() -> None:
    chosen, rank = RULE.choose(edge([1.0, 2.0, 9.0]), [0, 1])
    assert chosen == 1
    assert rank == pytest.approx(math.e**2 / (math.e + math.e**2 + math.e**9), rel=1e-6)


def test_departure_10_an_edge_without_an_allowed_survivor_ranks_last() -> None:
    assert RULE.choose(edge([-3.0, -1.0, -2.0, 0.0], [False, False, False, True]), [0, 1, 2]) == (1, 0.0)
    # Hopeless, but alive: above the edge where none alone is left.
    chosen, rank = RULE.choose(edge([-900.0, -901.0, 0.0]), [0, 1])
    assert chosen == 0
    assert rank > 0.0


def test_the_rank_is_the_weight_among_the_survivors_while_several_are_left() -> None:
    rank = RULE.choose(edge([0.0, -1.0, -0.5, -2.0], [True, True, False, True]), [0, 1, 2])[1]
    assert rank == pytest.approx(1 / (1 + math.exp(-1) + math.exp(-2)), rel=1e-6)


def test_edges_with_one_survivor_are_ranked_by_the_odds_against_the_fallen() -> None:
    gaps = [0.01, 0.1, 1.0, 9.0, 16.0, 25.0, 60.0, 500.0, 1000.0, 4000.0, 5000.0]
    ranks = [RULE.choose(edge([0.0, -gap, -6000.0], [True, False, False]), [0, 1])[1] for gap in gaps]
    assert all(low < high for low, high in itertools.pairwise(ranks))
    assert all(rank == pytest.approx(1.0, abs=1e-6) for rank in ranks)


def test_a_fallen_expert_without_any_weight_is_no_rival() -> None:
    assert RULE.choose(edge([0.0, -math.inf], [True, False]), [0, 1]) == (0, 1.0)


def test_of_equal_experts_the_earlier_is_chosen() -> None:
    assert RULE.choose(edge([-1.0, 0.0, 0.0]), [0, 1, 2])[0] == 1


def test_a_log_weight_that_is_no_number_is_passed_on() -> None:
    assert math.isnan(RULE.choose(edge([0.0, math.nan, -1.0]), [0, 2])[1])


def test_the_record_keeps_the_weight_of_the_fallen() -> None:
    recorded = RULE.record([edge([0.0, -5.0], [True, False])])
    assert recorded == {"alphas": [[0.0, -5.0]], "survivors": [[True, False]]}


def test_each_example_and_cell_gets_its_own_copy_of_the_weights() -> None:
    weights = torch.rand(4, 3, requires_grad=True)
    leaf = per_example(weights, cells=2, batch=5)
    assert leaf.shape == (2, 4, 3, 5)
    assert leaf.is_leaf
    assert leaf.requires_grad
    assert torch.equal(leaf.detach(), weights.detach()[None, :, :, None].expand(2, 4, 3, 5))


SPACE = DartsSpace(1, 8, 4, channels=2, cells=3, nodes=2, reductions=1, primitives=("skip_connect", "none"))


def test_the_rule_replaces_alphas_and_gives_them_back_afresh() -> None:
    model = Model(SPACE.build(), affine=False)

    def learnt() -> list[str]:
        return [name for name in model.state_dict() if "arch_param" in name]

    assert all(name.endswith("alphas_arch_param") for name in learnt())
    model.set_mixing_rule(ExpertWeights())
    assert not list(model.all_owned().param_by_kind())
    assert sorted({name.rpartition(".")[2] for name in learnt()}) == ["log_weights_arch_param", "survivors_arch_param"]
    again = copy.deepcopy(model)
    assert (
        again.typed_cells()[2].mixed_ops()[0].arch_params()["survivors"]
        is (again.typed_cells()[0].mixed_ops()[0].arch_params()["survivors"])
    )
    model.set_mixing_rule(Softmax())
    assert len(list(model.all_owned().param_by_kind("alphas"))) == 10
