"""A loaded data set with the settings that suit it."""

from dataclasses import dataclass

from .augmentation import Augmentation
from .labeled_images import LabeledImages
from .normalization import Normalization

# Color images below this side show glyphs or textures rather than things that can be mirrored.
_SMALLEST_PHOTOGRAPH = 24


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSource:
    """A named data set.

    Attributes:
        name: Name of the set, or file name without its ending.
        train: Training images; a validation part is split off by the run, see ``stratified_split``.
        test: Test images of the same shape and classes, or None.
        augmentation: The sensible default for this set.
        normalization: Measured on ``train``, or published for the set.

    Raises:
        ValueError: If the test images differ from the training images in shape, dtype or classes.
    """

    name: str
    train: LabeledImages
    test: LabeledImages | None
    augmentation: Augmentation
    normalization: Normalization

    def __post_init__(self) -> None:
        """Check that there are classes to tell apart, and that the test images are like the training images."""
        if len(self.train.labels.unique()) < 2:
            raise ValueError(
                f"{self.name}: all training images are of the class "
                f"{self.train.classes[int(self.train.labels[0])]!r}; a classifier needs at least two classes."
            )
        if self.test is None:
            return
        for what, train, test in (
            ("shape (C, H, W)", self.train.shape, self.test.shape),
            ("dtype", self.train.dtype, self.test.dtype),
            ("classes", self.train.classes, self.test.classes),
        ):
            if train != test:
                raise ValueError(f"{self.name}: the training images have {what} {train}, the test images {test}.")


def default_augmentation(images: LabeledImages) -> Augmentation:
    """Crops for all images, mirroring for color images of at least 24 pixels a side.

    Args:
        images: The training images.

    Returns:
        ``crop_padding`` of an eighth of the height; ``flip`` only where a mirrored image shows the same kind of thing.
    """
    channels, height, width = images.shape
    photographs = channels == 3 and min(height, width) >= _SMALLEST_PHOTOGRAPH
    return Augmentation(crop_padding=min(height // 8, width), flip=photographs)
