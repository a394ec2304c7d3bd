"""How evenly the images are spread over the classes, and what is to be said about it."""

from dataclasses import dataclass

import torch

from .source import DataSource

_LARGEST_RATIO = 10.0
_FEWEST_IMAGES = 10
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class ClassBalance:
    """Training images by class.

    Attributes:
        counts: Images of each class, in the order of the classes.
        ratio: The largest class by the smallest one that has images.
        warnings: What a user should know, a sentence or two each; empty where nothing is unusual.
    """

    counts: dict[str, int]
    ratio: float
    warnings: tuple[str, ...]


def class_balance(source: DataSource) -> ClassBalance:
    """Count the training images of each class.

    Args:
        source: A loaded set.

    Returns:
        Counts, and warnings where the largest class has more than ten times the images of the smallest, or a class has
        fewer than ten images or none. The test images are not looked at: a search may not know them.
    """
    classes = source.train.classes
    counts = torch.bincount(source.train.labels.cpu(), minlength=len(classes)).tolist()
    present = {name: count for name, count in zip(classes, counts, strict=True) if count > 0}
    smallest, largest = min(present, key=lambda name: present[name]), max(present, key=lambda name: present[name])
    ratio = present[largest] / present[smallest]
    found = []
    if ratio > _LARGEST_RATIO:
        found.append(
            f"the class {largest!r} has {present[largest]:,} training images, {smallest!r} {present[smallest]:,}: "
            f"{ratio:.0f} times as many. Accuracy over all images says little of small classes; look at that of each."
        )
    few = [name for name, count in present.items() if count < _FEWEST_IMAGES]
    if few:
        found.append(f"fewer than {_FEWEST_IMAGES} training images of {_named(few)}: hardly enough to learn from.")
    absent = [name for name in classes if name not in present]
    if absent:
        found.append(f"no training image of {_named(absent)}: nothing can be learnt of it.")
    return ClassBalance(counts=dict(zip(classes, counts, strict=True)), ratio=ratio, warnings=tuple(found))


def _named(names: list[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:_NAMED])
    rest = len(names) - _NAMED
    return (
        f"the class {listed}"
        if len(names) == 1
        else f"{len(names)} classes ({listed}{f' and {rest} more' if rest > 0 else ''})"
    )
