"""A run is stopped before a checkpoint and continued by new objects: the end is that of the whole run.

The stops are copies of the run folder, made before each checkpoint of a run that saves after every step: what a kill at
that moment would leave, a line of the log without its checkpoint included. The whole run saves after epochs only, so a
difference also shows that saving itself would change what follows. ``tests/faults`` kills real processes.
"""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradnas.arch import OpDesc
from gradnas.config import GridConf, ModelConf, RetrainConf, RunConf, SearchConf
from gradnas.data import Augmentation, DataSource, ImageSet, Normalization
from gradnas.finalizers import Finalizers, RandomFinalizers
from gradnas.models import PyramidNet, ShakeResNet, ZooModel
from gradnas.ops import Op
from gradnas.pipeline import (
    ArchTrainer,
    Evaluater,
    ManualExperiment,
    RandomSearcher,
    RunContext,
    RunFolder,
    SearchCombinations,
    Searcher,
)
from gradnas.pipeline.random_searcher import random_member
from gradnas.spaces import DartsSpace
from gradnas.strategies import (
    Darts,
    DiDarts,
    DrNas,
    FairDarts,
    Gdas,
    PcDarts,
    RandomSearch,
    Snas,
    StabilizeConf,
    Strategy,
    Xnas,
)
from gradnas.supergraph import Model
from gradnas.training import CheckPoint, OptimConf

EVERY_STEP = {"checkpoint_every_seconds": 1e-9}
STOPS = 3
AFTER_EPOCHS = {"checkpoint_every_seconds": 0.0}
Phase = Callable[[RunContext, dict[str, Any]], object]
"""Runs what is tested in a context, with further settings."""


@dataclass
class Interrupted:
    """Runs a phase whole, and in two parts for every checkpoint that it makes."""

    phase: Phase
    source: DataSource
    base: Path
    final_state: Any
    monkeypatch: pytest.MonkeyPatch
    setup: Callable[[RunFolder], None] = lambda folder: None
    stops: list[Path] = field(default_factory=list)

    def differences(self, *, at_most: int = STOPS) -> dict[str, list[str]]:
        """What differs from the whole run, by the stop; stops that differ in nothing are left out.

        Args:
            at_most: To go on from so many, drawn at random.
        """
        whole = self._whole()
        self._in_steps()
        told = {}
        for stop in random.Random(0).sample(self.stops, min(at_most, len(self.stops))):
            torch.seed()  # a new process knows nothing of the random state of the first
            self.phase(self._context(RunFolder.open(stop), resume=True), AFTER_EPOCHS)
            if different := self.final_state.differences(whole, stop):
                told[stop.name] = different
        return told

    def _whole(self) -> Path:
        folder = self._folder("whole")
        torch.manual_seed(5)
        self.phase(self._context(folder), AFTER_EPOCHS)
        return folder.path

    def _in_steps(self) -> None:
        folder = self._folder("steps")
        commit = CheckPoint.commit

        def stop_then_commit(checkpoint: CheckPoint) -> None:
            self.stops.append(Path(shutil.copytree(folder.path, self.base / f"stop {len(self.stops)}")))
            commit(checkpoint)

        with self.monkeypatch.context() as patch:
            patch.setattr(CheckPoint, "commit", stop_then_commit)
            torch.manual_seed(5)
            self.phase(self._context(folder), EVERY_STEP)

    def _folder(self, name: str) -> RunFolder:
        folder = RunFolder.create(self.base / name, RunConf(device="cpu"))
        self.setup(folder)
        return folder

    def _context(self, folder: RunFolder, *, resume: bool = False) -> RunContext:
        return RunContext(data=self.source, seed=3, folder=folder, resume=resume)


@pytest.fixture
def interrupted(
    source: DataSource, tmp_path: Path, final_state: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Interrupted]:
    def make(phase: Phase, **more: Any) -> Interrupted:
        given = {"source": source, "base": tmp_path, **more}
        return Interrupted(phase, final_state=final_state, monkeypatch=monkeypatch, **given)

    return make


@pytest.fixture(scope="module")
def small() -> DartsSpace:
    primitives = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]
    return DartsSpace(1, 8, 5, channels=2, cells=3, nodes=1, reductions=1, primitives=primitives)


def search_conf(**settings: Any) -> SearchConf:
    default = SearchConf(epochs=2, batch_size=8, max_steps_per_epoch=3, log_every_steps=2, cutout=2)
    return replace(default, **{"optimizer": OptimConf(lr=0.1, warmup_epochs=1), **settings})


def searching(make: Callable[[], Strategy], space: DartsSpace, settings: dict[str, Any]) -> Phase:
    def run(context: RunContext, saving: dict[str, Any]) -> object:
        conf, strategy = search_conf(**settings, **saving), make()
        if isinstance(strategy, RandomSearch):
            return RandomSearcher(context, strategy).search(conf, space)
        return Searcher(context, strategy).search(conf, space, ArchTrainer, Finalizers())

    return run


