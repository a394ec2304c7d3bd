"""Tests of ``src/gradnas/strategies/perturbation.py``: bounds, sharing, toy losses with known maxima."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradnas.strategies.perturbation import (
    SMALLEST_RADIUS,
    Tables,
    adversarially_perturbed,
    distinct,
    radius_at,
    randomly_perturbed,
    skip_rate_at,
    skips_dropped,
)

F64 = torch.float64


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def softmax(edges: int = 5, candidates: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(edges, candidates, generator=draws(seed), dtype=F64).softmax(1)


def at(*positions: int | None, edges: int = 5, candidates: int = 4) -> list[Tensor | None]:
    """Where the skips are: of each cell the position on all edges; None for a cell without a choice."""
    return [
        None if position is None else (torch.arange(candidates) == position).expand(edges, candidates)
        for position in positions
    ]


def two_types() -> tuple[list[Tensor | None], Tensor, Tensor]:
    """Three cells of one type, one of another and one without a choice; some weights are 0."""
    regular, reduction = softmax(), softmax(seed=1)
    regular[0] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    reduction[1, 2] = 0.0
    return [regular, regular, None, reduction, regular], regular, reduction


# ------------------------------------------------------------------------------------------------------------- schedule


@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_radius_starts_at_the_released_one_and_grows_linearly(epochs: int) -> None:
    radii = [radius_at(0.3, epoch, epochs) for epoch in range(epochs)]
    assert radii[0] == SMALLEST_RADIUS == 0.03
    assert radii == pytest.approx([0.03 + 0.27 * epoch / max(1, epochs - 1) for epoch in range(epochs)])
    if epochs > 1:
        assert radii[-1] == pytest.approx(0.3)


def test_radius_by_hand() -> None:
    assert [radius_at(0.3, epoch, 4) for epoch in range(4)] == pytest.approx([0.03, 0.12, 0.21, 0.3])
    assert radius_at(0.3, 0, 1) == 0.03  # the first epoch, although it is the last one too


def test_radius_is_never_larger_than_asked_for() -> None:
    assert [radius_at(0.01, epoch, 5) for epoch in range(5)] == [0.01] * 5
    assert max(radius_at(0.3, epoch, 50) for epoch in range(50)) == pytest.approx(0.3)


@pytest.mark.parametrize("epochs", [1, 2, 5, 50])
def test_skip_rate_falls_by_a_factor_e_in_each_fifth(epochs: int) -> None:
    rates = [skip_rate_at(0.4, epoch, epochs) for epoch in range(epochs)]
    assert rates[0] == 0.4
    assert rates == pytest.approx([0.4 * math.exp(-5 * epoch / epochs) for epoch in range(epochs)])
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_skip_rate_of_the_last_epoch_is_what_the_settings_promise() -> None:
    assert skip_rate_at(1.0, 49, 50) == pytest.approx(0.007, abs=5e-4)
    assert skip_rate_at(1.0, 10, 50) == pytest.approx(math.exp(-1))


def test_skip_rate_by_hand() -> None:
    # Of ten epochs four wait: 9/10, 8/10, … as if to 0 in the last; then the whole rate, and a factor √e each epoch.
    found = [skip_rate_at(0.5, epoch, 10, 4) for epoch in range(10)]
    assert found[:4] == pytest.approx([0.45, 0.4, 0.35, 0.3])
    assert found[4:] == pytest.approx([0.5, 0.3032653, 0.1839397, 0.1115651, 0.0676676, 0.0410425])


@given(rate=st.floats(0.01, 0.99), epochs=st.integers(1, 60), warmup=st.integers(0, 60))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_skip_rate_falls_twice_and_is_never_above_the_one_asked_for(rate: float, epochs: int, warmup: int) -> None:
    rates = [skip_rate_at(rate, epoch, epochs, warmup) for epoch in range(epochs)]
    assert all(0.0 <= found <= rate for found in rates)
    for part in (rates[:warmup], rates[warmup:]):
        assert all(later < earlier for earlier, later in pairwise(part))
    assert rates[:warmup] == pytest.approx(
        [rate * (epochs - 1 - epoch) / epochs for epoch in range(len(rates[:warmup]))]
    )
    # After it everything is as in a search without it, from the first epoch on.
    assert rates[warmup:] == [skip_rate_at(rate, epoch, epochs) for epoch in range(len(rates[warmup:]))]


# --------------------------------------------------------------------------------------------------------------- random


@given(
    radius=st.floats(0.001, 1.0),
    seed=st.integers(0, 2**16),
    edges=st.integers(1, 6),
    candidates=st.integers(2, 8),
    zeros=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_random_change_is_within_the_radius_and_the_unit_interval(
    radius: float, seed: int, edges: int, candidates: int, zeros: bool
) -> None:
    table = softmax(edges, candidates, seed)
    if zeros:
        table = table * (table > 1 / candidates)
    (moved,) = randomly_perturbed([table], radius, draws(seed))
    assert moved is not None
    assert float((moved - table).abs().max()) <= radius * (1 + 1e-12)
    assert 0.0 <= float(moved.min()) <= float(moved.max()) <= 1.0
    assert torch.equal(moved[table == 0], table[table == 0])


def test_random_change_is_uniform() -> None:
    table = torch.full((200, 50), 0.5, dtype=F64)
    (moved,) = randomly_perturbed([table], 0.2, draws())
    assert moved is not None
    change = moved - table
    assert float(change.mean()) == pytest.approx(0.0, abs=0.004)
    assert float(change.square().mean()) == pytest.approx(0.2**2 / 3, rel=0.03)
    assert float(change.min()) < -0.199
    assert float(change.max()) > 0.199


def test_random_change_follows_from_the_generator() -> None:
    mixing, *_ = two_types()
    first, again, other = (randomly_perturbed(mixing, 0.3, draws(seed)) for seed in (4, 4, 5))
    for a, b, c in zip(first, again, other, strict=True):
        if a is not None and b is not None and c is not None:
            assert torch.equal(a, b)
            assert not torch.equal(a, c)


def test_global_generator_is_left_alone() -> None:
    mixing, *_ = two_types()
    state = torch.get_rng_state()
    randomly_perturbed(mixing, 0.3, draws())
    adversarially_perturbed(mixing, 0.3, draws(), linear(mixing)[0])
    skips_dropped(mixing, at(1, 1, None, 1, 1), 0.5, draws())
    assert torch.equal(torch.get_rng_state(), state)


def test_tables_of_different_types_get_different_changes() -> None:
    a, b = torch.full((2, 3), 0.5, dtype=F64), torch.full((2, 3), 0.5, dtype=F64)
    first, second = randomly_perturbed([a, b], 0.3, draws())
    assert first is not None
    assert second is not None
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_cells_that_share_a_table_share_the_new_one_and_the_old_is_not_changed(kind: str) -> None:
    mixing, regular, reduction = two_types()
    before = regular.clone(), reduction.clone()
    if kind == "random":
        out = randomly_perturbed(mixing, 0.3, draws())
    else:
        out = adversarially_perturbed(mixing, 0.3, draws(), linear(mixing)[0])
    assert out[0] is out[1] is out[4]
    assert out[2] is None
    assert out[3] is not out[0]
    assert out[0] is not regular
    assert torch.equal(regular, before[0])
    assert torch.equal(reduction, before[1])


def test_distinct_tables_come_once_in_the_order_of_the_cells() -> None:
    mixing, regular, reduction = two_types()
    found = distinct(mixing)
    assert len(found) == 2
    assert found[0] is regular
    assert found[1] is reduction


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_gradient_is_that_of_the_table_also_where_the_weight_is_cut_or_zero(kind: str) -> None:
    table = torch.tensor([[0.01, 0.5, 0.0, 0.99]], dtype=F64, requires_grad=True)
    upstream, cut = torch.tensor([[1.0, -2.0, 3.0, 5.0]], dtype=F64), set[float]()
    for seed in range(20):
        if kind == "random":
            (moved,) = randomly_perturbed([table], 0.3, draws(seed))
        else:
            (moved,) = adversarially_perturbed([table], 0.3, draws(seed), lambda t: (t[0] * upstream).sum(), steps=2)  # type: ignore[operator]  # a table
        assert moved is not None
        (gradient,) = torch.autograd.grad((moved * upstream).sum(), table)
        assert torch.equal(gradient, upstream)
        assert float(moved[0, 2].detach()) == 0.0
        cut |= {value for value in moved[0, [0, 3]].tolist() if value in (0.0, 1.0)}
    assert cut == ({0.0, 1.0} if kind == "random" else {1.0})  # the slopes of both are upward


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_gradient_of_what_makes_the_table_is_that_at_the_table(kind: str) -> None:
    """Straight through: the derivative of the loss at the moved weights, chained with that of the unmoved softmax."""
    alphas = (3.0 * torch.randn(3, 4, generator=draws(), dtype=F64)).requires_grad_()
    table, upstream = alphas.softmax(1), torch.randn(3, 4, generator=draws(1), dtype=F64)
    if kind == "random":
        (moved,) = randomly_perturbed([table], 0.4, draws(2))
    else:
        (moved,) = adversarially_perturbed([table], 0.4, draws(2), lambda t: (t[0] * upstream).sum())  # type: ignore[operator]  # a table
    assert moved is not None
    assert bool(((moved == 0) | (moved == 1)).any())
    (found,) = torch.autograd.grad((moved.square() * upstream).sum(), alphas)
    slope, w = (2 * moved * upstream).detach(), table.detach()
    torch.testing.assert_close(found, w * (slope - (w * slope).sum(1, keepdim=True)), rtol=1e-10, atol=1e-14)


# ---------------------------------------------------------------------------------------------------------- adversarial


Loss = Callable[[Tables], Tensor]


def linear(mixing: Tables) -> tuple[Loss, list[Tensor]]:
    """A loss that is linear in the weights, each cell with slopes of its own; and the slope of each distinct table."""
    slopes = [torch.randn(5, 4, generator=draws(7 + i), dtype=F64) for i in range(len(mixing))]

    def loss(tables: Tables) -> Tensor:
        parts = [(table * slope).sum() for table, slope in zip(tables, slopes, strict=True) if table is not None]
        return torch.stack(parts).sum()

    together = []
    for table in distinct(mixing):
        users = [slope for used, slope in zip(mixing, slopes, strict=True) if used is table]
        together.append(torch.stack(users).sum(0))
    return loss, together


@pytest.mark.parametrize("steps", [1, 7, 20])
def test_linear_loss_is_maximal_at_the_radius_cut_to_the_unit_interval(steps: int) -> None:
    mixing, *_ = two_types()
    loss, slopes = linear(mixing)
    out = adversarially_perturbed(mixing, 0.3, draws(), loss, steps=steps)
    for old, new, slope in zip(distinct(mixing), distinct(out), slopes, strict=True):
        best = (old + 0.3 * slope.sign()).clamp(0.0, 1.0)
        torch.testing.assert_close(new, torch.where(old == 0, old, best), rtol=0.0, atol=1e-12)


def test_too_short_steps_end_where_they_must() -> None:
    """Steps of 2ε/3: a start δ becomes δ + 2ε/3, at most ε, then ε."""
    table = torch.full((3, 2), 0.5, dtype=F64)
    (start,) = randomly_perturbed([table], 0.15, draws(3))
    seen: list[Tensor] = []

    def loss(tables: Tables) -> Tensor:
        (moved,) = tables
        assert moved is not None
        seen.append(moved.detach().clone())
        return moved.sum()

    (end,) = adversarially_perturbed([table], 0.15, draws(3), loss, steps=3)
    assert start is not None
    assert end is not None
    expected = [start]
    for _ in range(3):
        expected.append((expected[-1] + 0.1).clamp_max(0.65))
    assert len(seen) == 3
    for found, wanted in zip([*seen, end], expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0.0, atol=1e-12)


class Steps:
    """A loss with slopes that are given for each step; notes the weights it is asked about."""

    def __init__(self, *slopes: float) -> None:
        self.slopes, self.seen = slopes, list[float]()

    def __call__(self, tables: Tables) -> Tensor:
        (table,) = tables
        assert table is not None
        self.seen.append(float(table.detach()[0, 0]))
        return self.slopes[len(self.seen) - 1] * table.sum()


@pytest.mark.parametrize(
    ("weight", "slopes", "expected"),
    [
        # Radius 0.3, four steps of 0.15. A change that went on from what the cut has taken away would still be -0.3
        # after two steps down, and -0.15 and 0 after the two up: weights 0 and 0.05 instead of these.
        (0.05, (-1.0, -1.0, 1.0, 1.0), [0.0, 0.0, 0.15, 0.3]),
        (0.95, (1.0, 1.0, -1.0, -1.0), [1.0, 1.0, 0.85, 0.7]),
        (0.05, (-1.0, 1.0, -1.0, 1.0), [0.0, 0.15, 0.0, 0.15]),
        (0.05, (-1.0, 1.0, 1.0, 1.0), [0.0, 0.15, 0.3, 0.35]),  # at most 0.05 + 0.3
        (0.5, (-1.0, -1.0, -1.0, 1.0), [None, 0.2, 0.2, 0.35]),  # at least 0.5 - 0.3, wherever the start was
        (0.05, (-1.0, 0.0, 0.0, 1.0), [0.0, 0.0, 0.0, 0.15]),
    ],
    ids=str,
)
def test_a_weight_at_the_edge_comes_back_by_a_whole_step_when_the_slope_turns(
    weight: float, slopes: tuple[float, ...], expected: list[float | None]
) -> None:
    table = torch.tensor([[weight]], dtype=F64)
    for seed in range(99):  # to a start on the side to which the first step goes
        loss = Steps(*slopes)
        (end,) = adversarially_perturbed([table], 0.3, draws(seed), loss, steps=4)
        if (loss.seen[0] - weight) * slopes[0] > 0:
            break
    assert end is not None
    found = [*loss.seen[1:], float(end)]
    assert len(loss.seen) == 4
    for value, wanted in zip(found, expected, strict=True):
        assert wanted is None or value == pytest.approx(wanted, abs=1e-12)


@given(
    weight=st.floats(0.001, 1.0),
    radius=st.floats(0.01, 1.0),
    slopes=st.lists(st.sampled_from([-2.0, 0.0, 0.5]), min_size=1, max_size=9),
    seed=st.integers(0, 999),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_ascent_is_that_of_plain_numbers(weight: float, radius: float, slopes: list[float], seed: int) -> None:
    """Projection onto both intervals after each step: one number at a time, without tensors."""
    table = torch.tensor([[weight]], dtype=F64)
    (start,) = randomly_perturbed([table], radius, draws(seed))
    assert start is not None
    low, high = max(0.0, weight - radius), min(1.0, weight + radius)
    expected = [float(start)]
    for slope in slopes:
        step = 2 * radius / len(slopes) * ((slope > 0) - (slope < 0))
        expected.append(min(high, max(low, expected[-1] + step)))
    loss = Steps(*slopes)
    (end,) = adversarially_perturbed([table], radius, draws(seed), loss, steps=len(slopes))
    assert end is not None
    assert [*loss.seen, float(end)] == pytest.approx(expected, abs=1e-12)


def test_adversary_makes_a_curved_loss_larger_than_the_table_and_the_random_start() -> None:
    target = softmax(seed=11)

    def loss(tables: Tables) -> Tensor:
        (table,) = tables
        assert table is not None
        return (table - target).square().sum() + table.sin().sum()

    for seed in range(10):
        table = softmax(seed=seed)
        (start,), (end,) = (
            randomly_perturbed([table], 0.1, draws(seed)),
            adversarially_perturbed([table], 0.1, draws(seed), loss),
        )
        assert float(loss([end])) > float(loss([start]))
        assert float(loss([end])) > float(loss([table]))
        assert end is not None
        assert float((end - table).abs().max()) <= 0.1 + 1e-12
        assert 0.0 <= float(end.min()) <= float(end.max()) <= 1.0


def test_loss_without_a_gradient_leaves_the_random_start() -> None:
    mixing, *_ = two_types()
    start = randomly_perturbed(mixing, 0.3, draws(2))
    out = adversarially_perturbed(mixing, 0.3, draws(2), lambda tables: torch.ones(()))
    assert all(torch.equal(a, b) for a, b in zip(distinct(start), distinct(out), strict=True))


def test_adversary_leaves_no_gradient_behind_and_keeps_that_of_the_table() -> None:
    alphas = torch.randn(3, 4, generator=draws(), dtype=F64, requires_grad=True)
    table = alphas.softmax(1)
    (out,) = adversarially_perturbed([table], 0.05, draws(), lambda t: t[0].square().sum())  # type: ignore[union-attr]
    assert alphas.grad is None
    assert out is not None
    (gradient,) = torch.autograd.grad(out[0, 0] - table[0, 0], alphas)
    assert float(gradient.abs().max()) < 1e-15  # the change is a constant


# ---------------------------------------------------------------------------------------------------------------- skips


@pytest.mark.parametrize("shape", [(4, 3), (4, 6, 3)])
def test_expectation_of_the_weights_is_unchanged(shape: tuple[int, ...]) -> None:
    table = torch.rand(shape, generator=draws(), dtype=F64)
    numbers = draws(1)
    total = torch.zeros_like(table)
    for _ in range(4000):
        (dropped,) = skips_dropped([table], at(1, edges=4, candidates=3), 0.3, numbers)
        assert dropped is not None
        total += dropped
    # The standard error of a factor is sqrt(0.3 / 0.7 / 4000) = 0.0104.
    torch.testing.assert_close(total / 4000, table, rtol=0.04, atol=0.0)


@pytest.mark.parametrize("shape", [(40, 3), (40, 6, 3)])
def test_skip_is_left_out_or_scaled_and_the_others_stay(shape: tuple[int, ...]) -> None:
    table = 0.1 + torch.rand(shape, generator=draws(), dtype=F64)
    (dropped,) = skips_dropped([table], at(2, edges=40, candidates=3), 0.25, draws(1))
    assert dropped is not None
    assert torch.equal(dropped[..., :2], table[..., :2])
    factors = (dropped / table)[..., 2].reshape(40, -1)
    kept = factors[:, 0] > 0
    assert torch.equal(factors > 0, kept[:, None].expand_as(factors))  # one decision for the whole batch
    assert 20 <= int(kept.sum()) < 40
    torch.testing.assert_close(factors[kept, 0], torch.full((int(kept.sum()),), 1 / 0.75, dtype=F64))


def test_edges_and_cells_of_a_type_are_decided_one_by_one() -> None:
    table = torch.full((30, 2), 0.5, dtype=F64)
    first, second = skips_dropped([table, table], at(0, 0, edges=30, candidates=2), 0.5, draws())
    assert first is not None
    assert second is not None
    assert 0 < int((first[:, 0] == 0).sum()) < 30
    assert not torch.equal(first, second)


def test_cells_without_a_skip_or_a_choice_are_untouched() -> None:
    table = softmax()
    out = skips_dropped([table, None, table, None, table], [*at(None, 1, 2, None), at(9)[0]], 0.9, draws())
    assert out[0] is table
    assert out[1] is out[3] is None
    assert out[2] is not table
    assert out[4] is not None
    assert torch.equal(out[4], table)  # no edge has one


@pytest.mark.parametrize("shape", [(60, 3), (60, 4), (60, 2, 4)], ids=str)
def test_skips_are_where_the_mask_says_and_the_last_column_of_what_passes_is_left_alone(shape: tuple[int, ...]) -> None:
    """Edge by edge: one has its skip first, one last, one nowhere."""
    table = 0.1 + torch.rand(shape, generator=draws(), dtype=F64)
    places = torch.zeros(60, 3, dtype=torch.bool)
    for edge in range(60):
        if edge % 3 < 2:
            places[edge, (0, 2)[edge % 3]] = True
    (dropped,) = skips_dropped([table], [places], 0.2, draws(1))
    assert dropped is not None
    factors = (dropped / table).reshape(60, -1, shape[-1])
    seen: dict[float, int] = {}
    for edge in range(60):
        for k in range(shape[-1]):
            if k < 3 and bool(places[edge, k]):
                (factor,) = {round(value, 9) for value in factors[edge, :, k].tolist()}
                seen[factor] = seen.get(factor, 0) + 1
            else:
                assert torch.equal(dropped[edge, ..., k], table[edge, ..., k])
    assert set(seen) == {0.0, 1.25}
    assert seen[1.25] > seen[0.0] > 0
    assert sum(seen.values()) == 40


def test_gradient_of_a_kept_skip_is_scaled_with_it_beside_channels_that_pass() -> None:
    table = torch.rand(30, 5, generator=draws(), dtype=F64).requires_grad_()
    (dropped,) = skips_dropped([table], at(3, edges=30), 0.75, draws())
    assert dropped is not None
    (gradient,) = torch.autograd.grad(dropped.sum(), table)
    assert set(gradient[:, 3].tolist()) == {0.0, 4.0}
    assert torch.equal(gradient[:, [0, 1, 2, 4]], torch.ones(30, 4, dtype=F64))


def test_a_dropped_skip_takes_no_part_in_the_gradient() -> None:
    table = softmax().requires_grad_()
    (dropped,) = skips_dropped([table], at(0), 0.5, draws())
    assert dropped is not None
    (gradient,) = torch.autograd.grad(dropped.sum(), table)
    assert set(gradient[:, 0].tolist()) == {0.0, 2.0}
    assert torch.equal(gradient[:, 1:], torch.ones(5, 3, dtype=F64))


def test_precision_of_the_table_is_kept() -> None:
    table = softmax().float()
    outs = (
        randomly_perturbed([table], 0.1, draws()),
        adversarially_perturbed([table], 0.1, draws(), lambda t: t[0].sum()),  # type: ignore[union-attr]
        skips_dropped([table], at(0), 0.5, draws()),
    )
    assert [out[0].dtype for out in outs if out[0] is not None] == [torch.float32] * 3
