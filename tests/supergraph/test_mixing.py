"""Tests of ``src/gradnas/supergraph/mixing.py``."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

from gradnas.ops import ArchParams
from gradnas.supergraph import MixingRule, Softmax


def table(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_eight_equal_alphas_give_an_eighth_each() -> None:
    assert torch.equal(Softmax().weights(torch.full((3, 8), 2.0)), torch.full((3, 8), 0.125))


def test_weights_known_by_hand() -> None:
    alphas = torch.tensor([[0.0, 3.0], [4.0, 1.0]], dtype=torch.float64).log()  # exp gives 0:3 and 4:1
    expected = torch.tensor([[0.0, 1.0], [0.8, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(Softmax().weights(alphas), expected)


@given(edges=st.integers(1, 6), candidates=st.integers(2, 9), seed=st.integers(0, 2**16), scale=st.floats(0, 50))
@settings(max_examples=50, deadline=None)
def test_rows_are_finite_not_negative_and_sum_to_one(edges: int, candidates: int, seed: int, scale: float) -> None:
    weights = Softmax().weights(scale * table(edges, candidates, seed=seed))
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(edges, dtype=torch.float64))


def test_an_edge_does_not_depend_on_other_edges() -> None:
    alphas = table(3, 4)
    together = Softmax().weights(alphas)
    torch.testing.assert_close(together, torch.cat([Softmax().weights(row[None]) for row in alphas]))


def test_gradient_is_the_jacobian_of_the_softmax_applied_to_what_the_network_tells() -> None:
    alphas, told = table(3, 5).requires_grad_(), table(3, 5, seed=1)
    weights = Softmax().weights(alphas)
    weights.backward(told)
    torch.testing.assert_close(alphas.grad, weights * (told - (weights * told).sum(1, keepdim=True)))


def test_gradient_equals_a_finite_difference() -> None:
    assert torch.autograd.gradcheck(Softmax().weights, (table(2, 4).requires_grad_(),))


def test_probabilities_are_the_weights() -> None:
    assert torch.equal(Softmax().probabilities(table(3, 4)), Softmax().weights(table(3, 4)))


def test_permuted_candidates_have_permuted_weights() -> None:
    order = [2, 0, 3, 1]
    torch.testing.assert_close(Softmax().weights(table(3, 4)[:, order]), Softmax().weights(table(3, 4))[:, order])


def test_a_rule_must_say_weights_and_probabilities() -> None:
    class Half(MixingRule):
        def weights(self, alphas_EN: torch.Tensor) -> torch.Tensor:
            return alphas_EN / 2

    with pytest.raises(TypeError, match="probabilities"):
        Half()  # type: ignore[abstract]  # what the test is about


def edge(*alphas: float) -> ArchParams:
    return ArchParams([("alphas", Parameter(torch.tensor(alphas, dtype=torch.float64)))])


def test_an_edge_starts_with_small_random_alphas() -> None:
    torch.manual_seed(0)
    ((name, alphas),) = Softmax().initial(2000)
    assert name == "alphas"
    assert isinstance(alphas, Parameter)
    assert float(alphas.detach().std()) == pytest.approx(1e-3, rel=0.1)


def test_the_table_has_a_row_per_edge() -> None:
    assert Softmax().table([edge(1.0, 2.0), edge(3.0, 4.0)]).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_the_most_probable_allowed_candidate_is_chosen_and_its_probability_ranks_the_edge() -> None:
    chosen, rank = Softmax().choose(edge(0.0, 3.0, 9.0), [0, 1])
    assert chosen == 1
    assert rank == pytest.approx(math.exp(3) / (1 + math.exp(3) + math.exp(9)))


def test_of_equal_candidates_the_earlier_is_chosen() -> None:
    assert Softmax().choose(edge(1.0, 2.0, 2.0), [0, 1, 2])[0] == 1


def test_a_probability_that_is_no_number_is_passed_on() -> None:
    assert math.isnan(Softmax().choose(edge(1.0, math.nan), [0])[1])


def test_the_record_holds_the_table() -> None:
    assert Softmax().record([edge(1.0, 2.0)]) == {"alphas": [[1.0, 2.0]]}
