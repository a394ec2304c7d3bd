"""Random numbers as a function of (seed, purpose, counters): no global state, nothing to save, nothing to drift.

What draws from torch's default generators all the same, such as dropout in an operation of a user's own, gets numbers
that are a function of them too, and the caller's generators are put back.
"""

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


def seed_default_generators(seed: int, purpose: str, *counters: int, device: torch.device) -> None:
    """Seed torch's default generators of the CPU and of the device with :func:`derive_seed`.

    Only within :func:`kept_generators`, which puts them back.
    """
    number = derive_seed(seed, purpose, *counters)
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.default_generators[_index(device)].manual_seed(number)


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Put torch's default generators of the CPU and of the device back as they were before."""
    cpu = torch.default_generator.get_state()
    gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.default_generator.set_state(cpu)
        if gpu is not None:
            torch.cuda.set_rng_state(gpu, device)


def _index(device: torch.device) -> int:
    return device.index if device.index is not None else torch.cuda.current_device()


@contextmanager
def seeded_initialization(seed: int, purpose: str) -> Iterator[None]:
    """Make torch's default weight initializers, which know only the global CPU generator, a function of the seed.

    The global generator is put back afterwards, so the caller's random numbers are those it would have seen without
    us. Build modules on the CPU inside this context and move them to their device after it.
    """
    cpu = torch.device("cpu")
    with kept_generators(cpu):
        seed_default_generators(seed, purpose, device=cpu)
        yield
