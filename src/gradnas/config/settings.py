"""Settings of a whole run: frozen, reloadable, every key known. Times in seconds, accuracies in percent."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from gradnas.arch.shapes import check_count
from gradnas.data.augmentation import check_policy
from gradnas.foundation.durations import seconds_of
from gradnas.strategies import StabilizeConf
from gradnas.training import WATCHING, OptimConf, TrainConf


@dataclass(frozen=True, kw_only=True)
class DataConf:
    """Where the images come from.

    Args:
        source: Name of a data set, folder, zip or npz; None for a data set object that was given in Python.
        image_size: Side in pixels to which images are brought; None keeps theirs.
        root: Folder for downloads.
        crop_padding: Padding of the random crop in pixels; None takes the default of the set.
        flip: Mirror images at random; None takes the default of the set.
    """

    source: str | None = "digits"
    image_size: int | None = None
    root: str | None = None
    crop_padding: int | None = None
    flip: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ComponentConf:
    """A space or strategy by name, or by class path ``package.module.Class``, and its options.

    Args:
        name: Name as ``gradnas list`` shows it, or a class path.
        options: Arguments of its constructor.
    """

    name: str = "darts"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PhaseConf(TrainConf):
    """Training of one phase and the batches it uses.

    Args:
        batch_size: Samples per training batch.
        eval_batch_size: Samples per batch where nothing is learnt.
        val_ratio: Share of the training set held out for validation.
        cutout: Side of the square hole in training images, in pixels; 0 makes none.
        policy: ``none``, or ``autoaugment``: AutoAugment of training images, which must be RGB in uint8, as CIFAR-10
            has it.
    """

    batch_size: int = 96
    eval_batch_size: int = 1024
    val_ratio: float = 0.0
    cutout: int = 0
    policy: Literal["none", "autoaugment"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.batch_size, "batch_size")
        check_count(self.eval_batch_size, "eval_batch_size")
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
        check_count(self.epochs, "epochs of the search")
        if self.cuda_graph and not (self.fused and self.optimizer.name == "sgd"):
            raise ValueError("search.cuda_graph needs search.fused=true and search.optimizer.name=sgd.")
        if self.cuda_graph and self.on_nonfinite == "skip":
            raise ValueError(
                "a recorded step cannot be skipped: search.on_nonfinite=skip needs search.cuda_graph=false."
            )


@dataclass(frozen=True, kw_only=True)
class RetrainConf(PhaseConf):
    """Training of the found architecture as a deeper and wider network.

    Args:
        channels: Channels of a node in its first cells.
        cells: Its cells.
        aux_weight: Weight of the auxiliary loss; the tower needs maps of at least 6×6 behind cell 2n/3.
    """

    epochs: int = 600
    batch_size: int = 96
    drop_path: float = 0.2
    channels: int = 36
    cells: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l1_alphas > 0:
            raise ValueError("l1_alphas acts on the architecture parameters of a search; a found network has none.")
        check_count(self.channels, "channels of the retrained network")
        check_count(self.cells, "cells of the retrained network")


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
        baseline: The random baseline.
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
    baseline: BaselineConf = field(default_factory=BaselineConf)
    seed: int = 0
    device: str = "auto"
    tensorboard: bool = False
    max_time: str | float | None = None
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_count(self.seed, "seed", 0)
        if self.max_time is not None:
            seconds_of(self.max_time, "max_time")


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
