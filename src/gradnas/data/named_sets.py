"""The one table of the data sets that are known by name.

Normalization follows one rule: where the table has published constants and the images have the channels they were
published for, these are used, whatever the image size; everything else is measured on the training images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .augmentation import Augmentation
from .normalization import Normalization

_TRAIN_FLAG: tuple[Mapping[str, object], Mapping[str, object]] = ({"train": True}, {"train": False})
_SPLIT: tuple[Mapping[str, object], Mapping[str, object]] = ({"split": "train"}, {"split": "test"})
_TRAINVAL: tuple[Mapping[str, object], Mapping[str, object]] = ({"split": "trainval"}, {"split": "test"})


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """What is known of a set without its images, and how to load it.

    Attributes:
        origin: Who has it: a class of torchvision, scikit-learn, or a folder that the user fills.
        class_name: Class in ``torchvision.datasets``; empty for another origin.
        channels: Channels of an image.
        side: Side of its images in pixels; None where they are photographs of different sizes.
        image_size: Side to which such photographs are brought unless another one is asked for.
        n_classes: Classes.
        n_train: Training images.
        n_test: Test images.
        parts: Keyword arguments of the training and of the test part.
        layout: Layout of its array of all images, ``"NHWC"``, ``"NCHW"`` or ``"NHW"``; None if it holds files, which
            are decoded one by one.
        labels: Attribute with the labels that go with the array, or with the files, each a label or ``(file, label)``.
        normalization: Published mean and standard deviation; None where none is in common use.
        padding_share: Default crop padding as a share of the height.
        resized_crop: Default smallest share of the area of a random crop; 0 is off.
        flip: Whether mirrored images are good training images.
        by_hand: How to get a set that cannot be downloaded; empty for the others.
    """

    origin: Literal["torchvision", "scikit-learn", "folder"] = "torchvision"
    class_name: str = ""
    channels: int = 3
    side: int | None = None
    image_size: int = 224
    n_classes: int
    n_train: int
    n_test: int
    parts: tuple[Mapping[str, object], Mapping[str, object]] = field(default_factory=lambda: _SPLIT)
    layout: str | None = None
    labels: str = "targets"
    normalization: Normalization | None = None
    padding_share: float = 1 / 8
    resized_crop: float = 0.0
    flip: bool = True
    by_hand: str = ""

    def size(self, image_size: int | None) -> int | None:
        """Side to which images must be brought; None where they keep theirs."""
        return image_size or (self.image_size if self.side is None else None)

    def augmentation(self, height: int) -> Augmentation:
        """The default for images of a height in pixels."""
        padding = 0 if self.resized_crop > 0 else round(height * self.padding_share)
        return Augmentation(crop_padding=padding, resized_crop=self.resized_crop, flip=self.flip)

    def augmentation_text(self, height: int) -> str:
        """The same in words."""
        default = self.augmentation(height)
        parts = (
            f"crop {default.crop_padding}" if default.crop_padding else "",
            f"resized crop {default.resized_crop:g}" if default.resized_crop else "",
            "flip" if default.flip else "",
        )
        return ", ".join(part for part in parts if part)

    @property
    def where(self) -> str:
        """Where it comes from, in words."""
        if self.origin == "scikit-learn":
            return "handwritten digits that scikit-learn brings along: always there"
        if self.origin == "folder":
            return "train/CLASS and val/CLASS in data.root, put there by hand"
        how = "put into data.root by hand" if self.by_hand else "downloaded when it is first used"
        return f"torchvision.datasets.{self.class_name}, {how}"

    def published(self, channels: int) -> Normalization | None:
        """The published normalization of images with so many channels."""
        return self.normalization if channels == self.channels else None


def _rgb(mean: tuple[float, float, float], std: tuple[float, float, float]) -> Normalization:
    return Normalization(mean=mean, std=std)


def _glyphs(
    class_name: str,
    *,
    n_train: int = 60_000,
    n_test: int = 10_000,
    side: int = 28,
    padding_share: float = 1 / 14,
    normalization: Normalization | None = None,
) -> NamedSet:
    return NamedSet(
        class_name=class_name,
        channels=1,
        side=side,
        n_classes=10,
        n_train=n_train,
        n_test=n_test,
        parts=_TRAIN_FLAG,
        layout="NHW",
        normalization=normalization,
        padding_share=padding_share,
        flip=False,
    )


def _cifar(class_name: str, n_classes: int, normalization: Normalization) -> NamedSet:
    return NamedSet(
        class_name=class_name,
        side=32,
        n_classes=n_classes,
        n_train=50_000,
        n_test=10_000,
        parts=_TRAIN_FLAG,
        layout="NHWC",
        normalization=normalization,
    )


NAMED_SETS: Mapping[str, NamedSet] = {
    "cifar10": _cifar("CIFAR10", 10, _rgb((0.49140, 0.48216, 0.44653), (0.24703, 0.24349, 0.26159))),
    "cifar100": _cifar("CIFAR100", 100, _rgb((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))),
    "country211": NamedSet(class_name="Country211", n_classes=211, n_train=31_650, n_test=21_100),
    "digits": NamedSet(
        origin="scikit-learn", channels=1, side=8, n_classes=10, n_train=1_437, n_test=360, layout="NHW", flip=False
    ),
    "dtd": NamedSet(class_name="DTD", n_classes=47, n_train=1_880, n_test=1_880, labels="_labels"),
    "fashion-mnist": _glyphs("FashionMNIST", normalization=Normalization(mean=(0.2860,), std=(0.3530,))),
    "fgvc-aircraft": NamedSet(
        class_name="FGVCAircraft", n_classes=100, n_train=6_667, n_test=3_333, parts=_TRAINVAL, labels="_labels"
    ),
    "flowers102": NamedSet(class_name="Flowers102", n_classes=102, n_train=1_020, n_test=6_149, labels="_labels"),
    "food101": NamedSet(class_name="Food101", n_classes=101, n_train=75_750, n_test=25_250, labels="_labels"),
    "gtsrb": NamedSet(
        class_name="GTSRB", image_size=48, n_classes=43, n_train=26_640, n_test=12_630, labels="_samples", flip=False
    ),
    "imagenet": NamedSet(
        origin="folder",
        n_classes=1_000,
        n_train=1_281_167,
        n_test=50_000,
        normalization=_rgb((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        resized_crop=0.08,
        by_hand="It may not be handed on: register where it is offered (ILSVRC 2012), unpack the training images as "
        "train/CLASS/ and the validation images, sorted by their labels, as val/CLASS/.",
    ),
    "kmnist": _glyphs("KMNIST"),
    "mnist": _glyphs("MNIST", normalization=Normalization(mean=(0.1307,), std=(0.3081,))),
    "oxford-iiit-pet": NamedSet(
        class_name="OxfordIIITPet", n_classes=37, n_train=3_680, n_test=3_669, parts=_TRAINVAL, labels="_labels"
    ),
    "rendered-sst2": NamedSet(
        class_name="RenderedSST2", n_classes=2, n_train=6_920, n_test=1_821, labels="_samples", flip=False
    ),
    "stanford-cars": NamedSet(
        class_name="StanfordCars",
        n_classes=196,
        n_train=8_144,
        n_test=8_041,
        labels="_samples",
        by_hand="Its address is gone and torchvision cannot download it any more: get a copy elsewhere and put "
        "cars_train/, cars_test/, devkit/ and cars_test_annos_withlabels.mat into its folder stanford_cars; reading "
        "the .mat files needs the package scipy.",
    ),
    "stl10": NamedSet(
        class_name="STL10", side=96, n_classes=10, n_train=5_000, n_test=8_000, layout="NCHW", labels="labels"
    ),
    "svhn": NamedSet(
        class_name="SVHN",
        side=32,
        n_classes=10,
        n_train=73_257,
        n_test=26_032,
        layout="NCHW",
        labels="labels",
        normalization=_rgb((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
        padding_share=1 / 16,
        flip=False,
    ),
    "usps": _glyphs("USPS", n_train=7_291, n_test=2_007, side=16, padding_share=1 / 16),
}


def set_name(source: object) -> str | None:
    """The name in :data:`NAMED_SETS` that a user means by a text, in any case and with ``_`` or ``-``; else None."""
    name = source.lower().replace("_", "-") if isinstance(source, str) else ""
    return name if name in NAMED_SETS else None
