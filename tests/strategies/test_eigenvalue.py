"""Tests of ``src/gradnas/strategies/eigenvalue.py``.

References: matrices whose eigenvalues LAPACK knows, and the whole Hessian of a small supergraph, whose mixing weights
are written out here.
"""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F

from gradnas.spaces import DartsSpace
from gradnas.strategies import PcDarts
from gradnas.strategies.eigenvalue import lanczos, largest_eigenvalue
from gradnas.supergraph import Model, fixed, untouched_statistics

F64 = torch.float64


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def with_spectrum(values: Sequence[float], seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues."""
    basis = torch.linalg.qr(numbers(len(values), len(values), seed=seed)).Q
    return basis @ torch.diag(torch.tensor(values, dtype=F64)) @ basis.T


def symmetric(size: int, seed: int = 0) -> Tensor:
    square = numbers(size, size, seed=seed)
    return square + square.T


def of_quadratic(matrix: Tensor, *, products: int | None = None, tolerance: float = 0.0) -> float:
    """Of ½ xᵀAx + bᵀx at a random point, x being cut into parameters of different shapes."""
    size = len(matrix)
    first = size // 2
    x = numbers(size, seed=99)
    parts = [Parameter(part.clone()) for part in (x[:first].view(-1, 1), x[first:]) if part.numel()]
    whole = torch.cat([part.flatten() for part in parts])
    loss = 0.5 * whole @ matrix @ whole + numbers(size, seed=98) @ whole
    return largest_eigenvalue(loss, parts, products=size if products is None else products, tolerance=tolerance)


def largest(matrix: Tensor) -> float:
    return float(torch.linalg.eigvalsh(matrix)[-1])


# ----------------------------------------------------------------------------------------------------------- quadratics


@pytest.mark.parametrize("size", range(1, 31))
def test_as_many_products_as_parameters_give_the_eigenvalue_exactly(size: int) -> None:
    for seed in range(3):
        matrix = symmetric(size, seed)
        assert of_quadratic(matrix) == pytest.approx(largest(matrix), rel=1e-8)


def test_known_answer() -> None:
    assert of_quadratic(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=F64)) == pytest.approx(3.0, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_value_follows_the_scale_of_the_loss(scale: float) -> None:
    matrix = symmetric(8) * scale
    assert of_quadratic(matrix) == pytest.approx(largest(matrix), rel=1e-8)


@pytest.mark.parametrize(
    ("spectrum", "expected"),
    [
        ([-100.0, -1.0, 0.5, 2.0], 2.0),
        ([-100.0, -99.0, -98.0, 0.25, 0.0, -5.0], 0.25),
        ([-7.0, -3.0, -5.0], -3.0),
        ([-100.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.0),  # all products lie in two directions
        ([-1000.0] * 12 + [1.0], 1.0),
    ],
)
def test_largest_algebraic_value_is_found_where_a_negative_one_dominates(
    spectrum: list[float], expected: float
) -> None:
    for seed in range(3):
        assert of_quadratic(with_spectrum(spectrum, seed)) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    "spectrum",
    [[3.0] * 6, [3.0, 3.0, 3.0, -1.0, -1.0, 0.0], [5.0, 5.0, 1.0, 1.0], [4.0, *[0.0] * 11], [2.0, *[-2.0] * 8]],
)
def test_repeated_eigenvalues(spectrum: list[float]) -> None:
    for seed in range(3):
        assert of_quadratic(with_spectrum(spectrum, seed)) == pytest.approx(max(spectrum), rel=1e-8)


def test_zero_hessian_gives_zero() -> None:
    assert of_quadratic(torch.zeros(5, 5, dtype=F64)) == 0.0


def test_linear_loss_gives_zero() -> None:
    x = Parameter(numbers(4))
    assert largest_eigenvalue((2.0 * x).sum(), [x]) == 0.0


def test_parameter_without_a_part_in_the_loss_changes_nothing() -> None:
    x, unused = Parameter(numbers(3)), Parameter(numbers(4))
    loss = (torch.tensor([1.0, 2.0, 3.0], dtype=F64) * x.square()).sum()
    assert largest_eigenvalue(loss, [unused, x], products=7, tolerance=0.0) == pytest.approx(6.0, rel=1e-10)


def test_hessian_is_that_at_the_present_point() -> None:
    x = Parameter(torch.tensor([0.5, -2.0], dtype=F64))
    assert largest_eigenvalue(x.pow(4).sum(), [x], products=2, tolerance=0.0) == pytest.approx(12 * 4.0, rel=1e-10)


def test_default_settings_come_within_a_few_percent() -> None:
    for seed in range(5):
        matrix = symmetric(224, seed)  # as many parameters as the DARTS space has
        found = of_quadratic(matrix, products=20, tolerance=0.01)
        assert found == pytest.approx(largest(matrix), rel=0.05)
        assert found <= largest(matrix) * (1 + 1e-9)


def test_same_loss_gives_the_same_number_bit_for_bit() -> None:
    assert of_quadratic(symmetric(40), products=6) == of_quadratic(symmetric(40), products=6)


def counted(matrix: Tensor, *, products: int, tolerance: float) -> tuple[float, int]:
    calls = 0

    def times(vector: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return matrix @ vector

    return lanczos(times, len(matrix), products=products, tolerance=tolerance, like=matrix), calls


def test_products_are_a_limit_and_a_settled_value_ends_early() -> None:
    matrix = with_spectrum([100.0, *torch.linspace(-1.0, 1.0, 59).tolist()])
    value, calls = counted(matrix, products=20, tolerance=0.01)
    assert 3 <= calls < 10
    assert value == pytest.approx(100.0, rel=0.01)
    assert counted(matrix, products=4, tolerance=0.0)[1] == 4
    assert counted(matrix, products=1, tolerance=0.0)[1] == 1
    assert counted(torch.eye(30, dtype=F64), products=20, tolerance=0.0) == (pytest.approx(1.0), 1)


def test_tolerance_is_the_share_by_which_the_value_still_changed() -> None:
    matrix = symmetric(60)
    steps = [counted(matrix, products=k, tolerance=0.0)[0] for k in range(1, 31)]
    for tolerance in (0.2, 0.05, 0.01, 1e-4):
        first = next(k for k in range(1, 30) if abs(steps[k] - steps[k - 1]) <= tolerance * abs(steps[k]))
        assert counted(matrix, products=30, tolerance=tolerance) == (pytest.approx(steps[first], rel=1e-12), first + 1)


def test_vectors_stay_orthonormal() -> None:
    """Without orthogonalization a well separated value appears again and again, and the others come too late."""
    matrix, seen = with_spectrum([1e6, *range(59)]), []

    def times(vector: Tensor) -> Tensor:
        seen.append(vector)
        return matrix @ vector

    lanczos(times, 60, products=30, tolerance=-1.0, like=matrix)
    basis = torch.stack(seen)
    assert len(basis) == 30
    torch.testing.assert_close(basis @ basis.T, torch.eye(30, dtype=F64), rtol=0.0, atol=1e-12)


def test_no_product_at_all_is_refused() -> None:
    x = Parameter(numbers(2))
    with pytest.raises(ValueError, match="products must be at least 1, got 0"):
        largest_eigenvalue(x.square().sum(), [x], products=0)


# ----------------------------------------------------------------------------------------------------------- supergraph

PRIMITIVES = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]
ENDS = [0, 0, 1, 1, 1]  # the node of each edge of a cell with two nodes


def problem(kind: str, fused: bool) -> tuple[Model, Tensor, Tensor]:
    desc = DartsSpace(1, 8, 3, channels=4, cells=3, nodes=2, reductions=1, primitives=PRIMITIVES).build()
    strategy = PcDarts(partial=2) if kind == "pcdarts" else None
    torch.manual_seed(3)
    model = Model(desc if strategy is None else strategy.supergraph(desc), affine=False, fused=fused)
    if strategy is not None:
        model.set_mixing_rule(strategy.mixing_rule)
    with torch.no_grad():
        for i, alpha in enumerate(model.all_owned().values()):
            alpha.copy_(numbers(*alpha.shape, seed=i))
    y = torch.randint(3, (6,), generator=torch.Generator().manual_seed(5))
    return model.double().train(), numbers(6, 1, 8, 8, seed=4), y


def by_hand(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """The Hessian in all architecture parameters, from the formulas of the mixing weights."""
    owned = [p.detach() for p in model.all_owned().values()]
    start = torch.cat([p.flatten() for p in owned])

    def loss(flat: Tensor) -> Tensor:
        edges: list[Tensor] = []
        betas: list[Tensor] = []
        for part, like in zip(flat.split([p.numel() for p in owned]), owned, strict=True):
            (betas if like.dim() == 0 else edges).append(part)
        tables = torch.stack(edges).softmax(1).view(2, 5, 4)
        if betas:
            gamma = torch.cat(betas).view(2, 5).exp()
            sums = torch.stack([sum(gamma[:, e] for e in range(5) if ENDS[e] == end) for end in ENDS], dim=1)  # type: ignore[misc]
            gamma = (gamma / sums).unsqueeze(2)
            tables = torch.cat([tables * gamma, gamma], dim=2)  # what passes by weighs gamma itself
        return F.cross_entropy(model(x, [tables[0], tables[1], tables[0]])[0], y)

    with untouched_statistics(model), fixed(model.parameters()):
        hessian = torch.autograd.functional.hessian(loss, start)
    assert isinstance(hessian, Tensor)
    return hessian


def monitored(model: Model, x: Tensor, y: Tensor, **settings: float) -> float:
    with untouched_statistics(model), fixed(model.weights()):
        loss = F.cross_entropy(model(x, model.probabilities())[0], y)
        return largest_eigenvalue(loss, list(model.all_owned().param_by_kind()), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", ["darts", "pcdarts"])
def test_value_of_a_supergraph_is_that_of_its_whole_hessian(kind: str, fused: bool) -> None:
    model, x, y = problem(kind, fused)
    exact = by_hand(problem(kind, False)[0], x, y)
    assert len(exact) == (50 if kind == "pcdarts" else 40)
    torch.testing.assert_close(exact, exact.T, rtol=1e-8, atol=1e-10)
    assert monitored(model, x, y, products=len(exact), tolerance=0.0) == pytest.approx(largest(exact), rel=1e-6)
    assert monitored(model, x, y) == pytest.approx(largest(exact), rel=0.03)


@pytest.mark.parametrize("fused", [False, True])
def test_model_and_generator_are_left_as_they_were(fused: bool) -> None:
    model, x, y = problem("darts", fused)
    F.cross_entropy(model(x)[0], y).backward()  # statistics that moved, and gradients of every kind
    model.cells[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    modes, generator = [m.training for m in model.modules()], torch.get_rng_state()
    monitored(model, x, y)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert (p.grad is None) == (gradient is None)
        assert gradient is None or (p.grad is not None and torch.equal(p.grad, gradient))
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(generator, torch.get_rng_state())
    assert all(p.requires_grad for p in model.parameters())
