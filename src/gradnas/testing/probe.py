"""The real trainer, watched: what each half of a step touches, and the gradients that optimizers see."""

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gradnas.ops.arch_params import SUFFIX
from gradnas.pipeline import ArchTrainer
from gradnas.strategies import Batch, MetaOptimizer
from gradnas.supergraph import Model, batch_norms
from gradnas.testing.problem import Problem

Gradients = dict[str, Tensor | None]
"""By parameter name; None for a parameter that took no part."""


class ProbeTrainer(ArchTrainer):
    """The trainer of every search, with a look at each moment of a step.

    Images come in the precision of the model. ``before``, ``between`` and ``after`` are called with the training batch
    before the architecture step, between it and the weight step, and after both.
    """

    before: Callable[[Batch], None] | None = None
    between: Callable[[Batch], None] | None = None
    after: Callable[[Batch], None] | None = None
    frozen_norms = False
    """Whether batch norms use their running statistics, so that the images of a batch do not depend on each other."""

    def pre_step(self, x: Tensor, y: Tensor) -> None:
        if self.frozen_norms:
            for norm in batch_norms(self.model):
                norm.eval()
        if self.before is not None:
            self.before((x, y))
        super().pre_step(x, y)
        if self.between is not None:
            self.between((x, y))

    def post_step(self, x: Tensor, y: Tensor) -> None:
        super().post_step(x, y)
        if self.after is not None:
            self.after((x, y))

    def forward(self, x: Tensor, **settings: Any) -> tuple[Tensor, Tensor | None]:
        return super().forward(x.to(next(self.model.parameters()).dtype), **settings)

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss of a batch in training mode, as an architecture step sees it."""
        logits, aux = self.forward(batch[0])
        return self.compute_loss(nn.CrossEntropyLoss(), batch[1], logits, self.conf.aux_weight, aux)


def probe(
    problem: Problem, strategy: MetaOptimizer, *, fused: bool = False, double: bool = False, **settings: Any
) -> ProbeTrainer:
    """A trainer of a problem; ``settings`` as for :class:`gradnas.pipeline.ArchTrainer`."""
    model = problem.model(strategy, fused=fused)
    trainer = ProbeTrainer(
        problem.conf, model, strategy=strategy, seed=problem.seed, stabilize=problem.conf.stabilize, **settings
    )
    if double:
        model.double()  # in place: parameters stay the same objects
    return trainer


def searched(problem: Problem, strategy: MetaOptimizer, **settings: Any) -> ProbeTrainer:
    """A trainer after its search."""
    trainer = probe(problem, strategy, **settings)
    trainer.fit(problem.loaders())
    return trainer


@contextmanager
def recorded_gradients(model: nn.Module) -> Iterator[list[tuple[Optimizer, Gradients]]]:
    """Every optimizer step within, with the gradients of the parameters that it holds."""
    steps: list[tuple[Optimizer, Gradients]] = []

    def note(optimizer: Optimizer, args: object, kwargs: object) -> None:
        names = {id(p): name for name, p in model.named_parameters()}
        held = [p for group in optimizer.param_groups for p in group["params"]]
        seen = {names.get(id(p), "?"): None if p.grad is None else p.grad.detach().clone() for p in held}
        steps.append((optimizer, seen))

    handle = register_optimizer_step_pre_hook(note)
    try:
        yield steps
    finally:
        handle.remove()


def is_architecture(name: str) -> bool:
    """Whether a name of a state dict is that of an architecture parameter."""
    return SUFFIX in name


def state_of(module: nn.Module, *, architecture: bool | None = None) -> dict[str, Tensor]:
    """A copy of the state of a module: all of it, or the architecture parameters, or everything but them."""
    return {
        name: value.detach().clone()
        for name, value in module.state_dict().items()
        if architecture is None or is_architecture(name) == architecture
    }


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that are not bit for bit the same."""
    assert list(before) == list(after)
    return [name for name in before if not same(before[name], after[name])]


def same(a: object, b: object) -> bool:
    """Whether two nested values are equal, tensors bit for bit; NaN equals NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        alike = a.dtype == b.dtype and a.shape == b.shape
        return alike and (torch.equal(a, b) or (a.is_floating_point() and torch.allclose(a, b, 0, 0, equal_nan=True)))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def without_times(value: object) -> object:
    """A copy of nested values without measured times."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not key.endswith("seconds")}
    return [without_times(item) for item in value] if isinstance(value, (list, tuple)) else value


def architecture_tensors(model: Model) -> dict[str, Tensor]:
    """The architecture parameters themselves, by name."""
    return {name: value for name, value in model.all_owned().items() if isinstance(value, Tensor)}


@contextmanager
def untouched_globals(what: str) -> Iterator[None]:
    """AssertionError when what happens within draws from a global generator or changes a global setting."""
    before = _globals()
    yield
    after = _globals()
    touched = [name for name in before if not same(before[name], after[name])]
    assert not touched, f"{what} changed {', '.join(touched)}"


_OF_TORCH = "TORCHINDUCTOR_"  # set when the first optimizer imports torch's compiler


def _globals() -> dict[str, object]:
    numbers: Any = np.random.get_state()  # noqa: NPY002  # read only, to see that nobody used it
    return {
        "torch's global generator": torch.get_rng_state(),
        "numpy's global generator": [*map(str, numbers[:1]), torch.from_numpy(numbers[1].astype(np.int64)), numbers[2]],
        "Python's global generator": list(random.getstate()[1]),
        "the default dtype": str(torch.get_default_dtype()),
        "the number of threads": torch.get_num_threads(),
        "whether gradients are computed": torch.is_grad_enabled(),
        "the use of deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "the environment variables": {k: v for k, v in os.environ.items() if not k.startswith(_OF_TORCH)},
        "the working folder": os.getcwd(),
    }
