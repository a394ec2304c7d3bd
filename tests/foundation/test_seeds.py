"""Tests of ``src/gradnas/foundation/seeds.py``."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnas.foundation.seeds import derive_seed, generator, seeded_initialization

# Written down once: every process on every machine must see these numbers for ever, or old runs cannot be repeated.
KNOWN: list[tuple[tuple[int, str, *tuple[int, ...]], int]] = [
    ((0, "train.order"), 7385763702634258552),
    ((0, "train.order", 0), 779752698111844394),
    ((0, "train.order", 0, 0), 6374544415828206701),
    ((1, "train.order"), 8270511361290492248),
    ((-1, "split"), 2513251895257980069),
    ((2**64, "split"), 2608313445865836642),
]


@pytest.mark.parametrize(("arguments", "seed"), KNOWN)
def test_seed_is_the_committed_one(arguments: tuple[int, str], seed: int) -> None:
    assert derive_seed(*arguments) == seed


purposes = st.text(max_size=8).filter(lambda text: "/" not in text)
arguments = st.tuples(st.integers(), purposes, st.lists(st.integers(), max_size=3))


@given(a=arguments, b=arguments)
@settings(max_examples=50, deadline=None)
def test_seed_fits_in_63_bits_and_differs_when_an_argument_does(
    a: tuple[int, str, list[int]], b: tuple[int, str, list[int]]
) -> None:
    seed_a, seed_b = (derive_seed(seed, purpose, *counters) for seed, purpose, counters in (a, b))
    assert 0 <= seed_a < 2**63
    assert (seed_a == seed_b) == (a == b)


def test_whole_numbers_of_other_types_count_as_such() -> None:
    assert derive_seed(np.int64(3), "x", torch.tensor(4)) == derive_seed(3, "x", 4)  # type: ignore[arg-type]


def test_fraction_is_refused_rather_than_cut() -> None:
    with pytest.raises(TypeError, match="float"):
        derive_seed(0.5, "x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float"):
        derive_seed(0, "x", 1.0)  # type: ignore[arg-type]


def test_purpose_with_a_slash_is_refused_because_it_could_pass_for_a_counter() -> None:
    with pytest.raises(ValueError, match=r"must not contain a slash, got 'x/1'"):
        derive_seed(0, "x/1")


def test_generator_gives_the_committed_numbers() -> None:
    numbers = torch.rand(3, generator=generator(0, "split"), dtype=torch.float32)
    expected = torch.tensor([0.12609177827835083, 0.8581797480583191, 0.6296137571334839])
    assert torch.equal(numbers, expected)


def test_generator_counts() -> None:
    one, again, other = (torch.rand(4, generator=generator(0, "x", step)) for step in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(4, generator=generator(0, "x"))
    assert torch.equal(torch.get_rng_state(), before)


def test_initialization_depends_on_the_seed_and_the_purpose_only() -> None:
    def weights(seed: int, purpose: str) -> torch.Tensor:
        torch.rand(1)  # something moved the global generator in between
        with seeded_initialization(seed, purpose):
            return torch.nn.Linear(3, 3).weight.detach()

    first = weights(0, "init")
    assert torch.equal(weights(0, "init"), first)
    assert not torch.equal(weights(1, "init"), first)
    assert not torch.equal(weights(0, "other"), first)


def test_initialization_restores_the_global_generator() -> None:
    before = torch.get_rng_state()
    with seeded_initialization(0, "init"):
        torch.nn.Linear(3, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_initialization_restores_the_global_generator_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded_initialization(0, "init"):
        _ = torch.rand(3) / (1 // 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_nested_initializations_do_not_disturb_each_other() -> None:
    with seeded_initialization(0, "outer"):
        undisturbed = torch.rand(4)
    with seeded_initialization(0, "outer"):
        first = torch.rand(2)
        with seeded_initialization(0, "inner"):
            torch.rand(7)
        second = torch.rand(2)
    assert torch.equal(torch.cat([first, second]), undisturbed)
