"""The 8x8 digits that come with scikit-learn: a data set without a download."""

import torch

from .augmentation import Augmentation
from .imageset import ImageSet
from .memory import check_memory
from .normalization import Normalization
from .optional import optional_import
from .resize import resize_tensor
from .source import DataSource
from .splits import stratified_split

# The same test images for everybody and every run.
_SPLIT_SEED = 0
_TEST_SHARE = 0.2


def load_digits(image_size: int | None, max_bytes: int) -> DataSource:
    """Load the set: 1,437 training and 360 test images, 1 channel, 8x8 pixels, 10 classes.

    Args:
        image_size: Side in pixels to resize to, or None.
        max_bytes: Limit for the images in memory.

    Returns:
        The source; crops by one pixel in eight, no mirroring, because mirrored digits are other glyphs.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If the resized images exceed ``max_bytes``.
    """
    sklearn_datasets = optional_import("sklearn.datasets", package="scikit-learn", needed_for="the data set 'digits'")
    bunch = sklearn_datasets.load_digits()
    images = torch.from_numpy(bunch.images)[:, None].mul(255 / 16).round().to(torch.uint8)
    side = image_size or images.shape[-1]
    check_memory(f"{len(images)} images of 1x{side}x{side}", len(images) * side * side, max_bytes)
    whole = ImageSet(
        images=resize_tensor(images, side),
        labels=torch.from_numpy(bunch.target).to(torch.int64),
        classes=tuple(str(name) for name in bunch.target_names),
    )
    train, test = stratified_split(whole.labels, _TEST_SHARE, seed=_SPLIT_SEED)
    train_set = whole.subset(train)
    return DataSource(
        name="digits",
        train=train_set,
        test=whole.subset(test),
        augmentation=Augmentation(crop_padding=round(side / 8)),
        normalization=Normalization.of(train_set),
    )
