"""The loop of a training: epochs and steps, where it may stop, what it saves, and how it goes on."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sized
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from gradnas.data import BatchLoader, DataLoaders
from gradnas.foundation.seeds import kept_generators, seed_default_generators
from gradnas.supergraph import Model
from gradnas.training.checkpoint import CheckPoint, checkpoint_empty
from gradnas.training.fault_text import advice, fault_text
from gradnas.training.faults import FaultAnswers
from gradnas.training.finite import FiniteWatch, NotFiniteError
from gradnas.training.identity import check_identity, shaping_settings
from gradnas.training.listener import Listener, Progress, Silence
from gradnas.training.metrics import Metrics, Score, ScoreSums
from gradnas.training.multi_optim import MultiOptim
from gradnas.training.phase_clock import PhaseClock
from gradnas.training.settings import TrainConf
from gradnas.training.stopping import Stop

TEST_IMAGES = "test images"

_LOG = logging.getLogger(__name__)


def steps_per_epoch(conf: TrainConf, train: Sized) -> int:
    """Steps that an epoch over these batches really takes."""
    return min(len(train), conf.max_steps_per_epoch or len(train))


class TrainingLoop(ABC):
    """Runs the epochs of a training that can stop between any two steps and go on as if it had not.

    A subclass says what a step is, how an epoch and the training end, and what optimizers there are.

    Args:
        conf_train: The settings.
        model: On its device already.
        checkpoint: Where to save and from where to go on; None does neither.
        phase: Name of this run in the metrics.
        seed: What a step draws is a function of it and the number of the step.
        listener: Told of progress.
        stop: Asked between two steps whether to go on.

    Every random draw is a function of (seed, phase, epoch, step), so a checkpoint needs no generator state. What draws
    from torch's default generators is given such numbers too; the caller's are put back.
    """

    def __init__(
        self,
        conf_train: TrainConf,
        model: nn.Module,
        checkpoint: CheckPoint | None,
        *,
        phase: str,
        seed: int,
        listener: Listener | None,
        stop: Stop | None,
    ) -> None:
        if conf_train.on_nonfinite == "rollback" and checkpoint is None:
            raise ValueError("on_nonfinite='rollback' goes back to a checkpoint; give one, or choose 'stop' or 'skip'.")
        self.conf, self.model, self.checkpoint = conf_train, model, checkpoint
        self.phase, self.seed = phase, seed
        self.listener: Listener = listener if listener is not None else Silence()
        self.stop = stop if stop is not None else Stop()
        self.device = next(model.parameters()).device
        self.metrics = Metrics()
        self.epoch = 0  # the epoch that runs, or the next one
        self.step = 0  # steps done in it
        self.global_step = 0
        self.stopped = False  # before the last epoch, by a rule
        self.out_of_time = False
        self.multi_optim = MultiOptim()
        self.faults = FaultAnswers(conf_train.on_nonfinite)
        self.finite = FiniteWatch(self.device, at_once=conf_train.on_nonfinite == "skip")
        self._sums = ScoreSums(self.device)
        self._epoch_lr = 0.0
        self._clock = PhaseClock()
        self._saved_at: tuple[int, int] | None = None  # epoch and step of the last checkpoint
        self.steps_per_epoch = 0  # known from the data
        self._data_identity: dict[str, str] = {}
        self._names = {id(p): name for name, p in model.named_parameters()}

    def fit(self, data_loaders: DataLoaders) -> Metrics:
        """Train to the last epoch, then use the test set once if there is one.

        A finished run, also one from a checkpoint, gives its metrics again, test included. One that was interrupted
        goes on after the last step that was saved. When time is up, the epoch is closed where it stands; its checkpoint
        is that of the last step, from which more time goes on.

        Raises:
            FloatingPointError: When a loss or gradient is not finite, naming phase, epoch, step, images and the last
                checkpoint, unless the settings answer it otherwise.
            Interrupted, Terminated: When a signal asked for it, after the step in progress was saved.
            ValueError: When the checkpoint is of another run.
        """
        if 0 < self.conf.epochs <= self.epoch or self.stopped:
            return self.metrics  # trained by an earlier call
        self.steps_per_epoch = steps_per_epoch(self.conf, data_loaders.train)
        self.set_up()
        self.pre_fit(data_loaders)
        with kept_generators(self.device):
            self._begin(data_loaders)
            while self._goes_on():
                try:
                    self._run_epoch(data_loaders)
                except FloatingPointError as fault:
                    self._answer(fault, data_loaders)
            self.stop.cut_short[self.phase] = self.out_of_time
            if self.out_of_time:
                self._validate_last(data_loaders)
            self._seed_closing()
            self.post_fit(data_loaders)
            self.wind_up()
        return self.metrics

    def _begin(self, data_loaders: DataLoaders) -> None:
        if self.checkpoint is not None:
            self._data_identity = self.data_identity(data_loaders)
            if not checkpoint_empty(self.checkpoint):
                self._go_back(data_loaders)
                self.stop.account_for(self._clock.earlier_s)
                self._saved_at = (self.epoch, self.step)
                return
        self.listener.on_start(self.phase, self.metrics)
        if self.conf.on_nonfinite == "rollback":
            self._commit()

    def _go_back(self, data_loaders: DataLoaders) -> None:
        """To the state of the checkpoint."""
        assert self.checkpoint is not None
        ours, images = self._identity(), {*self._data_identity}
        if Metrics.from_list(self.checkpoint["metrics"]).test is None:  # they shape nothing before they are seen
            ours.pop(TEST_IMAGES, None)
            images.discard(TEST_IMAGES)
        check_identity(ours, self.checkpoint["identity"], images, self.checkpoint.path)
        self.epoch, self.step = self.checkpoint["epoch"], self.checkpoint["step"]
        if self.step > 0:
            self.pre_epoch(data_loaders)  # before the state: it begins an epoch, which has begun
        self.restore_checkpoint()
        self.listener.on_start(self.phase, self.metrics)

    def _goes_on(self) -> bool:
        if self.epoch >= self.conf.epochs or self.stopped or self.out_of_time:
            return False
        if self.step == 0 and self._time_is_up():
            self._cut_short()
        return not self.out_of_time

    def _time_is_up(self) -> bool:
        """Never before the first step: a run gives something."""
        return self.global_step > 0 and self.stop.time_is_up(self._clock.closing_s)

    def _cut_short(self) -> None:
        self.out_of_time = True
        if self._saved_at != (self.epoch, self.step):
            self._commit()

    def _validate_last(self, data_loaders: DataLoaders) -> None:
        """The epoch before the one that has no time is the last now, and the last is validated."""
        last = self.metrics.last
        if data_loaders.val is None or last is None or last.val is not None:
            return
        self.metrics.records[-1] = replace(last, val=self.validate(data_loaders.val))
        self.listener.on_start(self.phase, self.metrics)  # who was told of the epoch hears of its validation

    def _run_epoch(self, data_loaders: DataLoaders) -> None:
        """The rest of an epoch."""
        if self.step == 0:
            self._clock.begin_epoch()
            self.pre_epoch(data_loaders)
            self._sums, self._epoch_lr = ScoreSums(self.device), self.multi_optim.get_lr()
            self.faults.begin_epoch()
        self._train_epoch(data_loaders)
        self.check_numbers()
        closing = time.perf_counter()
        self._seed_closing()
        self.multi_optim.epoch()
        self.post_epoch(data_loaders, self._sums.read(), self._epoch_lr, self._clock.epoch_start)
        self._clock.closing_s = time.perf_counter() - closing
        if self.out_of_time:
            return
        self.epoch, self.step = self.epoch + 1, 0
        last = self.epoch == self.conf.epochs or self.stopped
        if last or self.epoch % self.conf.checkpoint_every_epochs == 0 or self._save_is_due() or self.stop.asked:
            self._commit()
        if not last:
            self._stop_if_asked()

    def _train_epoch(self, data_loaders: DataLoaders) -> None:
        self.model.train()
        steps = self.steps_per_epoch
        for x, y in islice(data_loaders.train.batches(self.epoch, self.step), steps - self.step):
            if self._time_is_up():
                self._cut_short()
                return
            self.seed_step()
            undo = self.remember_step() if self.conf.on_nonfinite == "skip" else None
            try:
                self.train_step(x, y, self._sums)
                self.faults.step_done()
            except NotFiniteError as fault:
                if undo is None:
                    raise
                undo()
                self.multi_optim.skip()
                self.faults.skip(fault, self._described(fault, data_loaders), self._advice())
            self.global_step += 1
            self.step += 1
            if self.step % self.conf.log_every_steps == 0 or self.step == steps:
                self.read_progress(self.step, steps, self._sums)
            if self._save_is_due() or self.stop.asked:
                self._commit()
            self._stop_if_asked()

    def seed_step(self) -> None:
        """What this step draws is a function of its number."""
        self.finite.begin(self.global_step)
        seed_default_generators(self.seed, f"{self.phase}.step", self.epoch, self.step, device=self.device)

    def _seed_closing(self) -> None:
        """What validation and test draw follows from the epoch alone, not from the last step."""
        seed_default_generators(self.seed, f"{self.phase}.closing", self.epoch, device=self.device)

    def _save_is_due(self) -> bool:
        every = self.conf.checkpoint_every_seconds
        return self.checkpoint is not None and 0 < every <= self._clock.since_saved_s()

    def _stop_if_asked(self) -> None:
        if self.stop.asked:
            where = f"after epoch {self.epoch}, step {self.step} of phase {self.phase!r}"
            saved = "nothing is saved" if self.checkpoint is None else f"saved in {self.checkpoint.path}"
            self.stop.raise_if_asked(f"{saved} {where}")

    def read_progress(self, step: int, steps: int, sums: ScoreSums) -> None:
        """Read the metrics from the device, and tell the listener."""
        self.check_numbers()
        running = sums.read()
        self.listener.on_progress(
            Progress(self.phase, self.epoch, self.conf.epochs, step, steps, running, self.entropy())
        )

    def check_numbers(self) -> None:
        """Wait for the device. FloatingPointError when an earlier step met a number that is not finite."""
        self.finite.check()

    def remember_step(self) -> Callable[[], None]:
        """Before a step: what undoes all that it changes until its numbers are known to be finite."""
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        sums = self._sums.state_dict()

        @torch.no_grad()
        def undo() -> None:
            for buffer, before in buffers:
                buffer.copy_(before)
            self._sums.load_state_dict(sums)

        return undo

    def _answer(self, fault: FloatingPointError, data_loaders: DataLoaders) -> None:
        """To a number that is not finite, or that a strategy refuses: stop, or roll back."""
        said = self._described(fault, data_loaders) if isinstance(fault, NotFiniteError) else str(fault)
        self.faults.refuse_or_roll_back(fault, said, self._advice())
        assert self.checkpoint is not None
        self.checkpoint.load_existing()
        rollbacks, spent = self.faults.rollbacks + 1, self._clock.state_dict()
        self._go_back(data_loaders)
        self._clock.load_state_dict({**self._clock.state_dict(), "phase": spent["phase"]})
        self.multi_optim.scale_lr(0.5 ** (rollbacks - self.faults.rollbacks))
        self.faults.rollbacks, self._epoch_lr = rollbacks, self.multi_optim.get_lr()
        self.finite.forget()
        self._commit()
        _LOG.warning(
            "%s Rolled back to epoch %d, step %d; the learning rate is %.3g now.",
            *(said, self.epoch, self.step, self.multi_optim.get_lr()),
        )

    def _described(self, fault: NotFiniteError, data_loaders: DataLoaders) -> str:
        """What happened, where, on which images, and what was saved last."""
        epoch, step = divmod(fault.global_step, self.steps_per_epoch)
        return fault_text(
            fault,
            phase=self.phase,
            place=(epoch, step),
            images=self.batch_numbers(data_loaders, epoch, step),
            checkpoint=None if self.checkpoint is None else self.checkpoint.path,
            saved_at=self._saved_at,
        )

    def _advice(self) -> str:
        return advice(self.conf.on_nonfinite, skips=self.skips, rolls_back=self.checkpoint is not None)

    @property
    def skips(self) -> bool:
        """Whether a batch can be left out after its step has begun."""
        return True

    def batch_numbers(self, data_loaders: DataLoaders, epoch: int, step: int) -> dict[str, list[int]]:
        """What a step has seen: names of sets to the numbers of images in the sets they were taken from."""
        return {"training images": data_loaders.train.sample_numbers(epoch, step)}

    @abstractmethod
    def pre_fit(self, data_loaders: DataLoaders) -> None:
        """Before anything is restored or trained; the optimizers exist."""

    @abstractmethod
    def pre_epoch(self, data_loaders: DataLoaders) -> None:
        """Before each epoch, also before the rest of one."""

    @abstractmethod
    def set_up(self) -> None:
        """Before :meth:`pre_fit`: make the optimizers of :attr:`multi_optim` and whatever follows the weights."""

    @abstractmethod
    def train_step(self, x: Tensor, y: Tensor, sums: ScoreSums) -> None:
        """One step on a batch, with its hooks."""

    @abstractmethod
    def validate(self, val: BatchLoader) -> Score:
        """Score the network as it is."""

    @abstractmethod
    def post_epoch(self, data_loaders: DataLoaders, train: Score, lr: float, start: float) -> None:
        """After each epoch."""

    @abstractmethod
    def post_fit(self, data_loaders: DataLoaders) -> None:
        """After the last epoch."""

    @abstractmethod
    def wind_up(self) -> None:
        """After :meth:`post_fit`: leave the network as the training gives it away; nothing is saved after it."""

    def entropy(self) -> float | None:
        """Mean entropy of the mixing weights in nats; None for a network without a choice."""
        return None

    def data_identity(self, data_loaders: DataLoaders) -> dict[str, str]:
        """Which images the phase has, as checksums."""
        parts = {
            "training images": data_loaders.train,
            "validation images": data_loaders.val,
            TEST_IMAGES: data_loaders.test,
        }
        return {name: loader.fingerprint for name, loader in parts.items() if loader is not None}

    def _identity(self) -> dict[str, Any]:
        desc = self.model.desc.hash() if isinstance(self.model, Model) else type(self.model).__name__
        own = {"phase": self.phase, "architecture": desc, "seed": self.seed}
        return {**own, **self._data_identity, **shaping_settings(self.conf)}

    def _commit(self) -> None:
        """Save, but never what is known to be no number."""
        self.check_numbers()
        if self.checkpoint is not None:
            self.update_checkpoint(self.checkpoint)
            self.checkpoint.commit()
            self._clock.saved()
            self._saved_at = (self.epoch, self.step)

    def update_checkpoint(self, checkpoint: CheckPoint) -> None:
        """Put everything the next step depends on into the checkpoint."""
        checkpoint["identity"] = self._identity()
        checkpoint["epoch"], checkpoint["step"] = self.epoch, self.step
        checkpoint["global_step"] = self.global_step
        checkpoint["stopped"] = self.stopped
        checkpoint["model"] = self.model.state_dict()
        checkpoint["optimizers"] = self.multi_optim.state_dict(self._names)
        checkpoint["metrics"] = self.metrics.to_list()
        checkpoint["sums"] = self._sums.state_dict()
        checkpoint["epoch_lr"] = self._epoch_lr
        for name, count in self.faults.counts().items():
            checkpoint[name] = count
        checkpoint["seconds"] = self._clock.state_dict()

    def restore_checkpoint(self) -> None:
        """Take the state of the checkpoint, which is of this run."""
        assert self.checkpoint is not None
        self.model.load_state_dict(self.checkpoint["model"])
        self.multi_optim.load_state_dict(self.checkpoint["optimizers"], self._names)
        self.metrics = Metrics.from_list(self.checkpoint["metrics"])
        self.epoch, self.step = self.checkpoint["epoch"], self.checkpoint["step"]
        self.global_step = self.checkpoint["global_step"]
        self.stopped = self.checkpoint["stopped"]
        self._sums.load_state_dict(self.checkpoint["sums"])
        self._epoch_lr = self.checkpoint["epoch_lr"]
        self.faults.restore(self.checkpoint["skipped"], self.checkpoint["rollbacks"])
        self._clock.load_state_dict(self.checkpoint["seconds"])
