"""Tests of ``src/gradnas/strategies/sampling.py``, and of what strategies that draw at random have in common."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD

from gradnas.spaces import DartsSpace
from gradnas.strategies import Batch, DrNas, Gdas, GradientStrategy, Snas
from gradnas.strategies.sampling import Draws, SampledRule, Temperature, gumbel_like
from gradnas.supergraph import Model

CPU = torch.device("cpu")
EPOCHS = [1, 2, 3, 50, 250, 300, 1000]
SPACE = DartsSpace(1, 8, 4, channels=4, cells=3, nodes=1, reductions=1, primitives=("skip_connect", "avg_pool_3x3"))

# --------------------------------------------------------------------------------------------------------- temperature


@pytest.mark.parametrize("annealing", ["linear", "exponential"])
@pytest.mark.parametrize("ends", [(10.0, 0.1), (1.0, 0.03), (0.1, 7.0), (2.0, 2.0), (1 / 3, 1 / 7)], ids=str)
@pytest.mark.parametrize("epochs", EPOCHS)
def test_temperature_stays_between_its_ends_which_are_exact(epochs: int, ends: Sequence[float], annealing: str) -> None:
    temperature = Temperature(ends, annealing)
    values = [temperature.at(epoch, epochs) for epoch in range(epochs)]
    assert all(min(ends) <= value <= max(ends) for value in values)
    assert values[0] == ends[0]
    assert epochs == 1 or values[-1] == ends[1]
    assert sorted(values, reverse=ends[0] > ends[1]) == values


@pytest.mark.parametrize("epochs", EPOCHS[1:])
def test_linear_annealing_loses_as_much_in_each_epoch(epochs: int) -> None:
    temperature = Temperature((10.0, 0.1))
    for epoch in range(epochs):
        assert temperature.at(epoch, epochs) == pytest.approx(10.0 - 9.9 * epoch / (epochs - 1), rel=1e-12)


@pytest.mark.parametrize("epochs", EPOCHS[1:])
def test_exponential_annealing_has_one_factor(epochs: int) -> None:
    temperature = Temperature([1.0, 0.03], "exponential")
    expected = 1.0
    for epoch in range(epochs):
        assert temperature.at(epoch, epochs) == pytest.approx(expected, rel=1e-10)
        expected *= 0.03 ** (1 / (epochs - 1))


def test_rounding_does_not_lead_outside_of_the_ends() -> None:
    low, high = 3.3086702137940054, 3.308670213794006  # neighbours
    for annealing in ("linear", "exponential"):
        temperature = Temperature((low, high), annealing)
        assert all(temperature.at(epoch, n) in (low, high) for n in range(1, 40) for epoch in range(n))


def test_epochs_outside_of_the_search_have_the_temperature_of_its_ends() -> None:
    temperature = Temperature((10.0, 0.1))
    assert [temperature.at(epoch, 5) for epoch in (-1, 5, 50)] == [10.0, 0.1, 0.1]


@pytest.mark.parametrize(
    "ends",
    [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, -0.1), (math.nan, 1.0), (1.0, math.inf), (1.0,), (3.0, 2.0, 1.0), ()],
    ids=str,
)
def test_temperature_out_of_range_is_refused(ends: Sequence[float]) -> None:
    with pytest.raises(ValueError, match=r"temperature must be two positive, finite numbers.*At zero there would be"):
        Temperature(ends)


@pytest.mark.parametrize("annealing", ["", "cosine", "Linear"])
def test_unknown_annealing_is_refused(annealing: str) -> None:
    with pytest.raises(ValueError, match=rf"annealing must be 'linear' or 'exponential', got '{annealing}'"):
        Temperature((1.0, 0.1), annealing)


# --------------------------------------------------------------------------------------------------------------- draws


def numbers(draws: Draws) -> list[float]:
    return torch.rand(3, generator=draws.next(CPU)).tolist()


def test_draws_depend_on_seed_step_purpose_and_how_many_came_before() -> None:
    seen = []
    for seed in (0, 1):
        draws = Draws(seed)
        seen += [numbers(draws), numbers(draws)]  # before the first step
        for purpose in ("architecture", "weights"):
            for step in (0, 1, 2):
                draws.begin(purpose, step)
                seen += [numbers(draws), numbers(draws)]
    assert len({tuple(row) for row in seen}) == len(seen)


def test_draws_repeat_from_the_start_of_a_pass() -> None:
    draws = Draws(3)
    numbers(draws)
    draws.begin("weights", 7)
    first = [numbers(draws), numbers(draws)]
    draws.repeat()
    assert [numbers(draws), numbers(draws)] == first
    other = Draws(3)
    other.begin("weights", 7)
    assert numbers(other) == first[0]


@contextmanager
def untouched_global_state() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


def test_global_numbers_inside_a_seeded_block_follow_from_the_seed_and_are_put_back() -> None:
    rows = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        draws = Draws(5)
        with untouched_global_state():
            for _ in range(2):
                with draws.seeded(CPU):
                    rows.append(torch.rand(3).tolist())
    assert rows[:2] == rows[2:]
    assert rows[0] != rows[1]


def test_global_state_is_put_back_after_an_error() -> None:
    with untouched_global_state(), pytest.raises(ZeroDivisionError), Draws().seeded(CPU):
        raise ZeroDivisionError(torch.rand(2))


# ------------------------------------------------------------------------------------------------------- Gumbel numbers


def test_gumbel_numbers_have_the_distribution_function_of_gumbel() -> None:
    n = 100_000
    with untouched_global_state():
        found = gumbel_like(torch.zeros(n, 1, dtype=torch.float64), Draws(0)).flatten().sort().values
    expected = torch.exp(-torch.exp(-found))
    steps = torch.arange(n + 1) / n
    distance = max(float((steps[1:] - expected).abs().max()), float((steps[:-1] - expected).abs().max()))
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov and Smirnov at 0.1 %


def test_the_largest_of_alpha_plus_noise_is_distributed_as_the_softmax() -> None:
    n, alpha = 100_000, torch.tensor([0.5, -1.0, 0.0, 1.3])
    noisy = alpha + gumbel_like(alpha.expand(n, 4), Draws(1))
    counts = noisy.argmax(dim=1).bincount(minlength=4).double()
    expected = n * alpha.double().softmax(0)
    assert float(((counts - expected).square() / expected).sum()) < 16.27  # chi square, 3 degrees, at 0.1 %


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ten_million_draws_are_finite(dtype: torch.dtype) -> None:
    found = gumbel_like(torch.empty(10**7, dtype=dtype), Draws(2))
    assert found.dtype == torch.float32
    assert bool(found.isfinite().all())
    assert -4 < float(found.min()) < -2 < 14 < float(found.max()) < 25  # about -ln ln n and ln n


def test_an_exponential_number_of_zero_gives_a_finite_gumbel_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "exponential_", lambda self, **_: self.zero_())
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        found = gumbel_like(torch.zeros(2, 3, dtype=dtype), Draws())
        assert bool(found.isfinite().all())
        assert float(found.min()) > 80


def test_narrow_parameters_get_the_numbers_of_float32() -> None:
    expected = gumbel_like(torch.zeros(4, 3), Draws(7))
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(gumbel_like(torch.zeros(4, 3, dtype=dtype), Draws(7)), expected)
    assert gumbel_like(torch.zeros(4, 3, dtype=torch.float64), Draws(7)).dtype == torch.float64


# ------------------------------------------------------------------------------------- strategies that draw at random

STRATEGIES: dict[str, Callable[[], GradientStrategy]] = {
    "snas": Snas,
    "snas bilevel": lambda: Snas(bilevel=True),
    "gdas": lambda: Gdas(temperature=(1.0, 1.0)),
    "drnas": DrNas,
}


def batch(seed: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(8, 1, 8, 8, generator=g), torch.randint(4, (8,), generator=g)


class Passes:
    """Runs steps of a strategy and keeps the mixing weights of each pass, under (purpose, step)."""

    def __init__(self, strategy: GradientStrategy, *, seed: int = 0, chunks: int = 1) -> None:
        self.strategy, self.seen, self.chunks = strategy, dict[tuple[str, int], list[list[Tensor]]](), chunks
        torch.manual_seed(0)
        self.model = Model(SPACE.build(), affine=False)
        self.model.set_mixing_rule(strategy.mixing_rule)
        self.alphas = list(self.model.all_owned().param_by_kind())
        strategy.prepare(self.model, self.loss, SGD(self.model.weights(), lr=0.1), chunks=chunks, seed=seed)
        self.now = ("", 0)

    def loss(self, batch: Batch, **_: Any) -> Tensor:
        tables = self.model.mixing_weights()
        self.seen.setdefault(self.now, []).append([table.detach() for table in tables if table is not None])
        return F.cross_entropy(self.model(batch[0], tables)[0], batch[1])

    def run(self, steps: int) -> "Passes":
        for step in range(steps):
            self.now = ("architecture", step)
            self.strategy.step(batch(0), batch(1))
            self.now = ("weights", step)
            with self.strategy.weight_pass(self.alphas, learning=False):
                for x, y in zip(*(part.chunk(self.chunks) for part in batch(0)), strict=True):
                    self.loss((x, y))
        return self

    def noise(self) -> list[list[float]]:
        """Mixing weights of each pass; the alphas hardly move, so they tell which numbers were drawn."""
        return [torch.cat(tables[0]).flatten().tolist() for tables in self.seen.values()]


@pytest.mark.parametrize("name", STRATEGIES)
def test_all_parts_of_a_batch_and_all_cells_of_a_type_see_the_same_draw(name: str) -> None:
    passes = Passes(STRATEGIES[name](), chunks=4).run(2)
    for parts in passes.seen.values():
        assert len(parts) == 4
        for cells in parts:
            assert torch.equal(cells[0], cells[2])  # both regular
            assert all(torch.equal(a, b) for a, b in zip(cells, parts[0], strict=True))


@pytest.mark.parametrize("name", ["snas", "snas bilevel", "drnas"])
def test_every_step_and_pass_and_type_draws_afresh(name: str) -> None:
    strategy = STRATEGIES[name]()
    passes = Passes(strategy).run(3)
    assert len(passes.seen) == (6 if strategy.bilevel else 3)
    tables = [tables[0][i] for tables in passes.seen.values() for i in (0, 1)]
    for i, table in enumerate(tables):
        assert all(float((table - other).abs().max()) > 1e-2 for other in tables[:i])


def test_passes_of_a_step_sample_their_candidates_independently() -> None:
    passes = Passes(STRATEGIES["gdas"]()).run(40)
    chosen = {key: torch.cat(tables[0][:2])[:, 0] for key, tables in passes.seen.items()}
    of = {
        purpose: torch.stack([v for k, v in chosen.items() if k[0] == purpose])
        for purpose in ("architecture", "weights")
    }
    assert 0.3 < float((of["architecture"] == of["weights"]).float().mean()) < 0.7  # 160 fair coins
    assert all(0.2 < float(rows.mean()) < 0.8 for rows in of.values())


@pytest.mark.parametrize("name", STRATEGIES)
def test_draws_follow_from_the_seed_and_not_from_the_global_generator(name: str) -> None:
    seen = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        passes = Passes(STRATEGIES[name](), seed=seed)
        torch.manual_seed(global_seed)
        with untouched_global_state():
            passes.run(4)
        seen.append((passes.noise(), [alpha.tolist() for alpha in passes.alphas]))
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[2][0]


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_first_pass_needs_no_step_before(name: str) -> None:
    model = Model(SPACE.build(), affine=False)
    model.set_mixing_rule(STRATEGIES[name]().mixing_rule)
    with untouched_global_state():
        assert bool(model(batch(0)[0])[0].isfinite().all())


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_model_in_evaluation_mode_draws_nothing(name: str) -> None:
    passes = Passes(STRATEGIES[name]()).run(1)
    rule = passes.strategy.mixing_rule
    assert isinstance(rule, SampledRule)
    passes.model.eval()
    tables = passes.model.mixing_weights()
    rule.draws.begin("elsewhere", 99)
    for a, b in zip(tables, passes.model.mixing_weights(), strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)
    fresh = Draws(rule.draws.seed)
    fresh.begin("elsewhere", 99)
    assert numbers(rule.draws) == numbers(fresh)


def test_one_temperature_is_told_how_to_write_it() -> None:
    with pytest.raises(ValueError, match=r"must be two numbers.*got 0.5. To keep it, write \(0.5, 0.5\)"):
        Temperature(0.5)  # type: ignore[arg-type]  # what a configuration may hold
