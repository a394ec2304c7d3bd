"""Calls of the compiled functions."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from gradnas.ops.native.library import NoLibraryError, find_library


def call(
    name: str,
    dtype: torch.dtype,
    sizes: ctypes.Structure,
    tensors: Sequence[Tensor | None],
    doubles: Sequence[Tensor] = (),
) -> None:
    """Call a function for numbers of this precision, with the threads that torch uses.

    Args:
        name: Of the function.
        dtype: The precision, float32 or float64.
        sizes: The function's first argument.
        tensors: Further ones of this precision, contiguous in the order that the function expects; None is a null
            pointer.
        doubles: The last ones, of float64 whatever the precision.

    Raises:
        TypeError: For a tensor elsewhere than on the CPU, or of another precision.
        MemoryError: When the function got no memory for its buffers.
        NoLibraryError: Where there is no library, see :func:`is_usable`.
    """
    library = find_library(dtype)
    if isinstance(library, NoLibraryError):
        raise library
    for tensor, expected in [*((t, dtype) for t in tensors), *((t, torch.float64) for t in doubles)]:
        if tensor is not None and (tensor.dtype != expected or tensor.device.type != "cpu"):
            raise TypeError(f"{name} takes {expected} on the CPU, got {tensor.dtype} on {tensor.device}.")
    pointers = [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in (*tensors, *doubles)]
    if getattr(library, name)(ctypes.byref(sizes), *pointers, torch.get_num_threads()):
        raise MemoryError(f"not enough memory for the buffers of {name}.")
