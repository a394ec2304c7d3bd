"""Tests of ``src/gradnas/ops/drop_path.py``."""

import pytest
import torch
from torch import nn

from gradnas.ops import DropPath_


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_samples_are_dropped_or_scaled_as_a_whole() -> None:
    x = torch.randn(64, 3, 2, 2, generator=seeded())
    y = DropPath_(0.5, seeded(1))(x)
    dropped = (y == 0).flatten(1).all(1)
    assert 0 < dropped.sum() < 64
    assert torch.equal(y[~dropped], 2 * x[~dropped])


def test_expectation_is_the_input() -> None:
    n, p = 200_000, 0.3
    mean = DropPath_(p, seeded())(torch.ones(n, 1, 1, 1, dtype=torch.float64)).mean().item()
    deviation = (p / (1 - p) / n) ** 0.5
    assert abs(mean - 1) < 4 * deviation


def test_bfloat16_is_scaled_as_float32_is() -> None:
    """1 / 0.9 rounded to bfloat16 first would make every output 0.2 % too small."""
    x = torch.randn(64, 3, 2, 2, generator=seeded()).bfloat16()
    dropped, wide = DropPath_(0.1, seeded(1))(x), DropPath_(0.1, seeded(1))(x.float())
    assert dropped.dtype is torch.bfloat16
    assert torch.equal(dropped, wide.bfloat16())


def test_share_of_dropped_samples_is_p() -> None:
    n, p = 200_000, 0.2
    dropped = (DropPath_(p, seeded())(torch.ones(n, 1, 1, 1)) == 0).double().mean().item()
    assert abs(dropped - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_same_generator_state_gives_the_same_draws() -> None:
    x = torch.randn(32, 2, 3, 3, generator=seeded())
    assert torch.equal(DropPath_(0.5, seeded(7))(x), DropPath_(0.5, seeded(7))(x))
    assert not torch.equal(DropPath_(0.5, seeded(7))(x), DropPath_(0.5, seeded(8))(x))


def test_own_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    DropPath_(0.5, seeded())(torch.ones(4, 1, 1, 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_input_is_not_modified() -> None:
    x = torch.randn(16, 2, 2, 2, generator=seeded())
    before = x.clone()
    DropPath_(0.5, seeded())(x)
    assert torch.equal(x, before)


def test_evaluation_returns_the_input_itself() -> None:
    x = torch.ones(4, 1, 1, 1)
    assert DropPath_(0.9).eval()(x) is x


def test_evaluation_mode_reaches_it_inside_a_network() -> None:
    x = torch.ones(64, 1, 1, 1)
    assert torch.equal(nn.Sequential(DropPath_(0.9, seeded())).eval()(x), x)


def test_probability_zero_returns_the_input_itself_and_draws_nothing() -> None:
    x, generator = torch.ones(4, 1, 1, 1), seeded()
    before = generator.get_state()
    assert DropPath_(0.0, generator)(x) is x
    assert torch.equal(generator.get_state(), before)


def test_gradient_flows_through_kept_samples_only() -> None:
    x = torch.ones(64, 2, 1, 1, requires_grad=True)
    y = DropPath_(0.5, seeded())(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_dtype_follows_the_input() -> None:
    assert DropPath_(0.5)(torch.ones(2, 1, dtype=torch.bfloat16)).dtype is torch.bfloat16


def test_print_shows_the_probability() -> None:
    assert repr(DropPath_(0.25)) == "DropPath_(p=0.25)"


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_probability_outside_the_range_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match=f"must be at least 0 and below 1, got {p}"):
        DropPath_(p)