SEARCHES: dict[str, tuple[Callable[[], Strategy], dict[str, Any]]] = {
    "darts, order 1": (lambda: Darts(1, lr=0.1), {"label_smoothing": 0.1, "augment_val_batches": True}),
    "darts, order 2": (lambda: Darts(2, lr=0.1), {"batch_chunks": 2}),
    "didarts": (DiDarts, {"optimizer": OptimConf(name="adamw", lr=0.01)}),
    "xnas": (lambda: Xnas(wipe_out=True), {"optimizer": OptimConf(name="adam", lr=0.01)}),
    "gdas": (lambda: Gdas(lr=0.1), {"precision": "bfloat16"}),
    "snas": (lambda: Snas(lr=0.1), {"l1_alphas": 0.01}),
    "snas, bilevel": (lambda: Snas(lr=0.1, bilevel=True), {"stabilize": StabilizeConf(warmup_epochs=1)}),
    "drnas": (lambda: DrNas(lr=0.1), {"batch_chunks": 2}),
    "pcdarts": (lambda: PcDarts(partial=2, lr=0.1), {"stabilize": StabilizeConf(warmup_epochs=0)}),
    "fairdarts": (lambda: FairDarts(lr=0.1), {"grad_clip": 0.5}),
    "random": (lambda: RandomSearch(samples=2, epochs=2), {"optimizer": OptimConf(nesterov=True)}),
    "skip dropout and noise": (
        lambda: Darts(1, lr=0.1),
        {"stabilize": StabilizeConf(skip_dropout=0.5, perturb="random", warmup_epochs=0)},
    ),
    "adversary": (
        lambda: Gdas(lr=0.1),
        {"stabilize": StabilizeConf(perturb="adversarial", perturb_steps=2)},
    ),
    "early stop by eigenvalue": (
        lambda: Darts(1, lr=0.3),
        {
            "epochs": 4,
            "max_steps_per_epoch": 1,
            "stabilize": StabilizeConf(
                eigenvalue="stop", eigenvalue_ratio=0.999, eigenvalue_window=1, eigenvalue_lag=1
            ),
        },
    ),
    "early stop by skips": (
        lambda: Darts(1, lr=0.3),
        {
            "epochs": 3,
            "max_steps_per_epoch": 2,
            "stabilize": StabilizeConf(skip_limit="stop", max_skips=0, skip_limit_from=1),
        },
    ),
    "sparse checkpoints and validation": (
        lambda: Darts(1, lr=0.1),
        {"epochs": 3, "checkpoint_every_epochs": 2, "validate_every_epochs": 2},
    ),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_search_continues_bit_for_bit_wherever_it_was_stopped(
    interrupted: Callable[..., Interrupted], small: DartsSpace, name: str
) -> None:
    make, settings = SEARCHES[name]
    run = interrupted(searching(make, small, settings))
    every = {"at_most": 100} if name == "darts, order 1" else {}
    assert run.differences(**every) == {}
    conf = search_conf(**settings)
    steps = 3 if name.startswith("early") else conf.epochs * (conf.max_steps_per_epoch or 0)
    assert len(run.stops) > steps, "a checkpoint after every step was asked for"


GRIDS: dict[str, Callable[[], Strategy]] = {
    "xnas": lambda: Xnas(wipe_out=True),
    "random": lambda: RandomSearch(samples=2, epochs=1),
}


@pytest.mark.parametrize("name", GRIDS)
def test_grid_continues_bit_for_bit_wherever_it_was_stopped(
    interrupted: Callable[..., Interrupted], small: DartsSpace, name: str
) -> None:
    """Also the table: what is measured of a combination is what it took in all, so only that it differs is excused."""
    strategy = GRIDS[name]()

    def run(context: RunContext, saving: dict[str, Any]) -> object:
        conf = search_conf(epochs=1, max_steps_per_epoch=2, **saving)
        learns = not isinstance(strategy, RandomSearch)
        grid = SearchCombinations(context, strategy, GridConf(max_cells=4, epochs=1))
        return grid.search(conf, small, ArchTrainer if learns else None, Finalizers() if learns else RandomFinalizers())

    made = interrupted(run)
    assert made.differences() == {}
    assert len(made.stops) > 2 * (2 + 2)


class Noisy(Op):
    """A convolution behind dropout, which draws from the global generator; (B, C, H, W) -> (B, D, H / S, W / S)."""

    def __init__(self, op_desc: OpDesc) -> None:
        super().__init__()
        conv = op_desc.conv
        self.drop = nn.Dropout(0.5)
        self.conv = nn.Conv2d(conv.ch_in, conv.ch_out, 3, op_desc.stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.drop(x))


class NoisySpace(DartsSpace):
    def pre_build(self, conf_model_desc: Any) -> None:
        self.registry.register_op("noisy", make_noisy)


def make_noisy(op_desc: OpDesc, affine: bool, arch_params: Any) -> Noisy:
    return Noisy(op_desc)


def noisy_space() -> DartsSpace:
    return NoisySpace(1, 8, 5, channels=2, cells=3, nodes=1, reductions=1, primitives=("noisy", "skip_connect", "none"))


def test_an_operation_that_draws_from_the_global_generator_continues_bit_for_bit(
    interrupted: Callable[..., Interrupted],
) -> None:
    watched = {"stabilize": StabilizeConf(eigenvalue="warn", warmup_epochs=0)}  # draws after the last step of an epoch
    run = interrupted(searching(lambda: Darts(1, lr=0.1), noisy_space(), watched))
    assert run.differences() == {}
    assert len(run.stops) > 6
    dropped = nn.Dropout(0.5)(torch.ones(64))
    assert not torch.equal(dropped, nn.Dropout(0.5)(torch.ones(64))), "or the test shows nothing"


RETRAININGS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": OptimConf(lr=0.1, nesterov=True, warmup_epochs=1), "cutout": 2},
    "adam": {"optimizer": OptimConf(name="adam", lr=0.01), "label_smoothing": 0.1, "val_ratio": 0.2},
    "adamw, chunks": {"optimizer": OptimConf(name="adamw", lr=0.01), "batch_chunks": 2},
    "bfloat16": {"precision": "bfloat16", "optimizer": OptimConf(schedule="constant")},
    "one cycle, average": {
        "optimizer": OptimConf(lr=0.1, schedule="onecycle"),
        "ema": 0.9,
        "mixup": 0.4,
        "cutmix": 1.0,
    },
    "steps of another optimizer": {
        "optimizer": OptimConf(
            name="torch.optim.RMSprop", options={"momentum": 0.9}, lr=0.01, schedule="multistep", milestones=(1,)
        )
    },
    "drop path, tower, policy": {"drop_path": 0.4, "aux_weight": 0.4, "policy": "autoaugment"},
}


