"""The moving average of a network while it trains.

Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging (1992), in its exponential form, as
``torch.optim.swa_utils.get_ema_multi_avg_fn`` computes it: m ← d m + (1 − d) w after every step. The decay of step t,
counted from 0, is min(d, (1 + t) / (10 + t)), as in ``tf.train.ExponentialMovingAverage``: so the weights before
training are soon forgotten, also in a training that is short beside 1 / (1 − d).
Deviation from ``torch.optim.swa_utils.AveragedModel``: no second network is kept, only its numbers.
Reference test: the closed form in ``tests/training/test_ema.py``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """Moving average of all parameters and of all buffers of numbers with a point.

    Running statistics are averaged as the weights are: those of the last weights would not fit the mean weights. What
    counts, such as the batches that a norm has seen, stays as it is. Nothing waits for the device.

    Args:
        model: The network, on its device; the average begins with its present weights.
        decay: Of one step, above 0 and below 1.

    Raises:
        ValueError: For another decay.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"the decay of a moving average must be above 0 and below 1, got {decay}.")
        self.decay = decay
        self.steps = 0
        self._model = model
        self._mean = {name: value.clone() for name, value in self._present().items()}

    def _present(self) -> dict[str, Tensor]:
        """What is averaged, as it is now: a network may assign a buffer anew."""
        named = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        return {name: value.detach() for name, value in named.items() if value.is_floating_point()}

    def decay_at(self, step: int) -> float:
        """The decay of a step, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self) -> None:
        """After a step: let the average follow the weights."""
        average = get_ema_multi_avg_fn(self.decay_at(self.steps))
        present = self._present()
        for dtype in {value.dtype for value in self._mean.values()}:  # torch averages lists of one dtype
            pairs = [(self._mean[name], now) for name, now in present.items() if now.dtype is dtype]
            average([mean for mean, _ in pairs], [now for _, now in pairs], None)
        self.steps += 1

    @torch.no_grad()
    def exchange(self) -> None:
        """Give the network the average and keep its weights in its place; again undoes it, bit for bit."""
        for name, now in self._present().items():
            before = now.clone()
            now.copy_(self._mean[name])
            self._mean[name].copy_(before)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the network has the average; afterwards, also after an error, its weights again."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def state_dict(self) -> dict[str, Any]:
        """The average by the names of the model, not copied, and the steps it has seen."""
        return {"steps": self.steps, "mean": dict(self._mean)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`. ValueError for that of another network."""
        mean: Mapping[str, Tensor] = state["mean"]
        if mean.keys() != self._mean.keys():
            first = sorted(mean.keys() ^ self._mean.keys())[0]
            raise ValueError(f"the stored moving average is of another network: only one of both has {first!r}.")
        for name, value in self._mean.items():
            value.copy_(mean[name])
        self.steps = state["steps"]
