"""Small runs: 10 × 8 images of 8×8 pixels with a pattern per class, three cells, four candidates."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas.config import BaselineConf, ComponentConf, DataConf, RetrainConf, RunConf, SearchConf
from gradnas.data import Augmentation, DataSource, ImageSet, Normalization
from gradnas.pipeline import RunContext, RunFolder
from gradnas.spaces import DartsSpace
from gradnas.training import EpochRecord, Silence

CLASSES = 5
PRIMITIVES = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]


def _images(n: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(n) % CLASSES
    images = patterns[labels] + 0.3 * torch.randn(n, 1, 8, 8, generator=generator)
    return ImageSet(images=images, labels=labels, classes=tuple("abcde"))


@pytest.fixture(scope="session")
def source() -> DataSource:
    """80 training and 20 test images."""
    train = _images(80, 0)
    return DataSource(
        name="patterns",
        train=train,
        test=_images(20, 1),
        augmentation=Augmentation(crop_padding=1),
        normalization=Normalization.of(train),
    )


@pytest.fixture(scope="session")
def space() -> DartsSpace:
    return DartsSpace(1, 8, CLASSES, channels=2, cells=3, nodes=2, reductions=1, primitives=PRIMITIVES)


class Killed(Exception):  # noqa: N818 - not an error of ours
    pass


@dataclass
class Tools:
    """What the tests of this folder share."""

    source: DataSource
    space: DartsSpace
    tmp_path: Path
    killed: type[Exception] = Killed
    primitives: list[str] = field(default_factory=lambda: list(PRIMITIVES))

    def search_conf(self, **changes: Any) -> SearchConf:
        return replace(SearchConf(epochs=2, batch_size=8, max_steps_per_epoch=2), **changes)

    def retrain_conf(self, **changes: Any) -> RetrainConf:
        return replace(RetrainConf(epochs=2, batch_size=8, max_steps_per_epoch=2, channels=2, cells=3), **changes)

    def conf(self, **changes: Any) -> RunConf:
        options = {"channels": 2, "cells": 3, "nodes": 2, "reductions": 1, "primitives": self.primitives}
        default = RunConf(
            data=DataConf(source=None),
            space=ComponentConf(options=options),
            search=self.search_conf(),
            retrain=self.retrain_conf(),
            baseline=BaselineConf(samples=0),
            device="cpu",
        )
        return replace(default, **changes)

    def folder(self, name: str = "run", conf: RunConf | None = None) -> RunFolder:
        path = self.tmp_path / name
        return RunFolder.open(path) if RunFolder(path).is_run() else RunFolder.create(path, conf or self.conf())

    def context(self, folder: RunFolder | None = None, **changes: Any) -> RunContext:
        return replace(RunContext(data=self.source, folder=folder), **changes)

    def kill_after(self, phase: str, epoch: int) -> Silence:
        """A listener that stops the run with an exception."""
        killed = self.killed

        class Killer(Silence):
            def on_epoch(self, record: EpochRecord) -> None:
                if (record.phase, record.epoch) == (phase, epoch):
                    raise killed(f"{phase} {epoch}")

        return Killer()


@pytest.fixture
def tools(source: DataSource, space: DartsSpace, tmp_path: Path) -> Tools:
    return Tools(source, space, tmp_path)


@pytest.fixture(scope="session")
def without_seconds() -> Callable[[Any], Any]:
    """A copy of nested values with every measured time taken out."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            measured = ("seconds", "latency", "throughput")
            return {k: strip(v) for k, v in value.items() if not k.endswith(measured)}
        return [strip(item) for item in value] if isinstance(value, (list, tuple)) else value

    return strip
