"""Checks of a strategy: extreme inputs, and what a step costs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gradnas.data import ImageSet
from gradnas.supergraph import Model
from gradnas.testing.probe import ProbeTrainer, architecture_tensors, probe
from gradnas.testing.problem import CLASSES, PRIMITIVES, SIZE, Problem, patterns
from gradnas.testing.strategy_checks.base import StrategySuite

CLASS_NAMES = patterns(CLASSES, 0).classes


class NumericsChecks(StrategySuite):
    """Finite numbers wherever the network has some, a clear stop where it has none, and as many passes as told."""

    def test_constant_images(self) -> None:
        """Images that are all the same give finite numbers."""
        images = ImageSet(images=torch.ones(16, 1, SIZE, SIZE), labels=torch.arange(16) % CLASSES, classes=CLASS_NAMES)
        self._assert_finite(Problem(train=images, val=images))

    def test_one_class(self) -> None:
        """Batches in which one class is present give finite numbers."""
        images = patterns(16, 1)
        one = ImageSet(images=images.images, labels=torch.zeros(16, dtype=torch.int64), classes=images.classes)
        self._assert_finite(Problem(train=one, val=one))

    def test_extreme_architecture_parameters(self) -> None:
        """Architecture parameters of 50 and -50 give finite numbers."""

        def stretch(trainer: ProbeTrainer) -> None:
            for value in architecture_tensors(trainer.supergraph).values():
                if value.is_floating_point():
                    signs = torch.arange(value.numel()).view(value.shape) % 2 * 2.0 - 1.0
                    value.copy_(50.0 * signs)

        self._assert_finite(Problem(), stretch)

    def test_bfloat16_autocast(self) -> None:
        """Under autocast to bfloat16 the numbers stay finite, and architecture parameters keep their precision."""
        trainer = self._assert_finite(Problem().but(precision="bfloat16"))
        for name, value in architecture_tensors(trainer.supergraph).items():
            assert value.dtype != torch.bfloat16, f"{name} became {value.dtype}"

    def _assert_finite(self, problem: Problem, change: Callable[[ProbeTrainer], None] | None = None) -> ProbeTrainer:
        trainer = probe(problem, self.strategy(), fused=True)

        @torch.no_grad()
        def before(_: object) -> None:
            if trainer.global_step == 0 and change is not None:
                change(trainer)

        trainer.before = before
        trainer.fit(problem.loaders())
        trainer.strategy.check()
        for name, value in trainer.model.state_dict().items():
            assert value.isfinite().all(), f"{name} is not finite"
        for table in trainer.supergraph.mixing_weights():
            assert table is not None
            assert table.isfinite().all(), f"mixing weights {table}"
        return trainer

    def test_loss_that_is_not_finite_stops_the_search(self) -> None:
        """A loss that is not a number stops the search with a message that names the step."""
        problem = Problem()
        trainer = probe(problem, self.strategy())
        with torch.no_grad():
            trainer.supergraph.logits_op.get_parameter("linear.weight").fill_(torch.nan)
        with pytest.raises(FloatingPointError, match="step"):
            trainer.fit(problem.loaders())

    def test_passes_of_a_step_are_the_ones_told(self) -> None:
        """Forward and backward passes of a step, counted, are what ``forward_equivalents`` says.

        A forward pass counts 1, a backward pass for weights 2, one for the mixing weights alone 1; with a rule that
        computes one candidate of an edge, all count for as much less as there are candidates.
        """
        problem = Problem().but(epochs=1, max_steps_per_epoch=1)
        trainer = probe(problem, self.strategy())
        counts = {"forward": 0.0, "backward": 0.0}
        most = _count_passes(trainer.supergraph, counts)
        trainer.fit(problem.loaders())
        n, sparse = len(PRIMITIVES), trainer.strategy.mixing_rule.sparse
        told = trainer.strategy.forward_equivalents(n) * (n if sparse else 1)
        assert counts["forward"] + counts["backward"] == pytest.approx(told), f"counted {counts}, told {told}"
        if sparse:
            assert max(most) <= 1, f"computed {max(most)} candidates of an edge, although all but one weigh 0"


def _count_passes(model: Model, counts: dict[str, float]) -> list[int]:
    """Count the passes from now on; the list gets the number of candidates called on each edge and pass."""
    calls: list[int] = [0]

    def backward(cost: float) -> Callable[[Tensor], None]:
        def note(_: Tensor) -> None:
            counts["backward"] += cost

        return note

    def forward(module: object, inputs: object, output: tuple[Tensor, Tensor | None]) -> None:
        counts["forward"] += 1.0
        if output[0].requires_grad:
            output[0].register_hook(backward(2.0 if next(model.weights()).requires_grad else 1.0))

    model.register_forward_hook(forward)
    for op in model.mixed_ops():
        op.register_forward_pre_hook(lambda *_: calls.append(0))
        for candidate in op.candidates:
            candidate.register_forward_hook(lambda *_: calls.append(calls.pop() + 1))
    return calls
