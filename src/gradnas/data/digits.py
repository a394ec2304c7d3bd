"""The 8x8 digits that come with scikit-learn: a data set without a download."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .imageset import ImageSet
from .memory import check_memory
from .optional import optional_import
from .options import LoadOptions
from .resize import resize_tensor
from .splits import stratified_split

# The same test images for everybody and every run.
_SPLIT_SEED = 0
_TEST_SHARE = 0.2


def load_digits(options: LoadOptions) -> tuple[ImageSet, ImageSet]:
    """Load the set: 1,437 training and 360 test images, 1 channel, 8x8 pixels, 10 classes.

    Args:
        options: Uses ``image_size``, and ``max_bytes``, the limit for the images in memory.

    Returns:
        Training and test images, the same for everybody.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If the resized images exceed the limit.
    """
    pixels, labels = _read()
    images = pixels.mul(255 / 16).round().to(torch.uint8)
    side = options.image_size or images.shape[-1]
    check_memory(f"{len(images)} images of 1x{side}x{side}", len(images) * side * side, options.max_bytes)
    whole = ImageSet(
        images=resize_tensor(images, side),
        labels=labels,
        classes=tuple(str(digit) for digit in range(10)),
    )
    train, test = stratified_split(whole.labels, _TEST_SHARE, seed=_SPLIT_SEED)
    return whole.subset(train), whole.subset(test)


def _read() -> tuple[Tensor, Tensor]:
    """Images (N, 1, 8, 8) with values 0 to 16, and labels (N,)."""
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():  # importing the whole of scikit-learn for it takes as long as importing torch
            table = torch.from_numpy(np.loadtxt(file, delimiter=","))
            return table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].to(torch.int64)
    datasets = optional_import("sklearn.datasets", package="scikit-learn", needed_for="the data set 'digits'")
    bunch = datasets.load_digits()
    return torch.from_numpy(bunch.images)[:, None], torch.from_numpy(bunch.target).to(torch.int64)
