"""Settings of a whole run: frozen, reloadable, every key known. Times in seconds, accuracies in percent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from reprlib import repr as shortened
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from gradnas.arch import genotype_of
from gradnas.arch.shapes import check_count
from gradnas.data.memory import bytes_of
from gradnas.data.options import LoadOptions
from gradnas.data.policies import check_policy
from gradnas.foundation.declared_types import bring_to_declared_types
from gradnas.foundation.durations import seconds_of
from gradnas.strategies import StabilizeConf
from gradnas.training import WATCHING, OptimConf, TrainConf


@dataclass(frozen=True, kw_only=True)
class DataConf:
    """Where the images come from.

    Args:
        source: Name of a data set, folder, zip or npz; None for a data set object that was given in Python.
        image_size: Side in pixels to which images are brought; None keeps theirs, or takes that of the named set where
            its photographs differ in size.
        root: Folder for downloads.
        channels: 1 makes gray images of colored ones, 3 colored ones of gray ones; None keeps theirs.
        crop_padding: Padding of the random crop in pixels; None takes the default of the set.
        flip: Mirror images at random; None takes the default of the set.
        resized_crop: Smallest share of an image's area that a random crop shows, which is brought to the image's size;
            0 is off, None takes the default of the set. It takes the place of the crop with padding.
        max_memory: What the images may take in memory, train and test together, such as ``4GB`` or ``512MiB``.
        stream: ``auto`` reads the image files of a folder, zip or named set batch by batch where they exceed
            ``max_memory``, which needs an image size; ``always`` in any case; ``never`` refuses such sets.
        workers: Threads that decode image files; None is one for each processor, at most 16.
        skip_unreadable: Leave out image files that cannot be read, with a warning; otherwise they are an error. A
            streamed set is read once at the start for it.
    """

    source: str | None = "digits"
    image_size: int | None = None
    root: str | None = None
    channels: int | None = None
    crop_padding: int | None = None
    flip: bool | None = None
    resized_crop: float | None = None
    max_memory: str = "4GiB"
    stream: Literal["auto", "always", "never"] = "auto"
    workers: int | None = None
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        self.load_options  # noqa: B018 - a property that refuses what cannot be

    @property
    def load_options(self) -> LoadOptions:
        """What concerns reading the images."""
        return LoadOptions(
            image_size=self.image_size,
            channels=self.channels,
            max_bytes=bytes_of(self.max_memory, "data.max_memory"),
            stream=self.stream,
            workers=self.workers,
            skip_unreadable=self.skip_unreadable,
        )


@dataclass(frozen=True, kw_only=True)
class ComponentConf:
    """A space or strategy by name, or by class path ``package.module.Class``, and its options.

    Args:
        name: Name as ``gradnas list`` shows it, or a class path.
        options: Arguments of its constructor.
    """

    name: str = "darts"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bring_to_declared_types(self)


@dataclass(frozen=True, kw_only=True)
class ModelConf:
    """A network to train as it is, without a search.

    Args:
        name: Name as ``gradnas list models`` shows it, a model of torchvision as ``torchvision.resnet18``, or
            ``package.module:factory``, which is imported and called; None searches one.
        options: Its arguments.
    """

    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bring_to_declared_types(self)
        if self.name is None and self.options:
            raise ValueError(f"model.options are of a model, and model.name names none, got {self.options}.")

    @property
    def identity(self) -> str:
        """A text that is equal for equal models."""
        return f"{self.name} {json.dumps(self.options, sort_keys=True, default=str)}"


@dataclass(frozen=True, kw_only=True)
class PhaseConf(TrainConf):
    """Training of one phase and the batches it uses.

    Args:
        batch_size: Samples per training batch.
        eval_batch_size: Samples per batch where nothing is learnt.
        val_ratio: Share of the training set held out for validation.
        cutout: Side of the square hole in training images, in pixels; 0 makes none.
        policy: ``none``, ``autoaugment`` (the policy found on CIFAR-10), ``randaugment`` or ``trivialaugment``: what
            is done to training images, which must be RGB in uint8.
    """

    batch_size: int = 96
    eval_batch_size: int = 1024
    val_ratio: float = 0.0
    cutout: int = 0
    policy: Literal["none", "autoaugment", "randaugment", "trivialaugment"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.batch_size, "batch_size")
        check_count(self.eval_batch_size, "eval_batch_size")
        if self.batch_chunks > max(1, self.batch_size // 2):
            raise ValueError(
                f"batch_chunks={self.batch_chunks} makes parts of fewer than two samples of a batch of "
                f"{self.batch_size}, from which a norm cannot learn. Set it to at most {max(1, self.batch_size // 2)}."
            )
        check_count(self.cutout, "cutout", 0)
        check_policy(self.policy)
        if not 0 <= self.val_ratio < 1:
            raise ValueError(f"val_ratio must be at least 0 and below 1, got {self.val_ratio}.")


Phase = TypeVar("Phase", bound=PhaseConf)


@dataclass(frozen=True, kw_only=True)
class SearchConf(PhaseConf):
    """The search. Defaults are those of DARTS on CIFAR-10.

    Args:
        finalizers: ``default``, or ``random`` for a random member.
        augment_val_batches: Augment the validation batches of the architecture step, as the released DARTS code does.
            Validation itself is never augmented.
        fused: Train the supergraph by the fast execution; no computes edge by edge, the same function slower and with
            more memory.
        cuda_graph: Record the whole step as a CUDA graph in each epoch and replay it; needs a GPU, the fused execution,
            SGD, and a strategy that draws nothing at random and unrolls nothing.
        stabilize: Remedies against collapse.
    """

    epochs: int = 50
    optimizer: OptimConf = field(default_factory=lambda: OptimConf(lr_min=0.001))
    batch_size: int = 64
    val_ratio: float = 0.5
    finalizers: Literal["default", "random"] = "default"
    augment_val_batches: bool = False
    fused: bool = True
    cuda_graph: bool = False
    stabilize: StabilizeConf = field(default_factory=StabilizeConf)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_search()
        check_count(self.epochs, "epochs of the search")
        if self.cuda_graph and not (self.fused and self.optimizer.name == "sgd"):
            raise ValueError("search.cuda_graph needs search.fused=true and search.optimizer.name=sgd.")
        if self.cuda_graph and self.optimizer.schedule_per_step:
            raise ValueError(
                f"a recorded step keeps its rate: search.optimizer.schedule={self.optimizer.schedule} needs "
                "search.cuda_graph=false."
            )
        if self.cuda_graph and self.on_nonfinite == "skip":
            raise ValueError(
                "a recorded step cannot be skipped: search.on_nonfinite=skip needs search.cuda_graph=false."
            )


IMAGENET_STEMS: Mapping[str, object] = MappingProxyType(
    {
        "stems": ("stem_conv3x3_s4", "stem_conv3x3_s4s2"),
        "stem_multiplier": 1,
        "aux_second_norm": False,
    }
)
"""Where the network of DARTS on ImageNet (released code, ``NetworkImageNet``) differs from the one on CIFAR-10."""


@dataclass(frozen=True, kw_only=True)
class RetrainConf(PhaseConf):
    """Training of the found architecture as a deeper and wider network.

    Args:
        channels: Channels of a node in its first cells.
        cells: Its cells.
        aux_weight: Weight of the auxiliary loss; the tower needs maps of at least 6×6 behind cell 2n/3.
        stems: ``space``, those of the space, or ``imagenet``, those of DARTS on ImageNet for images of about 224
            pixels: the first cell reads maps of a quarter and an eighth of the side with ``channels`` channels, and
            the auxiliary tower lacks its second norm.
        inherit_weights: Begin with the weights that the chosen candidates have learnt in the search, which needs a
            network of the size of the search; no begins afresh, as the literature does.
    """

    epochs: int = 600
    batch_size: int = 96
    drop_path: float = 0.2
    channels: int = 36
    cells: int = 20
    stems: Literal["space", "imagenet"] = "space"
    inherit_weights: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l1_alphas > 0:
            raise ValueError("l1_alphas acts on the architecture parameters of a search; a found network has none.")
        check_count(self.channels, "channels of the retrained network")
        check_count(self.cells, "cells of the retrained network")
        if self.stems not in ("space", "imagenet"):
            raise ValueError(f"stems must be 'space' or 'imagenet', got {self.stems!r}.")

    def network(self) -> dict[str, object]:
        """What the retrained network changes in the settings of the space, by :func:`gradnas.spaces.with_changes`."""
        size: dict[str, object] = {"channels": self.channels, "cells": self.cells, "aux_weight": self.aux_weight}
        return size if self.stems == "space" else {**size, **IMAGENET_STEMS}


@dataclass(frozen=True, kw_only=True)
class ManualConf(PhaseConf):
    """Training of a given model: what :func:`gradnas.train` and configurations that name a model begin with."""

    epochs: int = 200
    optimizer: OptimConf = field(default_factory=lambda: OptimConf(lr=0.0333))
    batch_size: int = 128
    grad_clip: float = 0.0

    def retraining(self) -> RetrainConf:
        """The same as settings of the phase that trains it."""
        return RetrainConf(**{setting.name: getattr(self, setting.name) for setting in fields(self)})


@dataclass(frozen=True, kw_only=True)
class GridConf:
    """A search at every size of a grid: reductions × cells × nodes, each from that of the space up to the largest.

    What each search finds is trained briefly with the settings of the search; by its best validation accuracy one is
    chosen. Without a largest number there is no grid.

    Args:
        max_reductions: Most cells that halve the map; None stays with those of the space.
        max_cells: Most cells, likewise.
        max_nodes: Most nodes of a cell, likewise.
        epochs: Of each brief training.
    """

    max_reductions: int | None = None
    max_cells: int | None = None
    max_nodes: int | None = None
    epochs: int = 5

    def __post_init__(self) -> None:
        for name, value in self.largest().items():
            if value is not None:
                check_count(value, f"grid.max_{name}", 0 if name == "reductions" else 1)
        check_count(self.epochs, "epochs of the brief training of each combination of the grid (grid.epochs)")
        if not self.enabled and self.epochs != type(self).epochs:
            raise ValueError(
                f"grid.epochs={self.epochs} has no effect without a grid: set grid.max_reductions, grid.max_cells or "
                "grid.max_nodes."
            )

    @property
    def enabled(self) -> bool:
        """Whether there is a grid."""
        return any(value is not None for value in self.largest().values())

    def largest(self) -> dict[str, int | None]:
        """The largest number of ``reductions``, ``cells`` and ``nodes``, in this order."""
        return {"reductions": self.max_reductions, "cells": self.max_cells, "nodes": self.max_nodes}


@dataclass(frozen=True, kw_only=True)
class BaselineConf:
    """Random search at the multiply-adds of the search, its winner retrained like the found architecture.

    Args:
        samples: Random members to train briefly; 0 leaves the baseline out.
    """

    samples: int = 0

    def __post_init__(self) -> None:
        check_count(self.samples, "samples of the baseline", 0)


@dataclass(frozen=True, kw_only=True)
class RunConf:
    """A run: data, space, strategy, and how each phase trains.

    Args:
        data: Where the images come from.
        space: The search space.
        strategy: How the architecture is learnt.
        search: Settings of the search.
        retrain: Settings of the retraining; ``epochs: 0`` leaves it out.
        arch: An architecture that ``retrain`` trains in place of a found one: the name of a published one, as
            ``DARTS_V2``, or a printed genotype; nothing is searched then.
        model: A network that is trained by ``retrain`` in place of a found one; nothing is searched then.
        baseline: The random baseline.
        grid: Sizes of the supergraph to search at; one search at that of the space where it is left out.
        seed: Everything random follows from it.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ….
        tensorboard: Also write TensorBoard event files into ``tensorboard/`` of the run folder.
        max_time: Time that training may take, all phases in the run folder together, as in ``90m``, ``1h30m`` or
            ``3600`` (seconds); then the run stops in time and keeps what it has. None sets no limit.
        deterministic: Use torch's deterministic algorithms alone; an operation that has none is an error.
    """

    data: DataConf = field(default_factory=DataConf)
    space: ComponentConf = field(default_factory=ComponentConf)
    strategy: ComponentConf = field(default_factory=ComponentConf)
    search: SearchConf = field(default_factory=SearchConf)
    retrain: RetrainConf = field(default_factory=lambda: RetrainConf(epochs=0))
    arch: str | None = None
    model: ModelConf = field(default_factory=ModelConf)
    baseline: BaselineConf = field(default_factory=BaselineConf)
    grid: GridConf = field(default_factory=GridConf)
    seed: int = 0
    device: str = "auto"
    tensorboard: bool = False
    max_time: str | float | None = None
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_count(self.seed, "seed", 0)
        if self.max_time is not None:
            seconds_of(self.max_time, "max_time")
        if self.arch is not None:
            genotype_of(self.arch)
            self._check_given("arch", f"the architecture {shortened(self.arch)}", {})
            unused = sorted({"channels", "cells", "nodes", "primitives"} & self.space.options.keys())
            if unused:
                raise ValueError(
                    f"space.options.{unused[0]} has no effect on {shortened(self.arch)}: its nodes and operations are "
                    "given, its size is retrain.channels and retrain.cells. Leave it out."
                )
            if self.retrain.inherit_weights:
                raise ValueError(
                    f"retrain.inherit_weights=true, but {shortened(self.arch)} is given without weights. Begin afresh."
                )
        if self.model.name is not None:
            self._check_manual(self.model.name)

    def _check_given(self, setting: str, what: str, unused: Mapping[str, object]) -> None:
        """Refuse what a run without a search would ignore."""
        if self.retrain.epochs < 1:
            raise ValueError(f"{what} is trained, not searched: set retrain.epochs to at least 1.")
        parts = {**unused, "strategy": self.strategy, "baseline": self.baseline, "grid": self.grid}
        # --max-steps is one option of the command line for all phases
        for name, part in {**parts, "search": replace(self.search, max_steps_per_epoch=None)}.items():
            if part != type(part)():
                raise ValueError(
                    f"{what} is trained as it is, so that settings of {name} have no effect. Leave them "
                    f"out, or leave out {setting} to search."
                )

    def _check_manual(self, model: str) -> None:
        self._check_given("model.name", f"the model {model!r}", {"space": self.space})
        if self.arch is not None:
            raise ValueError(f"the model {model!r} and the architecture {shortened(self.arch)} cannot both be trained.")
        default = RetrainConf()
        for name in ("channels", "cells", "stems", "inherit_weights"):
            if getattr(self.retrain, name) != getattr(default, name):
                raise ValueError(
                    f"retrain.{name} is a setting of found networks, and {model!r} is none. Leave it out; what shapes "
                    "the model goes into model.options."
                )
        if self.retrain.drop_path > 0:
            raise ValueError(
                f"retrain.drop_path={self.retrain.drop_path} is for networks of cells, and {model!r} is none: set it "
                "to 0."
            )


def same_run(one: RunConf, other: RunConf) -> bool:
    """Whether two configurations are of one run, which can go on with either.

    They may differ in the limit of time, in what is saved when, and in the answer to numbers that are not finite.
    """
    return _shaping(one) == _shaping(other)


def _shaping(conf: RunConf) -> RunConf:
    return replace(conf, max_time=None, search=_unwatched(conf.search), retrain=_unwatched(conf.retrain))


def _unwatched(conf: Phase) -> Phase:
    defaults: dict[str, Any] = {f.name: f.default for f in fields(PhaseConf) if f.name in WATCHING}
    return replace(conf, **defaults)
