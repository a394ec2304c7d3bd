"""Tests of ``src/gradnas/supergraph/mixed_op.py``."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Buffer, Parameter

from gradnas.arch import DARTS_PRIMITIVES, ConvMacroParams, OpDesc, Params
from gradnas.ops import OPS, ArchParams, Op
from gradnas.ops.arch_params import ArchParam
from gradnas.supergraph import MixedOp, MixingRule, Softmax
from gradnas.supergraph.mixing import entry

CHANNELS = 4


def desc(primitives: Sequence[str] | None = DARTS_PRIMITIVES, stride: int = 1) -> OpDesc:
    params = Params(conv=ConvMacroParams(CHANNELS, CHANNELS), stride=stride)
    return OpDesc("mixed_op", params if primitives is None else params.replace(primitives=tuple(primitives)))


def make(
    primitives: Sequence[str] | None = DARTS_PRIMITIVES,
    stride: int = 1,
    affine: bool = True,
    alphas: Sequence[float] | None = None,
) -> MixedOp:
    op = Op.create(desc(primitives, stride), affine)
    assert isinstance(op, MixedOp)
    op.double()
    with torch.no_grad():
        op.alphas.copy_(torch.tensor(alphas) if alphas is not None else random(len(op.names)))
    return op


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(op: MixedOp, x: Tensor, weights: Tensor) -> Tensor:
    return torch.stack([w * candidate(x) for w, candidate in zip(weights, op.candidates, strict=True)]).sum(0)


class Table(MixingRule):
    """Weights that are the alphas themselves."""

    def weights(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN

    def probabilities(self, alphas_EN: Tensor) -> Tensor:
        return alphas_EN / alphas_EN.sum(1, keepdim=True)


# ------------------------------------------------------------------------------------------------------------- forward


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_equals_weighted_sum_of_candidates(stride: int, affine: bool) -> None:
    op, x = make(stride=stride, affine=affine), random(2, CHANNELS, 7, 6).requires_grad_()
    inputs = [x, *op.parameters()]
    upstream = random(2, CHANNELS, 7 // stride + stride - 1, 6 // stride, seed=1)
    y, expected = op(x), naive(op, x, op.alphas.softmax(0))
    torch.testing.assert_close(y, expected)
    grads = torch.autograd.grad(y, inputs, upstream)
    torch.testing.assert_close(grads, torch.autograd.grad(expected, inputs, upstream))


def test_given_weights_replace_the_rule() -> None:
    op, x, weights = make(), random(2, CHANNELS, 5, 5), random(8, seed=2)
    torch.testing.assert_close(op(x, weights), naive(op, x, weights))


def test_gradient_of_a_mixing_weight_is_the_inner_product_with_the_candidate_output() -> None:
    op, x, upstream = make(), random(2, CHANNELS, 5, 5), random(2, CHANNELS, 5, 5, seed=1)
    weights = random(8, seed=2).requires_grad_()
    op(x, weights).backward(upstream)
    expected = torch.stack([(upstream * candidate(x)).sum() for candidate in op.candidates[:-1]])
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad[:-1], expected)
    assert weights.grad[-1] == 0  # none


def test_alpha_gradient_is_weight_times_advantage_over_the_mean() -> None:
    op, x, upstream = make(), random(2, CHANNELS, 5, 5), random(2, CHANNELS, 5, 5, seed=1)
    op(x).backward(upstream)
    weights = op.alphas.detach().softmax(0)
    told = torch.stack([(upstream * candidate(x)).sum() for candidate in op.candidates]).detach()
    torch.testing.assert_close(op.alphas.grad, weights * (told - (weights * told).sum()))


def test_known_answer_with_none_in_the_softmax() -> None:
    op, x = make(("skip_connect", "none"), alphas=(0.0, math.log(3.0))), random(1, CHANNELS, 2, 2)
    torch.testing.assert_close(op(x), 0.25 * x)


def test_none_is_never_computed() -> None:
    op = make()
    called: list[str] = []
    for candidate in op.candidates:
        candidate.register_forward_hook(lambda module, *_: called.append(module.desc.name))
    op(random(2, CHANNELS, 5, 5))
    assert called == list(DARTS_PRIMITIVES[:-1])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_none_is_found_by_name_at_any_place(place: int) -> None:
    names = ["skip_connect", "max_pool_3x3"]
    names.insert(place, "none")
    op, x = make(names), random(2, CHANNELS, 5, 5)
    assert place not in op.computed
    torch.testing.assert_close(op(x), naive(op, x, op.alphas.softmax(0)))
    op.alphas.grad = None
    op(x).sum().backward()
    assert op.alphas.grad is not None
    assert op.alphas.grad[place] != 0


def test_one_hot_weights_pick_one_candidate_exactly() -> None:
    op, x = make(), random(2, CHANNELS, 5, 5)
    for k, candidate in enumerate(op.candidates):
        weights = torch.zeros(8, dtype=torch.float64)
        weights[k] = 1
        assert torch.equal(op(x, weights), candidate(x))


def test_input_is_not_changed() -> None:
    op, x = make(affine=False), random(2, CHANNELS, 5, 5)
    before = x.clone()
    op(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("count", [7, 9])
def test_wrong_number_of_weights_names_the_candidates(count: int) -> None:
    with pytest.raises(ValueError, match=rf"shape \(8,\).*'max_pool_3x3'.*got \({count},\)"):
        make()(random(2, CHANNELS, 5, 5), random(count))


def test_the_whole_table_is_refused_as_weights() -> None:
    with pytest.raises(ValueError, match=r"got \(14, 8\). Pass the row of this edge"):
        make()(random(2, CHANNELS, 5, 5), random(14, 8))


def test_another_rule_makes_the_weights() -> None:
    op, x = make(alphas=range(1, 9)), random(2, CHANNELS, 5, 5)
    op.rule = Table()
    torch.testing.assert_close(op(x), naive(op, x, torch.arange(1.0, 9.0, dtype=torch.float64)))


def test_a_row_per_example_mixes_each_example_by_its_own_weights() -> None:
    op, x, weights = make(), random(3, CHANNELS, 5, 5), random(3, 8, seed=2).requires_grad_()
    op.eval()  # running statistics do not couple the examples
    y = op(x, weights)
    expected = torch.cat([naive(op, x[b : b + 1], weights[b]) for b in range(3)])
    torch.testing.assert_close(y, expected)
    upstream = random(3, CHANNELS, 5, 5, seed=3)
    (gradient,) = torch.autograd.grad(y, weights, upstream)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, weights, upstream)[0])


def test_equal_rows_per_example_give_what_one_row_gives() -> None:
    op, x, row = make(), random(3, CHANNELS, 5, 5), random(8, seed=2)
    torch.testing.assert_close(op(x, row.repeat(3, 1)), op(x, row))


def test_candidates_that_are_not_wanted_are_not_called() -> None:
    op, x = make(), random(2, CHANNELS, 5, 5)
    called: list[int] = []
    for k, candidate in enumerate(op.candidates):
        candidate.register_forward_hook(lambda m, i, o, k=k: called.append(k))
    op.compute_only([False, True, False, True, False, False, False, True])
    weights = torch.tensor([0, 0.25, 0, 0.5, 0, 0, 0, 0.25], dtype=torch.float64)
    y = op(x, weights)
    assert called == [1, 3]
    torch.testing.assert_close(y, naive(op, x, weights))
    op.compute_only([True] * 8)
    assert op.computed == tuple(range(7))


@pytest.mark.parametrize("stride", [1, 2])
def test_with_none_alone_left_the_output_is_zero(stride: int) -> None:
    op = make(stride=stride)
    op.compute_only([False] * 7 + [True])
    side = 5 if stride == 1 else 3
    assert torch.equal(op(random(2, CHANNELS, 5, 5)), torch.zeros(2, CHANNELS, side, side, dtype=torch.float64))


def test_wanting_nothing_gives_zeros() -> None:
    op = make()
    op.compute_only([False] * 8)
    assert op.computed == ()
    assert torch.equal(op(random(2, CHANNELS, 5, 5)), torch.zeros(2, CHANNELS, 5, 5, dtype=torch.float64))


@pytest.mark.parametrize("wanted", [[True] * 7, []])
def test_another_number_of_truth_values_is_refused(wanted: list[bool]) -> None:
    with pytest.raises(ValueError, match="expected 8 truth values, one per candidate"):
        make().compute_only(wanted)


class Pairs(Softmax):
    """A rule that learns something else: two numbers per candidate, one of them in a buffer."""

    entries = ("gains", "offsets")

    def initial(self, n_candidates: int, device: torch.device | None = None) -> list[tuple[str, ArchParam]]:
        return [("gains", Parameter(torch.ones(n_candidates))), ("offsets", Buffer(torch.zeros(n_candidates)))]

    def table(self, edges: Sequence[ArchParams]) -> Tensor:
        return torch.stack([entry(edge, "gains") + entry(edge, "offsets") for edge in edges])


def test_a_rule_brings_what_it_learns() -> None:
    op = make()
    op.use_rule(Pairs())
    assert [name for name in op.state_dict() if "arch_param" in name] == ["gains_arch_param", "offsets_arch_param"]
    assert list(op.arch_params()) == ["gains", "offsets"]
    assert op.probabilities().tolist() == [0.125] * 8
    with pytest.raises(KeyError, match="alphas"):
        _ = op.alphas


def test_a_rule_that_learns_the_same_keeps_it() -> None:
    op = make()
    before = op.alphas
    state = torch.random.get_rng_state()
    op.use_rule(Table())
    assert op.alphas is before
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("value", [50.0, -50.0])
def test_extreme_alphas_give_finite_values_and_gradients(value: float) -> None:
    op = make(alphas=[value] + [-value] * 7)
    op(random(2, CHANNELS, 5, 5)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in op.parameters())


def test_runs_under_autocast() -> None:
    op = make(affine=False).float()
    with torch.autocast("cpu", torch.bfloat16):
        y = op(random(2, CHANNELS, 5, 5).float())
    y.sum().backward()
    assert y.isfinite().all()
    assert op.alphas.grad is not None
    assert op.alphas.grad.isfinite().all()


# --------------------------------------------------------------------------------------------------------- candidates


def test_absent_primitives_mean_those_of_the_class() -> None:
    assert make(None).names == MixedOp.PRIMITIVES == DARTS_PRIMITIVES


def test_every_candidate_gets_channels_and_stride_of_the_edge() -> None:
    for candidate in make(stride=2).candidates:
        assert isinstance(candidate, Op)
        assert candidate.desc.params == Params(conv=ConvMacroParams(CHANNELS, CHANNELS), stride=2)


@pytest.mark.parametrize(
    ("primitives", "message"),
    [
        ((), r"at least two different candidates to choose from, got \(\)\."),
        (("skip_connect",), r"at least two different candidates.*\('skip_connect',\)"),
        (("none",), r"a candidate other than 'none', got \('none',\)"),
        (("none", "none"), "a candidate other than 'none'"),
        (("skip_connect", "none", "skip_connect"), "at least two different candidates"),
    ],
)
def test_no_choice_is_refused(primitives: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(primitives)


def test_unknown_candidate_names_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"no operation 'sep_conv_3x4'\. Did you mean 'sep_conv_3x3'"):
        make(("sep_conv_3x4", "none"))


def test_primitives_that_are_no_list_are_refused() -> None:
    with pytest.raises(ValueError, match="got 'none'"):
        Op.create(desc().with_params(primitives="none"), affine=True)


def test_number_of_weights_of_a_mixed_edge() -> None:
    def count(stride: int) -> int:
        conv = ConvMacroParams(16, 16)
        op = Op.create(desc(stride=stride).with_params(conv=conv), affine=False)
        return sum(p.numel() for p in op.nonarch_params(recurse=True))

    assert (count(1), count(2)) == (3168, 3424)


# --------------------------------------------------------------------------------------------- architecture parameters


def test_own_alphas_are_small_random_numbers() -> None:
    torch.manual_seed(0)
    alphas = torch.cat([MixedOp(desc(("skip_connect", "none")), None, True).alphas for _ in range(500)])
    assert alphas.unique().numel() > 990
    assert 0.9e-3 < alphas.std() < 1.1e-3
    assert abs(alphas.mean()) < 1e-4


def test_own_alphas_are_the_only_architecture_parameter() -> None:
    op = make()
    assert list(op.all_owned()) == ["alphas"]
    assert op.all_owned()["alphas"] is op.alphas
    assert all(p is not op.alphas for p in op.nonarch_params(recurse=True))


def test_given_alphas_are_shared_and_not_registered() -> None:
    owner = make()
    user = MixedOp(desc(), owner.arch_params(), True)
    assert user.alphas is owner.alphas
    assert not user.all_owned()
    assert all("alphas" not in key for key in user.state_dict())


def test_shared_alphas_of_another_length_are_refused() -> None:
    shared = ArchParams([("alphas", Parameter(torch.zeros(7)))])
    with pytest.raises(ValueError, match=r"shared alphas have shape \(7,\), but the edge has 8 candidates.*same cand"):
        MixedOp(desc(), shared, True)


def test_drop_path_does_not_apply() -> None:
    assert not make().can_drop_path()


def test_probabilities_are_detached_and_include_none() -> None:
    op = make(alphas=[0.0] * 8)
    assert not op.probabilities().requires_grad
    assert op.probabilities().tolist() == [0.125] * 8


def test_ops_come_in_candidate_order_with_their_probability() -> None:
    alphas = [0.0, 3.0, -1.0, 2.0, 0.5, 5.0, -2.0, 1.0]
    op = make(alphas=alphas)
    pairs = list(op.ops())
    assert [candidate.desc.name for candidate, _ in pairs] == list(DARTS_PRIMITIVES)
    assert [candidate for candidate, _ in pairs] == list(op.candidates)
    assert [weight for _, weight in pairs] == pytest.approx(torch.tensor(alphas).double().softmax(0).tolist())


# ------------------------------------------------------------------------------------------------------------ finalize


@pytest.mark.parametrize(
    ("alphas", "best", "rank"),
    [
        ([2.0] * 8, "max_pool_3x3", 0.125),
        ([1.0] + [-9.0] * 7, "max_pool_3x3", 0.9997),
        ([-9.0, -9.0, -9.0, 0.0, -9.0, -9.0, -9.0, 5.0], "sep_conv_3x3", 0.0067),
        ([0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 9.0], "avg_pool_3x3", 0.00033),
    ],
)
def test_best_candidate_and_its_probability_with_none_counted(alphas: list[float], best: str, rank: float) -> None:
    found, probability = make(alphas=alphas).finalize()
    assert found.name == best
    assert probability == pytest.approx(rank, rel=0.02)


def test_the_edge_with_the_lower_logit_may_rank_first() -> None:
    _, even = make(alphas=[2.0] * 8).finalize()
    _, sure = make(alphas=[1.0] + [-9.0] * 7).finalize()
    assert even == pytest.approx(0.125)
    assert sure is not None
    assert even is not None
    assert sure > even


def test_rank_under_another_rule_is_the_probability_of_that_rule() -> None:
    op = make(alphas=range(1, 9))
    op.rule = Table()
    found, rank = op.finalize()
    assert (found.name, rank) == ("dil_conv_5x5", pytest.approx(7 / 36))


def test_finalized_candidate_keeps_channels_and_stride() -> None:
    found, _ = make(stride=2, alphas=[0.0] * 3 + [9.0] + [0.0] * 4).finalize()
    assert found == OpDesc("sep_conv_3x3", Params(conv=ConvMacroParams(CHANNELS, CHANNELS), stride=2))


def test_finalized_candidate_computes_the_same() -> None:
    op, x = make(("sep_conv_3x3", "none"), alphas=(1.0, 0.0)), random(2, CHANNELS, 5, 5)
    op(x)  # moves running statistics
    found, _ = op.finalize()
    again = Op.create(found, affine=True).double().eval()
    torch.testing.assert_close(again(x), op.eval().candidates[0](x), rtol=1e-6, atol=1e-6)  # loaded into float32


def test_finalized_weights_are_a_copy() -> None:
    op = make(("sep_conv_3x3", "none"), alphas=(1.0, 0.0))
    found, _ = op.finalize()
    assert found.trainables is not None
    kept = {key: value.clone() for key, value in found.trainables["sd"].items()}
    with torch.no_grad():
        for value in op.candidates[0].state_dict().values():
            value.zero_()
    assert all(torch.equal(found.trainables["sd"][key], value) for key, value in kept.items())


def test_finalizing_changes_nothing_and_repeats() -> None:
    op = make()
    before = {key: value.clone() for key, value in op.state_dict().items()}
    first, second = op.finalize(), op.finalize()
    assert first == second
    assert all(torch.equal(value, before[key]) for key, value in op.state_dict().items())


def test_a_rank_that_is_not_a_number_is_passed_on() -> None:
    _, rank = make(alphas=[0.0] * 7 + [math.nan]).finalize()
    assert rank is not None
    assert math.isnan(rank)


def test_a_probability_that_is_not_a_number_spoils_the_rank_of_the_edge() -> None:
    class Damaged(Table):
        def probabilities(self, alphas_EN: Tensor) -> Tensor:
            return super().probabilities(alphas_EN).index_fill(1, torch.tensor(2), math.nan)

    op = make(alphas=range(1, 9))
    op.rule = Damaged()
    _, rank = op.finalize()
    assert rank is not None
    assert math.isnan(rank)


def test_stored_weights_do_not_hold_the_alphas() -> None:
    op = make()
    assert all("alphas" not in key for key in op.get_trainables()["sd"])


@given(order=st.permutations(range(8)), seed=st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_permuting_the_candidates_permutes_every_result(order: list[int], seed: int) -> None:
    op, x = make(affine=False, alphas=random(8, seed=seed).tolist()), random(2, CHANNELS, 4, 4)
    other = make([DARTS_PRIMITIVES[k] for k in order], affine=False, alphas=op.alphas[order].tolist())
    for mine, theirs in zip(other.candidates, [op.candidates[k] for k in order], strict=True):
        mine.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(other(x), op(x))
    torch.testing.assert_close(other.probabilities(), op.probabilities()[order])
    grads = [torch.autograd.grad(o(x).square().sum(), o.alphas)[0] for o in (other, op)]
    torch.testing.assert_close(grads[0], grads[1][order])
    (best, rank), (expected_best, expected_rank) = other.finalize(), op.finalize()
    assert best == expected_best
    assert rank == pytest.approx(expected_rank)


def test_registered_under_its_name() -> None:
    assert "mixed_op" in OPS.names()
    assert isinstance(Op.create(desc(), affine=False), MixedOp)
