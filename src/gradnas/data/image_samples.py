"""From images that can be opened one by one to training and test sets, in memory or streamed."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from gradnas.foundation.seeds import generator

from .decode import ImageSample, UnreadableImageError, decode_all, is_gray
from .imageset import ImageSet
from .labeled_images import LabeledImages
from .memory import check_memory
from .normalization import Normalization
from .optional import optional_import
from .options import LoadOptions
from .stack import ImageStack
from .streamed import StreamedSet

# Heads of files that say whether a set is gray, and images that say how bright a streamed one is.
_LOOKED_AT = 64
_MEASURED = 2048
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class LabeledSamples:
    """Images to be read, with their classes.

    Attributes:
        samples: The images.
        labels: The position of each one's class.
    """

    samples: Sequence[ImageSample]
    labels: Sequence[int]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.samples)


def read_samples(
    what: str,
    train: LabeledSamples,
    test: LabeledSamples,
    classes: tuple[str, ...],
    options: LoadOptions,
    *,
    packed_bytes: int = 0,
) -> tuple[LabeledImages, LabeledImages | None]:
    """Read images into memory, or prepare to stream them.

    Args:
        what: The source, for messages.
        train: Training images.
        test: Test images; there may be none.
        classes: Names of the classes.
        options: How to read; says what is streamed.
        packed_bytes: What the files of an archive give together at most, which is limited like the images.

    Returns:
        Training and test images (None if there are none), both in memory or both streamed.

    Raises:
        UnreadableImageError: If an image cannot be read, unless such are to be skipped.
        ValueError: If sizes differ and no ``image_size`` is given, the images exceed the limit and are not streamed, or
            none is left.
    """
    everything = LabeledSamples(samples=(*train.samples, *test.samples), labels=(*train.labels, *test.labels))
    channels = options.channels or _channels_of(everything.samples, _LOOKED_AT)
    if not _to_be_streamed(what, len(everything), channels, packed_bytes, options):
        check_memory(f"the files in {what}", packed_bytes, options.max_bytes, options.advice)
        return _in_memory(what, everything, len(train), classes, options)
    if channels == 1 and options.channels is None:  # a colored one among them would end the run when it is read
        channels = _channels_of(everything.samples, len(everything))
    faults: dict[int, UnreadableImageError] = {}
    if options.skip_unreadable:
        outcomes = enumerate(decode_all(everything.samples, options))
        faults = {place: outcome for place, outcome in outcomes if isinstance(outcome, UnreadableImageError)}
    kept = _kept(what, faults, len(train), len(test))
    parts = [
        StreamedSet(
            samples=tuple(everything.samples[place] for place in places),
            labels=torch.tensor([everything.labels[place] for place in places]),
            classes=classes,
            channels=channels,
            options=options,
        )
        for places in kept
        if places
    ]
    return parts[0], parts[1] if len(parts) > 1 else None


def measured_normalization(images: LabeledImages) -> Normalization:
    """Mean and standard deviation of training images; of a streamed set those of 2,048 images drawn from it.

    Args:
        images: The training images. The draw does not depend on the seed of a run.
    """
    if isinstance(images, StreamedSet):
        chosen = torch.randperm(len(images), generator=generator(0, "normalization"))[:_MEASURED]
        images = images.subset(chosen.sort().values).loaded()
    assert isinstance(images, ImageSet)
    return Normalization.of(images)


def _to_be_streamed(what: str, n_samples: int, channels: int, packed_bytes: int, options: LoadOptions) -> bool:
    side = options.image_size
    if side is None:
        if options.stream == "always":
            raise ValueError(
                f"{what}: images that are read batch by batch must be brought to one size. Pass image_size=, or leave "
                "stream='always' out."
            )
        return False
    needed = max(n_samples * channels * side * side, packed_bytes)
    return options.stream == "always" or (options.stream == "auto" and needed > options.max_bytes)


def _channels_of(samples: Sequence[ImageSample], looked_at: int) -> int:
    """1 if all of so many images are gray by the heads of their files, else 3."""
    optional_import("PIL.Image", package="pillow", needed_for="reading image files")
    count = min(looked_at, len(samples))
    for place in range(count):
        try:
            with samples[place * len(samples) // count].open() as image:
                if not is_gray(image):
                    return 3
        except Exception:  # noqa: BLE001 - reading it will say what is wrong with it
            continue
    return 1


def _in_memory(
    what: str, everything: LabeledSamples, n_train: int, classes: tuple[str, ...], options: LoadOptions
) -> tuple[ImageSet, ImageSet | None]:
    stack = ImageStack(len(everything), max_bytes=options.max_bytes, advice=options.advice, promote_gray=True)
    faults: dict[int, UnreadableImageError] = {}
    for place, image in enumerate(decode_all(everything.samples, replace(options, skip_unreadable=True))):
        if isinstance(image, UnreadableImageError):
            faults[place] = image
        else:
            stack.add(image, everything.samples[place].name)
    if faults and not options.skip_unreadable:
        raise _unreadable(what, list(faults.values()), len(everything))
    kept = _kept(what, faults, n_train, len(everything) - n_train)
    images = stack.tensor().split([len(places) for places in kept])
    parts = [
        ImageSet(images=part, labels=torch.tensor([everything.labels[place] for place in places]), classes=classes)
        for part, places in zip(images, kept, strict=True)
        if places
    ]
    return parts[0], parts[1] if len(parts) > 1 else None


def _unreadable(what: str, faults: Sequence[UnreadableImageError], n_images: int) -> UnreadableImageError:
    """One error for all images of a set that cannot be read."""
    if len(faults) == 1:
        return faults[0]
    named = " ".join(str(fault) for fault in faults[:_NAMED])
    return UnreadableImageError(
        f"{what}: {len(faults):,} of {n_images:,} images cannot be read; data.skip_unreadable leaves them out. "
        f"{named}{' …' if len(faults) > _NAMED else ''}"
    )


def _kept(
    what: str, faults: Mapping[int, UnreadableImageError], n_train: int, n_test: int
) -> tuple[list[int], list[int]]:
    """Places of the training and of the test images that can be read, with a warning of those that cannot."""
    train = [place for place in range(n_train) if place not in faults]
    test = [place for place in range(n_train, n_train + n_test) if place not in faults]
    if not train or (n_test > 0 and not test):
        part = "test" if train else "training"
        raise ValueError(f"{what}: none of its {part} images can be read. {next(iter(faults.values()))}")
    if faults:
        named = " ".join(str(fault) for fault in list(faults.values())[:_NAMED])
        warnings.warn(
            f"{what}: {len(faults):,} of {n_train + n_test:,} images cannot be read and are left out "
            f"(skip_unreadable). {named}{' …' if len(faults) > _NAMED else ''}",
            stacklevel=2,
        )
    return train, test
