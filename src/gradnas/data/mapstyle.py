"""Read a map-style dataset, the kind ``torch.utils.data.DataLoader`` takes, into memory."""

import operator
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .decode import image_to_array
from .imageset import ImageSet
from .labels import as_labels, numbered_classes
from .memory import check_memory
from .resize import check_image_size, resize_tensor
from .stack import ImageStack

_CHANNELS = (1, 3, 4)
_EXPECTED = "a tensor (C, H, W), a PIL image, or a numpy array ((H, W, C) uint8, (C, H, W) float or (H, W))"


class MapStyle(Protocol):
    """What is needed of a dataset: a length and samples ``(input, target)`` by position."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: int, /) -> object:
        """Sample at a position."""
        ...


def from_dataset(
    dataset: MapStyle,
    *,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    max_bytes: int = 4 * 2**30,
) -> ImageSet:
    """Read every sample once, in order.

    Args:
        dataset: ``dataset[i]`` is ``(image, label)``. An image is a tensor of shape ``(C, H, W)`` or ``(H, W)``,
            uint8 or float; a PIL image; or a numpy array of shape ``(H, W, C)`` uint8, ``(C, H, W)`` float or
            ``(H, W)``. A label is an int or a tensor or array with a single integer. A ``TensorDataset`` of two
            tensors is taken as it is, without a loop. Random transforms are drawn once, here.
        classes: Names of the classes; otherwise ``dataset.classes``, or the numbers up to the largest label.
        image_size: Side in pixels to resize to, or None if all images have one size.
        max_bytes: Limit for the images in memory.

    Returns:
        The images, uint8 as they are and floats as float32, and int64 labels.

    Raises:
        TypeError: If the dataset has no length or positions, or a sample is no ``(image, label)``.
        ValueError: If it is empty, images differ in shape or dtype, a label is outside the classes, there are fewer
            than two classes, or the images exceed ``max_bytes``. Bad samples are named by their index.
    """
    check_image_size(image_size)
    if not callable(getattr(dataset, "__len__", None)) or not callable(getattr(dataset, "__getitem__", None)):
        raise TypeError(
            f"{type(dataset).__name__} is no map-style dataset: it needs __len__ and __getitem__. "
            "Collect the samples of an iterable dataset in a list first."
        )
    n_samples = len(dataset)
    if n_samples == 0:
        raise ValueError(f"the dataset {type(dataset).__name__} is empty; at least one sample is needed.")
    if isinstance(dataset, torch.utils.data.TensorDataset):
        images, labels = _from_tensors(dataset.tensors, image_size, max_bytes)
    else:
        images, labels = _from_samples(dataset, n_samples, image_size, max_bytes)
    names = classes if classes is not None else getattr(dataset, "classes", None)
    if not isinstance(names, Sequence):
        names = numbered_classes(labels, "the dataset")
    return ImageSet(images=images, labels=labels, classes=tuple(str(name) for name in names))


def _from_tensors(tensors: Sequence[Tensor], image_size: int | None, max_bytes: int) -> tuple[Tensor, Tensor]:
    if len(tensors) != 2:
        raise TypeError(f"a TensorDataset must hold (images, labels), got {len(tensors)} tensors.")
    images = tensors[0]
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise ValueError(
            f"the images of a TensorDataset must have shape (N, C, H, W) or (N, H, W), got {tuple(tensors[0].shape)}."
        )
    if images.dtype != torch.uint8:
        if not images.is_floating_point():
            raise ValueError(f"images must be uint8 (0..255) or float, got {images.dtype}. Convert with .to().")
        images = images.float()
    height, width = images.shape[2:] if image_size is None else (image_size, image_size)
    n_bytes = images.shape[0] * images.shape[1] * height * width * images.element_size()
    check_memory(f"{len(images)} images of {images.shape[1]}x{height}x{width}", n_bytes, max_bytes)
    labels = as_labels(tensors[1], "the second tensor of the TensorDataset")
    return (images if image_size is None else resize_tensor(images, image_size)).detach(), labels


def _from_samples(dataset: MapStyle, n_samples: int, image_size: int | None, max_bytes: int) -> tuple[Tensor, Tensor]:
    stack = ImageStack(n_samples, max_bytes=max_bytes)
    labels = []
    for index in range(n_samples):
        sample = dataset[index]
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise TypeError(
                f"sample {index} must be (image, label), got {_describe(sample)}. "
                "Wrap the dataset so that it returns two values."
            )
        array, is_pil = _image_HWC(sample[0], index, image_size)
        # Gray and color files may be mixed in a folder; arrays keep the channels they have.
        stack.promote_gray = is_pil
        stack.add(array, f"sample {index}")
        labels.append(_label(sample[1], index))
    return stack.tensor(), torch.tensor(labels, dtype=torch.int64)


def _image_HWC(image: object, index: int, image_size: int | None) -> tuple[npt.NDArray[np.generic], bool]:
    """Array of shape ``(H, W, C)``, uint8 or float32, and whether it came as a PIL image."""
    from PIL import Image

    if isinstance(image, Image.Image):
        try:
            return image_to_array(image, image_size), True
        except ValueError as error:
            raise ValueError(f"sample {index}: {error}.") from error
    if isinstance(image, np.ndarray):
        tensor = _array_CHW(image, index)
    elif isinstance(image, Tensor):
        tensor = image.detach().cpu()
    else:
        raise TypeError(f"the image of sample {index} is {_describe(image)}. Expected {_EXPECTED}.")
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim != 3 or 0 in tensor.shape:
        raise ValueError(f"the image of sample {index} is {_describe(image)}. Expected {_EXPECTED}.")
    if tensor.dtype != torch.uint8:
        if not tensor.is_floating_point():
            raise ValueError(
                f"the image of sample {index} is {_describe(image)}. Expected dtype uint8 (0..255) or float."
            )
        tensor = tensor.float()
    if image_size is not None:
        tensor = resize_tensor(tensor[None], image_size)[0]
    return tensor.permute(1, 2, 0).numpy(), False


def _array_CHW(image: npt.NDArray[np.generic], index: int) -> Tensor:
    if image.ndim == 3 and image.dtype == np.uint8:
        if image.shape[2] not in _CHANNELS:
            raise ValueError(
                f"the image of sample {index} is {_describe(image)}. A uint8 array must be (H, W, C) with 1, 3 or 4 "
                "channels; move the channels last with transpose(1, 2, 0)."
            )
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    if image.dtype.kind not in "uif":
        raise TypeError(f"the image of sample {index} is {_describe(image)}. Expected {_EXPECTED}.")
    return torch.from_numpy(np.ascontiguousarray(image))


def _label(target: object, index: int) -> int:
    if isinstance(target, Tensor | np.ndarray) and target.ndim == 1 and len(target) == 1:
        target = target[0]
    try:
        return operator.index(target)  # type: ignore[arg-type]  # it raises TypeError for what is no integer
    except TypeError as error:
        raise TypeError(
            f"the label of sample {index} is {_describe(target)}. Expected a class number: an int, or a tensor with "
            "a single integer."
        ) from error


def _describe(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{type(value).__name__} of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of length {len(value)}"
    return f"{type(value).__name__} {value!r}"[:120]
