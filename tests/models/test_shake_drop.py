import math

import pytest
import torch

from gradnas.models import ShakeDrop, keep_probability


def both(drop: ShakeDrop, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors forward and backward of n examples in one batch."""
    x = torch.ones(n, 2, requires_grad=True)
    y = drop(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(y[:, 0], y[:, 1])
    assert torch.equal(grad[:, 0], grad[:, 1])
    return y[:, 0].detach(), grad[:, 0]


def test_a_kept_branch_is_the_identity_both_ways() -> None:
    forward, backward = both(ShakeDrop(1.0), 50)
    assert torch.equal(forward, torch.ones(50))
    assert torch.equal(backward, torch.ones(50))


def test_a_dropped_branch_is_scaled_for_each_image_by_independent_numbers() -> None:
    n = 20_000
    forward, backward = both(ShakeDrop(0.0, generator=torch.Generator().manual_seed(0)), n)
    assert abs(float(forward.mean())) < 4 * math.sqrt(1 / 3 / n)
    assert abs(float(backward.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / n)
    assert -1 <= float(forward.min()) < -0.99 < 0.99 < float(forward.max()) <= 1
    assert 0 <= float(backward.min()) < 0.01 < 0.99 < float(backward.max()) <= 1
    assert abs(float(torch.corrcoef(torch.stack([forward, backward]))[0, 1])) < 4 / math.sqrt(n)


def test_one_gate_decides_for_the_batch_and_for_both_passes() -> None:
    drop, kept = ShakeDrop(0.7, generator=torch.Generator().manual_seed(0)), 0
    for _ in range(400):
        forward, backward = both(drop, 3)
        is_kept = bool((forward == 1).all())
        assert is_kept is bool((backward == 1).all())
        assert is_kept or not bool((forward == 1).any())
        kept += is_kept
    assert abs(kept / 400 - 0.7) < 4 * math.sqrt(0.7 * 0.3 / 400)


@pytest.mark.parametrize(("alphas", "factor"), [((-1.0, 1.0), 0.7), ((0.0, 1.0), 0.85)])
def test_evaluation_scales_by_the_expectation_in_value_and_gradient(alphas: tuple[float, float], factor: float) -> None:
    x = torch.randn(4, 3, requires_grad=True)
    y = ShakeDrop(0.7, alphas=alphas).eval()(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(y, factor * x)
    torch.testing.assert_close(grad, torch.full_like(x, factor))


def test_the_keep_probability_falls_linearly_to_one_half() -> None:
    assert [keep_probability(k, 4) for k in (1, 2, 3, 4)] == pytest.approx([0.875, 0.75, 0.625, 0.5])
    assert keep_probability(4, 4, last=0.8) == pytest.approx(0.8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_of_the_input_is_kept(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, dtype=dtype, requires_grad=True)
    y = ShakeDrop(0.0)(x)
    y.sum().backward()
    assert y.dtype is dtype
    assert x.grad is not None
    assert x.grad.dtype is dtype


def test_what_is_no_probability_or_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1.5"):
        ShakeDrop(1.5)
    with pytest.raises(ValueError, match=r"betas must be a range \(low, high\), got \(1.0, 0.0\)"):
        ShakeDrop(betas=(1.0, 0.0))
