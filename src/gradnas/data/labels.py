"""Labels from wherever they come: whole numbers as an int64 vector."""

import numpy as np
import torch
from torch import Tensor

_LARGEST_LABEL = 2**53  # from here on float64 no longer has every whole number, and beyond 2**63 int64 has none


def as_labels(values: object, name: str) -> Tensor:
    """Convert an array of class numbers.

    Args:
        values: Array, tensor or list of shape ``(N,)`` or ``(N, 1)``, integers or floats without a fraction.
        name: What the errors call it, e.g. ``"y_train"``.

    Returns:
        Int64 tensor of shape ``(N,)`` on the CPU.

    Raises:
        ValueError: If the shape differs or a value is no whole number.
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    check_label_shape(array.shape, name)
    array = array.reshape(len(array))
    if array.dtype.kind == "f":
        fractional = ~(np.isfinite(array) & (array == np.round(array)))
        if fractional.any():
            index = int(fractional.argmax())
            raise ValueError(f"{name} must hold whole class numbers, got {array[index]} at index {index}.")
    elif array.dtype.kind not in "iu":  # truth values, text, times, complex numbers
        raise ValueError(f"{name} must hold class numbers (integers), got dtype {array.dtype}. Number the classes.")
    outside = np.abs(array) >= _LARGEST_LABEL if array.dtype.kind == "f" else array >= _LARGEST_LABEL
    if outside.any():
        index = int(outside.argmax())
        raise ValueError(f"{name} holds {array[index]} at index {index}, which is no class number. Count from 0.")
    return torch.from_numpy(array.astype(np.int64))


def check_label_shape(shape: tuple[int, ...], name: str) -> None:
    """Refuse what is not one number per image.

    Raises:
        ValueError: If the shape is neither ``(N,)`` nor ``(N, 1)``.
    """
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{name} must hold one class number per image, shape (N,) or (N, 1), got {shape}. "
            "Turn one-hot rows into numbers with argmax(axis=1)."
        )


def numbered_classes(labels: Tensor, name: str) -> tuple[str, ...]:
    """Names ``"0".."K"`` up to the largest label, for a source that names no classes.

    Args:
        labels: Int64 of shape ``(N,)``.
        name: What the errors call it.

    Raises:
        ValueError: If there is no label, or the largest exceeds the number of samples, so that it can hardly be a class
            number.
    """
    if len(labels) == 0:
        raise ValueError(f"{name} is empty; at least one sample is needed.")
    highest = int(labels.max())
    if highest > len(labels):
        index = int(labels.argmax())
        raise ValueError(
            f"{name} holds the label {highest} at index {index}, but only {len(labels)} samples. "
            "Number the classes from 0 without gaps, or name all of them (classes)."
        )
    return tuple(str(number) for number in range(highest + 1))
