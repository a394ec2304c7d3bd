"""Random numbers as a function of (seed, purpose, counters): no global state, nothing to save, nothing to drift."""

import hashlib
import operator
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed that depends on all arguments and is the same on every machine and in every process.

    Args:
        seed: The seed of the run.
        purpose: What the numbers are for, e.g. ``"train.order"``; different purposes never share a stream.
        counters: Epoch, batch or step numbers.

    Raises:
        TypeError: For a seed or counter that is not a whole number.
        ValueError: For a purpose with a slash, which separates the arguments.
    """
    if "/" in purpose:
        raise ValueError(f"the purpose of random numbers must not contain a slash, got {purpose!r}.")
    text = "/".join([str(operator.index(seed)), purpose, *(str(operator.index(counter)) for counter in counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh ``torch.Generator`` seeded with :func:`derive_seed`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, purpose, *counters))


@contextmanager
def seeded_initialization(seed: int, purpose: str) -> Iterator[None]:
    """Make torch's default weight initializers, which know only the global CPU generator, a function of the seed.

    The global generator is put back afterwards, so the caller's random numbers are those it would have seen without
    us. Build modules on the CPU inside this context and move them to their device after it.
    """
    saved = torch.default_generator.get_state()
    torch.default_generator.manual_seed(derive_seed(seed, purpose))
    try:
        yield
    finally:
        torch.default_generator.set_state(saved)
