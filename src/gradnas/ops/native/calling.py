"""Calls of the compiled functions."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradnas.ops.native.library import NoLibraryError, find_library

Argument = Tensor | ctypes.Structure | ctypes.Array[Any] | ctypes.c_longlong | None


def call(name: str, dtype: torch.dtype, arguments: Sequence[Argument], *, threads: bool = False) -> None:
    """Call a function for numbers of this precision.

    Args:
        name: Of the function.
        dtype: The precision, float32 or float64.
        arguments: Structures, arrays, and tensors of this precision or float64, contiguous in the order that the
            function expects. None is a null pointer.
        threads: Whether the function takes how many threads torch uses, as its last argument, and says if it failed.

    Raises:
        TypeError: For a tensor elsewhere than on the CPU, or of another precision.
        MemoryError: When the function got no memory for its buffers.
        NoLibraryError: Where there is no library, see :func:`is_usable`.
    """
    library = find_library(dtype)
    if isinstance(library, NoLibraryError):
        raise library
    given = [_pointer(argument, dtype) for argument in arguments]
    function = getattr(library, name)
    if not threads:
        function(*given)
    elif function(*given, torch.get_num_threads()):
        raise MemoryError(f"not enough memory for the buffers of {name}.")


def numbers(values: Sequence[int]) -> ctypes.Array[Any]:
    """Whole numbers, as the functions take them."""
    return (ctypes.c_longlong * len(values))(*values)


def addresses(tensors: Sequence[Tensor | None], dtype: torch.dtype) -> ctypes.Array[Any]:
    """Where the numbers of these tensors begin; a null pointer for None.

    Raises:
        TypeError: For a tensor elsewhere than on the CPU, or of another precision.
        ValueError: For one that is not contiguous.
    """
    for t in tensors:
        if t is not None and not (t.dtype is dtype and t.is_cpu and _in_order(t)):
            _refuse(t, dtype)
    return (ctypes.c_void_p * len(tensors))(*[None if t is None else t.data_ptr() for t in tensors])


def image_addresses(images: Sequence[Tensor | None], shape: tuple[int, ...], dtype: torch.dtype) -> ctypes.Array[Any]:
    """The same for images of one shape in channels_last.

    Raises:
        TypeError: As of :func:`addresses`.
        ValueError: For an image of another shape or in another memory format.
    """
    for image in images:
        if image is not None and (image.shape != shape or not image.is_contiguous(memory_format=torch.channels_last)):
            raise ValueError(
                f"expected images of {shape} in channels_last, got {tuple(image.shape)} with strides {image.stride()}."
            )
    return addresses(images, dtype)


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy if it does not begin where whole vectors must: torch's memory does, another's may not."""
    return tensor.clone() if tensor.data_ptr() % 64 else tensor


def _pointer(argument: Argument, dtype: torch.dtype) -> Any:
    if isinstance(argument, Tensor):
        if not (argument.dtype in (dtype, torch.float64) and argument.is_cpu and _in_order(argument)):
            _refuse(argument, dtype)
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    return ctypes.c_void_p(None) if argument is None else argument


def _in_order(tensor: Tensor) -> bool:
    return tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last)


def _refuse(tensor: Tensor, dtype: torch.dtype) -> None:
    if not tensor.is_cpu or _in_order(tensor):
        raise TypeError(f"compiled operations take {dtype} on the CPU, got {tensor.dtype} on {tensor.device}.")
    raise ValueError(f"compiled operations take contiguous tensors, got strides {tensor.stride()}.")