@pytest.fixture(scope="module")
def coloured() -> DataSource:
    """Images of 8 bits in three colours, as AutoAugment wants them, and of a size that an auxiliary tower takes."""
    pixels = torch.Generator().manual_seed(0)

    def images(n: int) -> ImageSet:
        values = torch.randint(0, 256, (n, 3, 24, 24), dtype=torch.uint8, generator=pixels)
        return ImageSet(images=values, labels=torch.arange(n) % 5, classes=tuple("abcde"))

    train = images(40)
    return DataSource(
        name="coloured",
        train=train,
        test=images(10),
        augmentation=Augmentation(crop_padding=1, flip=True),
        normalization=Normalization.of(train),
    )


@pytest.mark.parametrize("name", RETRAININGS)
def test_retraining_continues_bit_for_bit_wherever_it_was_stopped(
    interrupted: Callable[..., Interrupted], coloured: DataSource, name: str
) -> None:
    primitives = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]
    space = DartsSpace(3, 24, 5, channels=2, cells=5, nodes=1, reductions=2, primitives=primitives)

    def find(folder: RunFolder) -> None:
        random_member(Model(space.build(), affine=False), 0, 0).save(folder / "arch.json")

    def run(context: RunContext, saving: dict[str, Any]) -> object:
        settings = {"drop_path": 0.0, **RETRAININGS[name], **saving}
        default = RetrainConf(epochs=2, batch_size=8, max_steps_per_epoch=3, channels=2, cells=5, log_every_steps=2)
        return Evaluater(context).evaluate(replace(default, **settings), space)

    made = interrupted(run, source=coloured, setup=find)
    assert made.differences() == {}
    assert len(made.stops) > 6


GIVEN: dict[str, tuple[ModelConf, dict[str, Any]]] = {
    "shake-shake": (ModelConf(name="shakeshake8"), {"batch_chunks": 2}),
    "shake-drop": (ModelConf(name="pyramidnet8", options={"shake_drop": True}), {"precision": "bfloat16"}),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_given_network_that_draws_in_both_passes_continues_bit_for_bit(
    interrupted: Callable[..., Interrupted], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def small_shaken(in_channels: int, n_classes: int) -> nn.Module:
        return ShakeResNet(8, 4, n_classes, in_channels=in_channels)

    def small_dropped(in_channels: int, n_classes: int, shake_drop: bool) -> nn.Module:
        return PyramidNet(8, 4, n_classes, in_channels=in_channels, shake_drop=shake_drop)

    small = {"shakeshake8": ZooModel(small_shaken, "Small."), "pyramidnet8": ZooModel(small_dropped, "Small.")}
    monkeypatch.setattr("gradnas.config.models.MODELS", small)
    model, settings = GIVEN[name]

    def run(context: RunContext, saving: dict[str, Any]) -> object:
        conf = RetrainConf(epochs=2, batch_size=8, max_steps_per_epoch=3, drop_path=0.0, **settings, **saving)
        return ManualExperiment(conf=RunConf(model=model, retrain=conf), context=context).train()

    made = interrupted(run)
    assert made.differences() == {}
    assert len(made.stops) > 6
