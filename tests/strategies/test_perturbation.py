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
    assert radii == pytest.approx([0.03 + 0.27 * epoch / epochs for epoch in range(epochs)])
    assert radius_at(0.3, epochs, epochs) == pytest.approx(0.3)


def test_radius_is_never_larger_than_asked_for() -> None:
    assert [radius_at(0.01, epoch, 5) for epoch in range(5)] == [0.01] * 5
    assert max(radius_at(0.3, epoch, 50) for epoch in range(50)) < 0.3


@pytest.mark.parametrize("epochs", [1, 2, 5, 50])
def test_skip_rate_falls_by_a_factor_e_in_each_fifth(epochs: int) -> None:
    rates = [skip_rate_at(0.4, epoch, epochs) for epoch in range(epochs)]
    assert rates[0] == 0.4
    assert rates == pytest.approx([0.4 * math.exp(-5 * epoch / epochs) for epoch in range(epochs)])
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_skip_rate_of_the_last_epoch_is_what_the_settings_promise() -> None:
    assert skip_rate_at(1.0, 49, 50) == pytest.approx(0.007, abs=5e-4)
    assert skip_rate_at(1.0, 10, 50) == pytest.approx(math.exp(-1))


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
    skips_dropped(mixing, [1] * 5, 0.5, draws())
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


def test_gradient_reaches_the_table_where_the_weight_is_not_cut() -> None:
    table = torch.tensor([[0.01, 0.5, 0.0, 0.99]], dtype=F64, requires_grad=True)
    for seed in range(20):
        (moved,) = randomly_perturbed([table], 0.3, draws(seed))
        assert moved is not None
        (gradient,) = torch.autograd.grad(moved.sum(), table)
        inside = (moved > 0) & (moved < 1) | (table == 0)
        assert torch.equal(gradient, inside.to(F64))


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
        (dropped,) = skips_dropped([table], [1], 0.3, numbers)
        assert dropped is not None
        total += dropped
    # The standard error of a factor is sqrt(0.3 / 0.7 / 4000) = 0.0104.
    torch.testing.assert_close(total / 4000, table, rtol=0.04, atol=0.0)


@pytest.mark.parametrize("shape", [(40, 3), (40, 6, 3)])
def test_skip_is_left_out_or_scaled_and_the_others_stay(shape: tuple[int, ...]) -> None:
    table = 0.1 + torch.rand(shape, generator=draws(), dtype=F64)
    (dropped,) = skips_dropped([table], [2], 0.25, draws(1))
    assert dropped is not None
    assert torch.equal(dropped[..., :2], table[..., :2])
    factors = (dropped / table)[..., 2].reshape(40, -1)
    kept = factors[:, 0] > 0
    assert torch.equal(factors > 0, kept[:, None].expand_as(factors))  # one decision for the whole batch
    assert 20 <= int(kept.sum()) < 40
    torch.testing.assert_close(factors[kept, 0], torch.full((int(kept.sum()),), 1 / 0.75, dtype=F64))


def test_edges_and_cells_of_a_type_are_decided_one_by_one() -> None:
    table = torch.full((30, 2), 0.5, dtype=F64)
    first, second = skips_dropped([table, table], [0, 0], 0.5, draws())
    assert first is not None
    assert second is not None
    assert 0 < int((first[:, 0] == 0).sum()) < 30
    assert not torch.equal(first, second)


def test_cells_without_a_skip_or_a_choice_are_untouched() -> None:
    table = softmax()
    out = skips_dropped([table, None, table], [None, 1, 2], 0.9, draws())
    assert out[0] is table
    assert out[1] is None
    assert out[2] is not table


def test_a_dropped_skip_takes_no_part_in_the_gradient() -> None:
    table = softmax().requires_grad_()
    (dropped,) = skips_dropped([table], [0], 0.5, draws())
    assert dropped is not None
    (gradient,) = torch.autograd.grad(dropped.sum(), table)
    assert set(gradient[:, 0].tolist()) == {0.0, 2.0}
    assert torch.equal(gradient[:, 1:], torch.ones(5, 3, dtype=F64))


def test_precision_of_the_table_is_kept() -> None:
    table = softmax().float()
    outs = (
        randomly_perturbed([table], 0.1, draws()),
        adversarially_perturbed([table], 0.1, draws(), lambda t: t[0].sum()),  # type: ignore[union-attr]
        skips_dropped([table], [0], 0.5, draws()),
    )
    assert [out[0].dtype for out in outs if out[0] is not None] == [torch.float32] * 3
