"""Mixing rules that draw their weights: random numbers as a function of seed and step, and Gumbel noise."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from gradnas.foundation.seeds import derive_seed
from gradnas.supergraph import MixingRule


class Draws:
    """Random numbers of a search: a function of the seed, the step, what the pass is for, and how many came before.

    All parts of a batch that is processed in chunks, and all cells of a type, see the same numbers. Nothing needs to be
    saved: who knows seed and step can draw again.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.step, self.purpose = seed, 0, "forward"
        self._drawn = 0

    def begin(self, purpose: str, step: int) -> None:
        """Passes from now on are for this purpose, at this step."""
        self.purpose, self.step = purpose, step
        self.repeat()

    def repeat(self) -> None:
        """Draw the same numbers again."""
        self._drawn = 0

    def next(self, device: torch.device) -> torch.Generator:
        """A generator for the next draw."""
        return torch.Generator(device=device).manual_seed(self._next_seed())

    @contextmanager
    def seeded(self, device: torch.device) -> Iterator[None]:
        """Seed the global generator of a device for the next draw, and put it back: for what draws from no other."""
        on_gpu = device.type == "cuda"
        with torch.random.fork_rng(devices=[device] if on_gpu else []):
            if on_gpu:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(self._next_seed())
            else:
                torch.default_generator.manual_seed(self._next_seed())
            yield

    def _next_seed(self) -> int:
        self._drawn += 1
        return derive_seed(self.seed, f"mixing.{self.purpose}", self.step, self._drawn)


class SampledRule(MixingRule):
    """A rule whose weights are a sample in training and free of randomness in evaluation."""

    def __init__(self) -> None:
        self.draws = Draws()

    def begin_pass(self) -> None:
        self.draws.repeat()


class TemperedRule(SampledRule):
    """A sampled rule with a temperature.

    Args:
        temperature: Divides the noisy logits.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature


def gumbel_like(alphas: Tensor, draws: Draws) -> Tensor:
    """Independent standard Gumbel numbers, -ln of Exponential(1), finite, at least in float32."""
    dtype = torch.promote_types(alphas.dtype, torch.float32)
    exponential = torch.empty(alphas.shape, dtype=dtype, device=alphas.device)
    exponential.exponential_(generator=draws.next(alphas.device))
    return -exponential.clamp_min(torch.finfo(dtype).tiny).log()


class Temperature:
    """A temperature that changes from epoch to epoch and stays between its two ends.

    Args:
        ends: In the first epoch and in the last one; a search of one epoch has the first alone.
        annealing: ``linear``, or ``exponential`` for a constant factor from epoch to epoch.

    Raises:
        ValueError: Unless there are two temperatures, positive and finite, and for another word.
    """

    def __init__(self, ends: Sequence[float], annealing: str = "linear") -> None:
        if isinstance(ends, (int, float)):
            raise ValueError(
                f"temperature must be two numbers, of the first epoch and of the last, got {ends}. To keep it, write "
                f"({ends}, {ends})."
            )
        if len(ends) != 2 or not all(math.isfinite(value) and value > 0 for value in ends):
            raise ValueError(
                f"temperature must be two positive, finite numbers, of the first epoch and of the last, got {ends}. "
                "At zero there would be no gradient, and below it the weakest candidate would win."
            )
        if annealing not in ("linear", "exponential"):
            raise ValueError(f"annealing must be 'linear' or 'exponential', got {annealing!r}.")
        self.first, self.last, self.annealing = float(ends[0]), float(ends[1]), annealing

    def at(self, epoch: int, epochs: int) -> float:
        """The temperature of an epoch, counted from 0, of a search of so many."""
        done = min(max(epoch / max(1, epochs - 1), 0.0), 1.0)
        if done == 1.0:
            return self.last
        if self.annealing == "exponential":
            value = self.first * (self.last / self.first) ** done
        else:
            value = self.first + (self.last - self.first) * done
        return min(max(value, min(self.first, self.last)), max(self.first, self.last))
