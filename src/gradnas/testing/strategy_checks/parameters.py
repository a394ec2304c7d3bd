"""Checks of a strategy: parameters and gradients."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from gradnas.strategies import Batch
from gradnas.supergraph import NONE, Model, untouched_statistics
from gradnas.testing.probe import (
    Gradients,
    ProbeTrainer,
    changed,
    is_architecture,
    probe,
    recorded_gradients,
    same,
    state_of,
)
from gradnas.testing.problem import Problem
from gradnas.testing.strategy_checks.base import StrategySuite


class ParameterChecks(StrategySuite):
    """Who may move what, and along which gradient."""

    def test_weights_and_architecture_share_the_parameters(self) -> None:
        """Each parameter is either a weight, held once by the weight optimizer, or learnt by the strategy alone."""
        problem = Problem()
        trainer = probe(problem, self.strategy())
        model = trainer.supergraph
        with recorded_gradients(model) as steps:
            trainer.fit(problem.loaders())
        weights = {id(p) for p in model.weights()}
        learnt = {id(p) for p in model.all_owned().param_by_kind()}
        assert not weights & learnt, "a parameter is both a weight and an architecture parameter"
        assert weights | learnt == {id(p) for p in model.parameters()}
        held = [id(p) for p in trainer.multi_optim.params()]
        assert sorted(held) == sorted(weights), "the weight optimizer does not hold exactly the weights, each once"
        owners: dict[int, Optimizer] = {}
        for optimizer, _ in steps:
            for p in (p for group in optimizer.param_groups for p in group["params"]):
                assert owners.setdefault(id(p), optimizer) is optimizer, "a parameter is in two optimizers"

    def test_architecture_step_changes_no_weight(self, fused: bool) -> None:
        """The architecture step leaves weights, their gradients, buffers and optimizer state as they were."""
        trainer = probe(Problem(), self.strategy(), fused=fused)
        found: list[list[str]] = []
        held: list[tuple[dict[str, Tensor], object, list[bool]]] = []

        def before(_: Batch) -> None:
            for p in trainer.ordinary_params():
                p.grad = torch.full_like(p, 0.25)
            held.append((*self._weight_side(trainer), [p.requires_grad for p in trainer.model.parameters()]))

        def between(_: Batch) -> None:
            state, optimizer, flags = held.pop()
            state_now, optimizer_now = self._weight_side(trainer)
            wrong = changed(state, state_now)
            wrong += [] if same(optimizer, optimizer_now) else ["the state of the weight optimizer"]
            wrong += [] if flags == [p.requires_grad for p in trainer.model.parameters()] else ["requires_grad"]
            grads = [p.grad for p in trainer.ordinary_params()]
            kept = all(g is not None and bool((g == 0.25).all()) for g in grads)
            found.append(wrong if kept else [*wrong, ".grad of weights"])

        trainer.before, trainer.between = before, between
        trainer.fit(Problem().loaders())
        assert found == [[]] * 4, f"changed in each step: {found}"

    def _weight_side(self, trainer: ProbeTrainer) -> tuple[dict[str, Tensor], object]:
        optimizer = trainer.multi_optim[0].optimizer
        return state_of(trainer.model, architecture=False), copy.deepcopy(optimizer.state_dict())

    def test_weight_step_changes_no_architecture_parameter(self) -> None:
        """A bilevel strategy moves the architecture in its own step only."""
        trainer = probe(Problem(), self.strategy())
        if not trainer.strategy.bilevel:
            pytest.skip("learns in the weight pass")
        held: list[dict[str, Tensor]] = []
        moved: list[str] = []
        trainer.between = lambda _: held.append(state_of(trainer.model, architecture=True))
        trainer.after = lambda _: moved.extend(changed(held.pop(), state_of(trainer.model, architecture=True)))
        trainer.fit(Problem().loaders())
        assert not moved, f"the weight step changed {sorted(set(moved))}"

    def test_every_architecture_parameter_learns(self) -> None:
        """Every architecture parameter gets a gradient other than zero; one that no gradient moves, moves."""
        problem = Problem().but(epochs=4)
        trainer = probe(problem, self.strategy(), fused=True)
        model = trainer.supergraph
        start: list[dict[str, Tensor]] = []
        trainer.before = lambda _: start.append(state_of(model, architecture=True)) if not start else None
        with recorded_gradients(model) as steps:
            trainer.fit(problem.loaders())
        sizes: dict[str, Tensor] = {}
        for _, gradients in steps:
            for name, gradient in gradients.items():
                if is_architecture(name) and gradient is not None:
                    sizes[name] = sizes.get(name, torch.zeros_like(gradient)) + gradient.abs()
        judged = _judged(model)
        for name, p in model.named_parameters():
            if is_architecture(name) and name in sizes:
                assert (sizes[name][..., judged] if p.dim() else sizes[name]).all(), f"{name} got the gradient 0"
        still = [
            name
            for name, value in start[0].items()
            if value.is_floating_point() and name not in sizes and same(value, model.state_dict()[name])
        ]
        assert not still, f"never moved: {still}"

    def test_gradient_is_that_of_the_objective(self, fused: bool) -> None:
        """Without randomness the architecture gradient is a central difference of the objective, in float64."""
        problem = Problem().but(epochs=1, max_steps_per_epoch=1)
        trainer = probe(problem, self.strategy(), fused=fused, double=True)
        if not self.deterministic:
            pytest.skip("draws at random")
        if not any(p.requires_grad for p in trainer.alphas):
            pytest.skip("learns without gradients")
        loaders = problem.loaders()
        assert loaders.alpha is not None
        val_batch = loaders.alpha.batch(0, 0)
        expected: list[tuple[list[Tensor], float]] = []

        def before(train_batch: Batch) -> None:
            draws = torch.Generator().manual_seed(0)
            for _ in range(3):
                direction = [torch.randn(p.shape, generator=draws, dtype=p.dtype) for p in trainer.alphas]
                slope = self._slope(trainer, direction, lambda: self.objective(trainer, train_batch, val_batch))
                expected.append((direction, slope))

        trainer.before = before
        with recorded_gradients(trainer.model) as steps:
            trainer.fit(loaders)
        gradients = _architecture_gradients(trainer, steps)
        if not gradients:
            pytest.skip("no optimizer of the architecture parameters to look at")
        for direction, slope in expected:
            ours = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
            assert ours == pytest.approx(slope, rel=self.gradient_tolerance, abs=1e-8)

    def _slope(self, trainer: ProbeTrainer, direction: list[Tensor], value: Callable[[], Tensor]) -> float:
        step, values = 1e-5, []
        for sign in (1.0, -1.0):
            _shift(trainer.alphas, direction, sign * step)
            with untouched_statistics(trainer.model):
                values.append(float(value().detach()))
            _shift(trainer.alphas, direction, -sign * step)
        return (values[0] - values[1]) / (2 * step)

    def test_what_takes_no_part_does_not_move(self, fused: bool) -> None:
        """A candidate with the mixing weight 0 gets no gradient, and neither momentum nor decay moves it."""
        problem = Problem().but(epochs=3)
        trainer = probe(problem, self.strategy(), fused=fused)
        model = trainer.supergraph
        tables: list[list[Tensor | None]] = []
        mixing_weights = model.mixing_weights

        def noted() -> list[Tensor | None]:
            tables[:] = [mixing_weights()]
            return tables[0]

        model.mixing_weights = noted  # type: ignore[method-assign]  # only to see what comes out
        held: list[dict[str, Tensor]] = []
        trainer.between = lambda _: held.append(state_of(model, architecture=False))

        def after(_: Batch) -> None:
            before = held.pop()
            for name in _left_out(model, tables[0]):
                p = model.get_parameter(name)
                assert p.grad is None, f"{name} has a gradient, but its candidate had the mixing weight 0"
                assert torch.equal(p, before[name]), f"{name} moved, but its candidate had the mixing weight 0"

        trainer.after = after
        trainer.fit(problem.loaders())

    def test_chunks_give_the_gradient_of_the_whole_batch(self, fused: bool) -> None:
        """A batch processed in parts gives the gradients of one, for weights and architecture.

        Batch norms use their running statistics here: those of a batch differ from part to part.
        """
        whole, parts = (self._one_step(fused=fused, batch_chunks=chunks) for chunks in (1, 2))
        for name, value in whole.items():
            difference = float((parts[name] - value).abs().max()) if value.numel() else 0.0
            scale = max(1e-3, float(value.abs().max()))
            assert difference < 1e-6 * scale, f"{name} differs by {difference:.3g} in two parts"

    def _one_step(self, *, fused: bool, **settings: object) -> dict[str, Tensor]:
        """Gradients of one step, and architecture parameters after it, in float64 with frozen batch norms."""
        problem = Problem().but(epochs=1, max_steps_per_epoch=1, **settings)
        trainer = probe(problem, self.strategy(), fused=fused, double=True)
        trainer.frozen_norms = True
        with recorded_gradients(trainer.model) as steps:
            trainer.fit(problem.loaders())
        seen = {name: g for _, gradients in steps for name, g in gradients.items() if g is not None}
        learnt = {n: v for n, v in state_of(trainer.model, architecture=True).items() if n not in seen}
        return seen | {name: value.double() for name, value in learnt.items()}

    def test_new_epoch_and_reports_change_nothing(self) -> None:
        """Beginning an epoch, describing, checking and saving leave the model as it is."""
        problem = Problem()
        trainer = probe(problem, self.strategy())
        before: list[dict[str, Tensor]] = []
        trainer.before = lambda _: before.append(state_of(trainer.model)) if not before else None
        trainer.fit(problem.loaders())
        state = state_of(trainer.model)
        for epoch in range(problem.conf.epochs):
            trainer.strategy.new_epoch(epoch)
            trainer.strategy.describe()
            trainer.strategy.check()
            trainer.strategy.state_dict()
        wrong = changed(state, state_of(trainer.model))
        assert not wrong, f"changed: {wrong}"


def _judged(model: Model) -> list[int]:
    """Positions of the candidates other than none, which has no output and may have no gradient."""
    names = next(model.mixed_ops()).names
    return [k for k, name in enumerate(names) if name != NONE]


def _architecture_gradients(trainer: ProbeTrainer, steps: list[tuple[Optimizer, Gradients]]) -> list[Tensor]:
    by_name = {name: g for _, gradients in steps for name, g in gradients.items() if is_architecture(name)}
    order = {id(p): name for name, p in trainer.model.named_parameters()}
    found = [by_name.get(order[id(p)]) for p in trainer.alphas]
    return [g for g in found if g is not None] if all(g is not None for g in found) else []


@torch.no_grad()
def _shift(parameters: list[Parameter], direction: list[Tensor], step: float) -> None:
    for p, d in zip(parameters, direction, strict=True):
        p.add_(d, alpha=step)


def _left_out(model: Model, tables: list[Tensor | None]) -> list[str]:
    """Names of the weights of candidates whose mixing weight is exactly 0."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = []
    for cell, table in zip(model.typed_cells(), tables, strict=True):
        if table is None:
            continue
        for op, row in zip(cell.mixed_ops(), table.tolist(), strict=True):
            for candidate, weight in zip(op.candidates, row[: len(op.names)], strict=True):
                found += [names[id(p)] for p in candidate.parameters() if weight == 0.0]
    return found
