"""Memory of a computation: followed operation by operation, and carried over to sizes at which it never ran.

Every storage that an operation makes is counted once, however many views it has, from the operation that made it until
nothing holds it any more: what autograd keeps for the backward pass, gradients and optimizer states included. Almost
all of them are proportional to the batch size or do not depend on it, so two small batches tell what a large one takes:
at moment t, ``fixed[t] + per_sample[t] * B`` bytes, and the peak is the largest over t.

Not counted: what a kernel uses inside itself (workspaces of cuDNN and oneDNN), blocks that an allocator holds but has
not given out (fragmentation), the CUDA context, and memory that is not torch's.
"""

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_CUDA_BLOCK_BYTES = 512  # the caching allocator rounds up to it; on a CPU, rounding is too small to matter


Parts = Sequence[Sequence[int]]
"""Bytes alive after each operation, part by part."""


class MemoryTracer(TorchDispatchMode):
    """While it is entered, follows the storages that operations make on one device.

    Args:
        device: The device; operations on another one are not counted.

    Attributes:
        live_bytes: Bytes alive now, of those made since it was entered.
    """

    def __init__(self, device: torch.device | str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self._type = torch.device(device).type
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._parts: list[list[int]] = [[]]
        self.live_bytes = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False, as torch describes it: nothing is compiled here, and importing the compiler takes seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in (out,) if isinstance(out, Tensor) else tree_leaves(out):
            if isinstance(value, Tensor) and value.device.type == self._type:
                self._follow(value)
        self._parts[-1].append(self.live_bytes)
        return out

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, n_bytes = storage._cdata, self._rounded(storage.nbytes())
        known = self._known.get(key)
        if known is not None:
            if n_bytes == known[1]:
                return
            self._known[key] = (known[0], n_bytes)  # resized in place
            self.live_bytes += n_bytes - known[1]
            return
        self._known[key] = (weakref.ref(storage, partial(self._free, key)), n_bytes)
        self.live_bytes += n_bytes

    def _free(self, key: int, _: weakref.ref[Any]) -> None:
        self.live_bytes -= self._known.pop(key)[1]

    def _rounded(self, n_bytes: int) -> int:
        return -(-n_bytes // _CUDA_BLOCK_BYTES) * _CUDA_BLOCK_BYTES if self._type == "cuda" else n_bytes

    def new_part(self) -> None:
        """Begin another part of the trace: parts of two runs are compared with each other."""
        self._parts.append([])

    def parts(self) -> list[list[int]]:
        """Bytes alive after each operation, part by part."""
        return [list(part) for part in self._parts if part]

    def peak_bytes(self) -> int:
        """The most that was alive at once; 0 before the first operation."""
        return max((max(part) for part in self._parts if part), default=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryModel:
    """Bytes alive at each moment of a computation, as a function of its batch size.

    Attributes:
        fixed: Bytes that do not depend on the batch, float64 of shape (T,).
        per_sample: Bytes per sample of the batch, likewise.
    """

    fixed: Tensor
    per_sample: Tensor

    @staticmethod
    def of(small: Parts, large: Parts, sizes: tuple[int, int]) -> "MemoryModel":
        """The model of two traces of one computation.

        Where a part took another number of operations in one of them (what is computed may depend on the numbers), it
        counts as one moment: its peak.

        Args:
            small: :meth:`MemoryTracer.parts` at the batch size ``sizes[0]``.
            large: Likewise at ``sizes[1]``, which is larger.
            sizes: The two.

        Raises:
            ValueError: When sizes do not grow, or the traces do not have equally many parts.
        """
        if not sizes[0] < sizes[1]:
            raise ValueError(f"two batch sizes are needed, the smaller one first, got {sizes}.")
        if len(small) != len(large):
            raise ValueError(f"traces must have equally many parts, got {len(small)} and {len(large)}.")
        moments = [
            torch.tensor([less, more] if len(less) == len(more) else [[max(less)], [max(more)]], dtype=torch.float64)
            for less, more in zip(small, large, strict=True)
        ]
        low, high = torch.cat(moments, dim=1)
        per_sample = (high - low) / (sizes[1] - sizes[0])
        return MemoryModel(fixed=low - per_sample * sizes[0], per_sample=per_sample)

    def plus(self, n_bytes: int) -> "MemoryModel":
        """The same with so many bytes more at every moment; fewer, if negative."""
        return MemoryModel(fixed=self.fixed + n_bytes, per_sample=self.per_sample)

    def peak_bytes(self, batch: float) -> int:
        """The most that is alive at once at a batch size."""
        return math.ceil((self.fixed + self.per_sample * batch).max().item())

    def largest_batch(self, available_bytes: int) -> int:
        """The largest batch that keeps to a number of bytes; 0 when no batch does.

        Where memory does not grow with the batch, it is larger than any that can be had.
        """
        room, grows = available_bytes - self.fixed, self.per_sample > 0
        if bool((room < 0).any()):
            return 0
        return int((room[grows] / self.per_sample[grows]).min().item()) if bool(grows.any()) else 2**62
