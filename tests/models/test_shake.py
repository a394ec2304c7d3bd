import math

import pytest
import torch
from torch import Tensor

from gradnas.models import ShakeMode, ShakeShake

MODES = [(f, b, level) for f in ("shake", "even") for b in ("shake", "even", "keep") for level in ("image", "batch")]


def pair(n: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    x1, x2 = (torch.randn(n, 3, 2, 2, generator=draws, dtype=dtype) for _ in range(2))
    return x1.requires_grad_(), x2.requires_grad_()


def coefficients(mode: tuple[str, str, str], seed: int = 7) -> tuple[Tensor, Tensor]:
    """a and b as the numbers of the generator say: a is drawn in the forward pass, b in the backward pass."""
    forward, backward, level = mode
    draws, n = torch.Generator().manual_seed(seed), 5 if level == "image" else 1

    def drawn() -> Tensor:
        return torch.rand((n, 1, 1, 1), generator=draws)

    half = torch.full((n, 1, 1, 1), 0.5)
    a = drawn() if forward == "shake" else half
    b = {"shake": drawn, "even": lambda: half, "keep": lambda: a}[backward]()
    return a.double(), b.double()


@pytest.mark.parametrize("mode", MODES)
def test_forward_and_backward_follow_the_table(mode: tuple[str, str, str]) -> None:
    x1, x2 = pair()
    a, b = coefficients(mode)
    y = ShakeShake.apply(x1, x2, True, *mode, torch.Generator().manual_seed(7))
    torch.testing.assert_close(y, a * x1 + (1 - a) * x2, rtol=0, atol=1e-12)
    grad = torch.randn_like(y)
    g1, g2 = torch.autograd.grad(y, (x1, x2), grad)
    torch.testing.assert_close(g1, b * grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(g2, (1 - b) * grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_it_equals_the_formulation_with_a_stopped_gradient(mode: tuple[str, str, str]) -> None:
    x1, x2 = pair()
    a, b = coefficients(mode)
    oracle = b * x1 + (1 - b) * x2 + ((a - b) * x1 - (a - b) * x2).detach()
    y = ShakeShake.apply(x1, x2, True, *mode, torch.Generator().manual_seed(7))
    grad = torch.randn_like(y)
    torch.testing.assert_close(y, oracle, rtol=0, atol=1e-12)
    for got, wanted in zip(
        torch.autograd.grad(y, (x1, x2), grad), torch.autograd.grad(oracle, (x1, x2), grad), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_the_default_is_shake_shake_image() -> None:
    x1, x2 = pair()
    torch.manual_seed(3)
    default = ShakeShake.apply(x1, x2)
    torch.manual_seed(3)
    named = ShakeShake.apply(x1, x2, True, "shake", "shake", "image")
    assert torch.equal(default, named)
    assert not torch.equal(default, ShakeShake.apply(x1, x2))  # drawn anew


def test_evaluation_is_exactly_the_mean_and_twice_the_same() -> None:
    for mode in MODES:
        x1, x2 = pair(dtype=torch.float32)
        outputs, grads = [], []
        for _ in range(2):
            y = ShakeShake.apply(x1, x2, False, *mode)
            outputs.append(y)
            grads.append(torch.autograd.grad(y.sum(), (x1, x2)))
        assert torch.equal(outputs[0], (x1 + x2) / 2)
        assert torch.equal(outputs[0], outputs[1])
        for grad in (*grads[0], *grads[1]):
            assert torch.equal(grad, torch.full_like(grad, 0.5))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", [("even", "even", "image"), ("even", "keep", "batch"), ("shake", "keep", "image")])
def test_what_is_one_function_both_ways_passes_the_gradient_check(mode: tuple[str, str, str], training: bool) -> None:
    x1, x2 = pair(3)

    def shaken(one: Tensor, other: Tensor) -> Tensor:
        return ShakeShake.apply(one, other, training, *mode, torch.Generator().manual_seed(2))

    assert torch.autograd.gradcheck(shaken, (x1, x2))


def test_the_draws_are_uniform_and_those_of_both_passes_independent() -> None:
    n = 20_000
    ones, zeros = torch.ones(n, 1, requires_grad=True), torch.zeros(n, 1)
    y = ShakeShake.apply(ones, zeros, True, "shake", "shake", "image", torch.Generator().manual_seed(0))
    (b,) = torch.autograd.grad(y.sum(), ones)
    a = y.detach()
    for drawn in (a, b):
        assert abs(float(drawn.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / n)
        assert abs(float(drawn.var()) - 1 / 12) < 0.002
        assert float(drawn.min()) >= 0
        assert float(drawn.max()) < 1
    assert abs(float(torch.corrcoef(torch.stack([a[:, 0], b[:, 0]]))[0, 1])) < 4 / math.sqrt(n)


def test_the_mean_of_many_backward_draws_is_half_the_gradient() -> None:
    x1, x2 = pair(1)
    y = ShakeShake.apply(x1, x2, True, "shake", "shake", "image", torch.Generator().manual_seed(0))
    grads = [torch.autograd.grad(y.sum(), x1, retain_graph=True)[0][0, 0, 0, 0] for _ in range(2000)]
    assert len(set(map(float, grads))) > 1900
    assert abs(float(torch.stack(grads).mean()) - 0.5) < 4 * math.sqrt(1 / 12 / 2000)


@pytest.mark.parametrize(("level", "several"), [("image", True), ("batch", False)])
def test_the_level_says_whether_examples_differ(level: str, several: bool) -> None:
    ones, zeros = torch.ones(4, 2, requires_grad=True), torch.zeros(4, 2)
    y = ShakeShake.apply(ones, zeros, True, "shake", "shake", level)
    (b,) = torch.autograd.grad(y.sum(), ones)
    for drawn in (y, b):
        assert (len(set(drawn[:, 0].tolist())) > 1) is several
        assert torch.equal(drawn[:, 0], drawn[:, 1])  # one number for all of an example


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_type_of_the_input_is_kept(dtype: torch.dtype) -> None:
    x1, x2 = pair(dtype=dtype)
    y = ShakeShake.apply(2 * x1, x2)  # not a leaf
    y.sum().backward()
    assert y.dtype is dtype
    assert x1.grad is not None
    assert x1.grad.dtype is dtype


def test_it_can_be_differentiated_twice() -> None:
    x1, x2 = pair(2)
    y = ShakeShake.apply(x1**2, x2**2, True, "even", "even")
    (first,) = torch.autograd.grad(y.sum(), x1, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x1)
    torch.testing.assert_close(second, torch.ones_like(second))


def test_what_does_not_fit_is_refused() -> None:
    x1, x2 = pair()
    with pytest.raises(ValueError, match=r"one shape, got \(5, 3, 2, 2\) and \(4, 3, 2, 2\)"):
        ShakeShake.apply(x1, x2[:4])
    with pytest.raises(ValueError, match=r"unknown Shake-Shake forward mode 'keep'"):
        ShakeShake.apply(x1, x2, True, "keep")
    with pytest.raises(ValueError, match=r"backward mode 'shaken'. Did you mean 'shake'"):
        ShakeShake.apply(x1, x2, True, "shake", "shaken")
    with pytest.raises(ValueError, match=r"level 'pixel'"):
        ShakeShake.apply(x1, x2, True, "shake", "shake", "pixel")


def test_modes_have_published_names() -> None:
    assert ShakeMode.of("Shake-Keep-Batch") == ShakeMode("shake", "keep", "batch")
    assert ShakeMode.of("even-even") == ShakeMode("even", "even", "image")
    assert str(ShakeMode()) == "shake-shake-image"
    for name, what in (("keep-shake", "forward mode"), ("shake", "FORWARD-BACKWARD"), ("shake-even-row", "level")):
        with pytest.raises(ValueError, match=what):
            ShakeMode.of(name)
