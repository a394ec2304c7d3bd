"""A phase run for a few steps on tiny batches of noise, to know the memory that it takes at full size.

The steps are those of the phase's own trainer: strategy, unrolling, chunks, precision, remedies and all.
"""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch

from gradnas.config import PhaseConf, SearchConf
from gradnas.costs import MemoryModel, MemoryTracer
from gradnas.costs.memory import Parts
from gradnas.data import BatchLoader, DataFacts, DataSource, ImageSet, Normalization
from gradnas.data.source import default_augmentation
from gradnas.pipeline import arch_trainer
from gradnas.pipeline.context import RunContext
from gradnas.training import EpochRecord, Listener, Progress, Silence, Tester, Trainer

CreateTrainer = Callable[[RunContext, PhaseConf], Trainer]
"""Makes the trainer of a phase in a context, with its listener, and the network in it."""

_SIZES = (2, 3)  # batch norm needs two samples; the fewer, the faster
_EPOCHS = 2  # drop path and noise are off in the first one
_HARMLESS_RATE = 1e-6  # no loss becomes infinite on noise
_RANDOM_STEPS = 4  # where a step draws what it computes, more than one must be seen


@dataclass(frozen=True, kw_only=True)
class PhaseMemory:
    """What a phase takes, its data apart.

    Args:
        training: Of the training steps, as a function of ``batch_size``.
        evaluation: Of evaluation between them, as a function of ``eval_batch_size``.
        held_bytes: What stays between two steps: weights, their gradients, optimizer and strategy state.
        chunks: Parts in which a batch is processed.
    """

    training: MemoryModel
    evaluation: MemoryModel
    held_bytes: int
    chunks: int

    def train_bytes(self, batch_size: int, chunks: int | None = None) -> int:
        """Peak of a training step on batches of this size, also if they were processed in another number of parts."""
        part = -(-batch_size // (chunks or self.chunks))  # the largest one
        return self.training.peak_bytes(part * self.chunks)

    def largest_batch(self, available_bytes: int) -> int:
        """The largest batch whose training step keeps to so many bytes; 0 when there is none."""
        return self.training.largest_batch(available_bytes) // self.chunks * self.chunks


def measure_phase(
    create: CreateTrainer,
    conf: PhaseConf,
    facts: DataFacts,
    *,
    phase: str,
    device: torch.device,
    seed: int = 0,
    random_steps: bool = False,
) -> PhaseMemory:
    """Run a few tiny steps, and tell what the phase takes at any batch size.

    Args:
        create: Makes the trainer; called twice.
        conf: Settings of the phase.
        facts: Shape, classes and pixels of the data.
        phase: Its name.
        device: Where it will run; the same operations as there are needed.
        seed: Of the run.
        random_steps: Whether a step draws what it computes: then several are looked at, and the peak is theirs.

    Raises:
        ValueError: As the phase itself would.
    """
    trial = _Trial(create, conf, facts, phase, device, seed, _RANDOM_STEPS if random_steps else 1)
    sizes = (_SIZES[0] * conf.batch_chunks, _SIZES[1] * conf.batch_chunks)
    small, large = trial.trace(sizes[0]), trial.trace(sizes[1])
    return PhaseMemory(
        training=MemoryModel.of(small.training, large.training, sizes).plus(-small.data_bytes),
        evaluation=MemoryModel.of(*small.evaluations, _SIZES).plus(-small.data_bytes),
        held_bytes=small.held_bytes,
        chunks=conf.batch_chunks,
    )


class _Enough(Exception):  # noqa: N818 - not an error
    """The steps that were wanted are done."""


class _Watch(Silence):
    """Parts the trace at steps and epochs, and ends the trial. It listens to the trainer."""

    def __init__(self, tracer: MemoryTracer) -> None:
        self._tracer = tracer

    def on_progress(self, progress: Progress) -> None:
        self._tracer.new_part()
        if (progress.epoch + 1, progress.step) == (_EPOCHS, progress.steps):
            raise _Enough

    def on_epoch(self, record: EpochRecord) -> None:
        self._tracer.new_part()


@dataclass(frozen=True)
class _Trace:
    training: Parts
    evaluations: tuple[Parts, Parts]
    held_bytes: int
    data_bytes: int


@dataclass(frozen=True)
class _Trial:
    create: CreateTrainer
    conf: PhaseConf
    facts: DataFacts
    phase: str
    device: torch.device
    seed: int
    steps: int

    def trace(self, batch_size: int) -> _Trace:
        """The memory of some steps on batches of one size, and of an evaluation at both sizes."""
        conf = self._shortened(batch_size)
        images = self._noise(self.steps * _SIZES[-1] * conf.batch_chunks)
        tracer = MemoryTracer(self.device)
        with _without_diagnoses(), tracer:
            context = self._context(images, _Watch(tracer))
            batches = replace(context.loaders(conf, self.phase, test=False), val=None)  # evaluation comes below
            tests = [self._evaluated(conf, context, size) for size in _SIZES]
            data_bytes = tracer.live_bytes
            trainer = self.create(context, conf)
            with suppress(_Enough):
                trainer.fit(batches)
            del batches
            gc.collect()
            held, trained = tracer.live_bytes, len(tracer.parts())
            tester = Tester(trainer.model, precision=conf.precision)
            for test in tests:
                tracer.new_part()
                tester.test(test, max_steps=1)
        parts = tracer.parts()
        return _Trace(parts[:trained], ([parts[-2]], [parts[-1]]), held - data_bytes, data_bytes)

    def _shortened(self, batch_size: int) -> PhaseConf:
        """The settings, with few tiny steps, and what acts late acting now."""
        conf = replace(
            self.conf,
            batch_size=batch_size,
            epochs=max(_EPOCHS, self.conf.epochs),
            max_steps_per_epoch=self.steps,
            log_every_steps=1,
            optimizer=replace(self.conf.optimizer, lr=_HARMLESS_RATE, lr_min=0.0),
            on_nonfinite="stop" if self.conf.on_nonfinite == "rollback" else self.conf.on_nonfinite,
        )
        if not isinstance(conf, SearchConf):
            return conf
        stabilize = replace(
            conf.stabilize,
            warmup_epochs=0,
            eigenvalue="warn" if conf.stabilize.eigenvalue == "stop" else conf.stabilize.eigenvalue,
            skip_limit="warn" if conf.stabilize.skip_limit == "stop" else conf.stabilize.skip_limit,
        )
        return replace(conf, cuda_graph=False, stabilize=stabilize)

    def _noise(self, n: int) -> ImageSet:
        draws = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (n, *self.facts.shape), generator=draws, dtype=torch.uint8)
        return ImageSet(
            images=pixels.to(self.facts.dtype),
            labels=torch.arange(n) % self.facts.n_classes,
            classes=tuple(str(number) for number in range(self.facts.n_classes)),
        )

    def _context(self, images: ImageSet, listener: Listener) -> RunContext:
        source = DataSource(
            name="noise",
            train=images,
            test=images,
            augmentation=default_augmentation(images),
            normalization=Normalization.of(images),
        )
        held_out = images if self.conf.val_ratio > 0 or self.facts.n_val is not None else None
        return RunContext(data=source, val_set=held_out, seed=self.seed, device=self.device, listener=listener)

    def _evaluated(self, conf: PhaseConf, context: RunContext, size: int) -> BatchLoader:
        test = context.loaders(replace(conf, eval_batch_size=size), self.phase, test=True).test
        assert test is not None
        return test


@contextmanager
def _without_diagnoses() -> Iterator[None]:
    """Keep what a search of noise would say about itself out of the log."""

    def refuse(record: logging.LogRecord) -> bool:
        return False

    log = logging.getLogger(arch_trainer.__name__)
    log.addFilter(refuse)
    try:
        yield
    finally:
        log.removeFilter(refuse)
