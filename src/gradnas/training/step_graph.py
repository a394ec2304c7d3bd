"""A training step recorded once as a CUDA graph and replayed: its thousands of kernels start as one.

Source: torch's CUDA graphs, "whole-network capture"; the restrictions are theirs: nothing in the step may read from the
device, shapes do not change, and numbers that Python holds (a learning rate) are recorded as they are.
"""

from collections.abc import Callable

import torch
from torch import Tensor

EAGER_STEPS = 3  # libraries choose kernels, and optimizers make their state, before anything is recorded


class StepGraph:
    """Runs a step, from the fourth call on as a recorded graph.

    Every call is one real step. Batches of another shape than the first ones run as they are. Make a new object
    whenever a number changes that Python holds, such as the learning rate.

    Args:
        step: One step on the tensors of a batch; it must not read from the device.
    """

    def __init__(self, step: Callable[..., None]) -> None:
        self._step = step
        self._stream = torch.cuda.Stream()
        self._calls = 0
        self._shapes: list[torch.Size] | None = None
        self._inputs: list[Tensor] = []
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self, *batch: Tensor) -> None:
        """One step on this batch."""
        shapes = [x.shape for x in batch]
        if self._shapes is None:
            self._shapes = shapes
        if shapes != self._shapes:
            self._step(*batch)
        elif self._calls < EAGER_STEPS:
            self._calls += 1
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                self._step(*batch)
            current.wait_stream(self._stream)
        else:
            if self._graph is None:
                self._inputs = [x.clone() for x in batch]
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph, stream=self._stream):
                    self._step(*self._inputs)
            for held, x in zip(self._inputs, batch, strict=True):
                held.copy_(x, non_blocking=True)
            self._graph.replay()
