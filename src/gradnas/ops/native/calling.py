"""Calls of the compiled functions."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from gradnas.ops.native.library import library


def call(name: str, dtype: torch.dtype, sizes: ctypes.Structure, tensors: Sequence[Tensor | None]) -> None:
    """Call a function for numbers of this precision, with the threads that torch uses.

    Args:
        name: Of the function.
        dtype: The precision; one that the library has.
        sizes: The function's first argument.
        tensors: The other ones, contiguous in the order that the function expects; None is a null pointer.

    Raises:
        MemoryError: When the function got no memory for its buffers.
    """
    pointers = [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]
    if getattr(library().by_dtype[dtype], name)(ctypes.byref(sizes), *pointers, torch.get_num_threads()):
        raise MemoryError(f"not enough memory for the buffers of {name}.")
