"""Batches per second of the data pipeline against torchvision's.

    python benchmarks/data_pipeline.py [--seconds 2] [--repeats 5] [--threads 1] [--archive cifar10.zip]

Writes ``benchmarks/results/data_pipeline.json``. Images of CIFAR-10's size, batches of 96, the augmentation of DARTS:
crop with 4 pixels of padding, mirroring, normalization, a hole of 16 pixels. Torch computes on one thread, as it does
in the workers: threads that wait for each other take many times as long where other programs run.

``in memory`` is the pipeline of a run; ``torchvision, PIL`` the classes of torchvision on PIL images in a DataLoader
with two worker processes; ``torchvision, tensors`` its second release on tensors, likewise. The hole, which torchvision
does not have, is the usual few lines on one image. With an archive of JPEG files, ``streamed`` reads and decodes each
batch from it on two threads, against torchvision's ImageFolder on the unpacked files with two worker processes; neither
augments. Workers are started, and the files read once, before anything is timed.

The pipelines take turns, each for ``--seconds``; ``speedup`` is the median of the ratios turn by turn, and the bar is
that of ``in memory`` to ``torchvision, PIL``. Other programs may run meanwhile; ``load`` is the load of the machine at
the start and in the end.
"""

import argparse
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from _steps import machine, spread, write_result
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms
from torchvision.transforms import v2

from gradnas.data import Augmentation, BatchLoader, ImageSet, Normalization, load_data

BATCH, N, WORKERS, HOLE = 96, 9_600, 2, 16
MEAN, STD = (0.49140, 0.48216, 0.44653), (0.24703, 0.24349, 0.26159)
NORMALIZATION = Normalization(mean=MEAN, std=STD)
BAR = 5.0
Batches = Iterator[object]


class Hole:
    """The square hole for one image, as published code has it."""

    def __call__(self, image: Tensor) -> Tensor:
        """Fill it with zeros."""
        height, width = image.shape[1:]
        row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
        top, left = max(row - HOLE // 2, 0), max(column - HOLE // 2, 0)
        image[:, top : row + HOLE // 2, left : column + HOLE // 2] = 0.0
        return image


class Samples(Dataset[tuple[Any, int]]):
    """Images one by one, as torchvision's CIFAR10 gives them: of an array, as PIL images or as tensors."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Any], Tensor], *, pil: bool) -> None:
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy() if pil else images
        self.labels, self.transform, self.pil = labels.tolist(), transform, pil

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Image and label."""
        image = self.images[index]
        return self.transform(Image.fromarray(image) if self.pil else image), self.labels[index]


def endless(loader: "DataLoader[Any]") -> Batches:
    """Batches over as many epochs as they take; the workers stay."""
    while True:
        yield from loader


def endless_epochs(loader: BatchLoader) -> Batches:
    """The same of ours."""
    epoch = 0
    while True:
        yield from loader.batches(epoch)
        epoch += 1


def with_workers(samples: Dataset[Any]) -> Batches:
    """Shuffled batches of a DataLoader whose workers live as long as it."""
    return endless(
        DataLoader(samples, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True, drop_last=True)
    )


def in_memory_pipelines() -> dict[str, Batches]:
    """The three pipelines on random images."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N, 3, 32, 32), generator=draws, dtype=torch.uint8)
    labels = torch.arange(N) % 10
    data = ImageSet(images=images, labels=labels, classes=tuple("abcdefghij"))
    augmentation = Augmentation(crop_padding=4, flip=True, cutout=HOLE)
    of_pil = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
            Hole(),
        ]
    )
    of_tensors = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            Hole(),
        ]
    )
    return {
        "in memory": endless_epochs(loader_of(data, augmentation)),
        "torchvision, PIL": with_workers(Samples(images, labels, of_pil, pil=True)),
        "torchvision, tensors": with_workers(Samples(images, labels, of_tensors, pil=False)),
    }


def file_pipelines(archive: Path, folder: Path) -> dict[str, Batches]:
    """An archive of image files, streamed, and its files below a folder in torchvision's ImageFolder."""
    source = load_data(archive, image_size=32, stream="always", workers=WORKERS)
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            if "train/" in name and not name.endswith("/"):
                target = folder / name[name.index("train/") :]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(packed.read(name))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    return {
        "streamed": endless_epochs(loader_of(source.train, None)),
        "torchvision, ImageFolder": with_workers(datasets.ImageFolder(folder / "train", transform)),
    }


def loader_of(images: Any, augmentation: Augmentation | None) -> BatchLoader:
    """Shuffled batches."""
    return BatchLoader(
        images,
        batch_size=BATCH,
        normalization=NORMALIZATION,
        shuffle=True,
        seed=0,
        purpose="benchmark",
        augmentation=augmentation,
    )


def rate(batches: Batches, seconds: float) -> float:
    """Batches per second over a time."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += 1
    return count / (time.perf_counter() - start)


def compared(pipelines: dict[str, Batches], seconds: float, repeats: int) -> dict[str, Any]:
    """Rates of pipelines that take turns, the first against each other one."""
    for batches in pipelines.values():
        rate(batches, seconds)  # workers start, files are read a first time
    rates: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(repeats):
        for name, batches in pipelines.items():
            rates[name].append(rate(batches, seconds))
    ours, *others = rates
    return {
        "batches_per_second": {name: spread(values) for name, values in rates.items()},
        "images_per_second": {name: BATCH * spread(values)["median"] for name, values in rates.items()},
        "speedup": {
            name: spread([mine / theirs for mine, theirs in zip(rates[ours], rates[name], strict=True)])
            for name in others
        },
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--archive", type=Path, help=".zip with train/CLASS/ of JPEG files of 32 x 32 pixels")
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    before = os.getloadavg()
    in_memory = compared(in_memory_pipelines(), args.seconds, args.repeats)
    result: dict[str, Any] = {
        "what": "batches of 96 images of 3x32x32: crop, mirroring, normalization, hole",
        "settings": {"seconds": args.seconds, "repeats": args.repeats, "workers": WORKERS, "threads": args.threads},
        "n": args.repeats,
        **in_memory,
        "bar": BAR,
        "within_bar": in_memory["speedup"]["torchvision, PIL"]["median"] >= BAR,
    }
    if args.archive is not None:
        with tempfile.TemporaryDirectory() as temporary:
            files = file_pipelines(args.archive, Path(temporary))
            result["files"] = {
                "what": f"batches of 96 images decoded from the JPEG files of {args.archive.name}, normalized",
                **compared(files, args.seconds, args.repeats),
            }
            del files
    result["load"] = {"before": before, "after": os.getloadavg()}
    result["note"] = "other programs ran on the same machine meanwhile"
    result["machine"] = machine()
    target = write_result("data_pipeline", result)
    used = result["machine"]
    print(f"{used['processor']}, {used['threads']} threads, n={args.repeats}")
    for part in (result, *([result["files"]] if "files" in result else [])):
        for name, values in part["batches_per_second"].items():
            print(f"{name}: {values['median']:.1f} batches/s ({values['min']:.1f} to {values['max']:.1f})")
        for name, values in part["speedup"].items():
            print(f"  {values['median']:.1f} times {name} ({values['min']:.1f} to {values['max']:.1f})")
    print(f"bar of {BAR:g} times: {'met' if result['within_bar'] else 'missed'} -> {target}")


if __name__ == "__main__":
    main()
