"""Image files sorted into ``train/CLASS`` and ``test/CLASS``, in a folder or a ``.zip`` that is never unpacked."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from .decode import ImageFile
from .image_listing import list_images
from .image_samples import LabeledSamples, read_samples
from .labeled_images import LabeledImages
from .options import LoadOptions

_NAMED = 10


def read_image_folder(path: Path, options: LoadOptions) -> tuple[LabeledImages, LabeledImages | None]:
    """Read all images of a folder or ``.zip`` in ImageFolder layout, or prepare to stream them.

    Hidden files and files with other endings than png, jpg, jpeg, jfif, bmp, webp and ppm are passed over. Images are
    RGB unless all are gray; of an animated one the first frame is taken, and an orientation in its EXIF data is not
    applied. Links in a folder are followed, links in a ``.zip`` refused. Inside a ``.zip``, one folder around ``train``
    and ``test`` is allowed, and files beside it are passed over. Where there is no ``test``, ``val`` takes its place;
    beside ``test`` it is passed over.

    Args:
        path: Folder or ``.zip`` file.
        options: How to read; the limit is for the decoded images, train and test together, and for the files of a
            ``.zip``.

    Returns:
        Training and test images (None without a folder of them), both in memory or both streamed. The classes are the
        sorted folder names; a class that is missing in the test images is warned of.

    Raises:
        UnreadableImageError: If an image cannot be read, unless such are to be skipped.
        ValueError: If the layout differs, a class folder is empty or occurs in the test images only, sizes differ and
            no ``image_size`` is given, a file or the total is too large, a link leads into a circle, or a member of a
            ``.zip`` is none that :func:`gradnas.data.archive.open_archive` accepts.
    """
    listing = list_images(path)
    try:
        classes = tuple(listing.train)
        missing = [name for name in classes if name not in listing.test]
        if listing.test and missing:
            warnings.warn(
                f"{path}: there are no test images of {len(missing)} of {len(classes)} classes "
                f"({', '.join(missing[:_NAMED])}{', …' if len(missing) > _NAMED else ''}): nothing will be known of "
                "the accuracy on these. Add their folders if there are such images.",
                stacklevel=2,
            )
        train, test = (_samples(part, classes) for part in (listing.train, listing.test))
        found = read_samples(str(path), train, test, classes, options, packed_bytes=listing.packed_bytes)
    except BaseException:
        listing.close()
        raise
    if not found[0].streamed:
        listing.close()
    return found


def _samples(by_class: Mapping[str, list[ImageFile]], classes: tuple[str, ...]) -> LabeledSamples:
    numbers = {name: number for number, name in enumerate(classes)}
    listed = [(file, numbers[name]) for name, files in by_class.items() for file in files]
    return LabeledSamples(samples=[file for file, _ in listed], labels=[label for _, label in listed])
