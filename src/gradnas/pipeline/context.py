"""What every phase of a run needs beside its settings."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import nn

from gradnas.config import PhaseConf, SearchConf
from gradnas.data import Augmentation, BatchLoader, DataLoaders, DataSource, LabeledImages, stratified_split
from gradnas.foundation.seeds import generator, seeded_initialization
from gradnas.pipeline.run_folder import RunFolder
from gradnas.pipeline.tensorboard_log import FOLDER, TensorBoardLog
from gradnas.training import CheckPoint, EpochRecord, Listener, Metrics, Silence, Stop, create_checkpoint

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Data, seed, device, folder and listener of a run.

    Args:
        data: The data set.
        val_set: A validation set of its own; None splits the training set where validation is wanted.
        seed: Everything random follows from it.
        device: Where to compute.
        folder: Where to write; None writes nothing.
        listener: Told of progress.
        resume: Go on from checkpoints that exist.
        tensorboard: Write event files beside the logs.
        stop: Asked between two steps whether to go on.
    """

    data: DataSource
    val_set: LabeledImages | None = None
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    folder: RunFolder | None = None
    listener: Listener = field(default_factory=Silence)
    resume: bool = False
    tensorboard: bool = False
    stop: Stop = field(default_factory=Stop)

    def checkpoint(self, phase: str, conf: PhaseConf) -> CheckPoint | None:
        """The checkpoint of a phase; None without a folder."""
        path = None if self.folder is None else self.folder.checkpoint(phase)
        return create_checkpoint(path, self.resume, keep=conf.keep_checkpoints)

    def has_begun(self, phase: str) -> bool:
        """Whether a phase has left a checkpoint."""
        return self.folder is not None and bool(CheckPoint(self.folder.checkpoint(phase)).files())

    def may_begin(self, phase: str) -> bool:
        """Whether there is time for a phase; one that has begun is entered, to be closed where it stands.

        Raises:
            Interrupted, Terminated: When a signal has asked the run to stop, all of which is saved.
        """
        self.stop.raise_if_asked(f"everything before phase {phase!r} is saved")
        if self.stop.time_is_up() and not self.has_begun(phase):
            self.stop.cut_short[phase] = True
            return False
        return True

    def model(self, build: Callable[[], Network], purpose: str) -> Network:
        """Build a network with initial weights that follow from the seed, on the device, in channels_last."""
        with seeded_initialization(self.seed, purpose):
            model = build()
        return model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword pair

    def loaders(self, conf: PhaseConf, phase: str, *, test: bool) -> DataLoaders:
        """The loaders of a phase.

        Training batches are augmented, validation and test batches never are. The split depends on the seed alone, so
        phases with one ratio see the same halves.

        Args:
            conf: Settings of the phase.
            phase: Keeps the random streams of phases apart.
            test: Whether the phase may use the test set.
        """
        train, val = self.data.train, self.val_set
        kept: torch.Tensor | None = None
        held_out: torch.Tensor | None = None
        if val is None and conf.val_ratio > 0:
            kept, held_out = stratified_split(train.labels, conf.val_ratio, seed=self.seed)
            train, val = train.subset(kept), train.subset(held_out)
        augmentation = replace(self.data.augmentation, cutout=conf.cutout, policy=conf.policy)

        def evaluated(images: LabeledImages | None, purpose: str) -> BatchLoader | None:
            if images is None:
                return None
            if conf.max_steps_per_epoch is not None:  # only the first batches are used, and folders are sorted by class
                draws = generator(self.seed, "evaluation.sample")
                images = images.subset(torch.randperm(len(images), generator=draws))
            return self._loader(images, conf.eval_batch_size, purpose, None, shuffle=False)

        alpha = None
        if val is not None and isinstance(conf, SearchConf):
            mode = augmentation if conf.augment_val_batches else None
            alpha = self._loader(val, conf.batch_size, f"{phase}.alpha", mode, shuffle=True, numbers=held_out)
        return DataLoaders(
            train=self._loader(train, conf.batch_size, f"{phase}.train", augmentation, shuffle=True, numbers=kept),
            val=evaluated(val, f"{phase}.val"),
            alpha=alpha,
            test=evaluated(self.data.test, f"{phase}.test") if test else None,
        )

    def _loader(
        self,
        images: LabeledImages,
        batch_size: int,
        purpose: str,
        augmentation: Augmentation | None,
        *,
        shuffle: bool,
        numbers: torch.Tensor | None = None,
    ) -> BatchLoader:
        return BatchLoader(
            images,
            batch_size=batch_size,
            normalization=self.data.normalization,
            shuffle=shuffle,
            seed=self.seed,
            purpose=purpose,
            augmentation=augmentation,
            device=self.device,
            numbers=numbers,
        )

    def log_to(self, phase: str) -> Listener:
        """The listener of a phase: the run's own one, and ``metrics.jsonl``."""
        return self.listener if self.folder is None else self._logged(self.folder, phase)

    def log_search_to(
        self, phase: str, alphas: str = "alphas.jsonl"
    ) -> tuple[Listener, Callable[[dict[str, Any]], None] | None]:
        """The listener of a search, and what takes the records of its architecture parameters; None writes none.

        Args:
            phase: Its name.
            alphas: Name of their log in the run folder, which is of this search alone.
        """
        if self.folder is None:
            return self.listener, None
        (self.folder / alphas).parent.mkdir(parents=True, exist_ok=True)
        logged = self._logged(self.folder, phase, alphas=alphas)
        return logged, logged.on_alphas

    def _logged(self, folder: RunFolder, phase: str, *, alphas: str | None = None) -> "_Logged":
        events = TensorBoardLog(folder / FOLDER / phase) if self.tensorboard else None
        return _Logged(folder, self.listener, events, alphas=alphas)


class _Logged:
    """Writes the logs of a phase. When it goes on they are cut back to what its checkpoint knows."""

    def __init__(
        self, folder: RunFolder, listener: Listener, events: TensorBoardLog | None, *, alphas: str | None
    ) -> None:
        self._folder, self._listener, self._events, self._alphas = folder, listener, events, alphas
        self.on_progress = listener.on_progress

    def on_start(self, phase: str, metrics: Metrics) -> None:
        epoch = metrics.next_epoch()
        self._folder.restore("metrics.jsonl", phase, metrics.to_list())
        if self._alphas is not None:
            self._folder.rewind(self._alphas, epoch)
            self._folder.warn_of_gaps(self._alphas, epoch)
        if self._events is not None:
            self._events.begin(epoch)
        self._listener.on_start(phase, metrics)

    def on_epoch(self, record: EpochRecord) -> None:
        self._folder.append("metrics.jsonl", record.to_dict())
        if self._events is not None:
            self._events.epoch(record)
        self._listener.on_epoch(record)

    def on_alphas(self, record: dict[str, Any]) -> None:
        assert self._alphas is not None
        self._folder.append(self._alphas, record)
        if self._events is not None:
            self._events.alphas(record)
