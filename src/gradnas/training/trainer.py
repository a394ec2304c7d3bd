"""Training of one network; the search trains its supergraph with the same loop."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from gradnas.data import BatchLoader, DataLoaders
from gradnas.foundation.seeds import derive_seed, kept_generators, seed_default_generators
from gradnas.ops import ArchParams
from gradnas.supergraph import Model
from gradnas.training.checkpoint import CheckPoint, checkpoint_empty
from gradnas.training.fault_text import advice, fault_text
from gradnas.training.finite import FiniteWatch, NotFiniteError
from gradnas.training.listener import Listener, Progress, Silence
from gradnas.training.metrics import EpochRecord, Metrics, Score, ScoreSums
from gradnas.training.multi_optim import MultiOptim, OptimSched, create_optimizer, create_scheduler
from gradnas.training.phase_clock import PhaseClock
from gradnas.training.settings import WATCHING, OptimConf, TrainConf
from gradnas.training.stopping import Stop
from gradnas.training.tester import Tester, logits_of

_LOG = logging.getLogger(__name__)

MOST_ROLLBACKS = 5  # each halves the rate: what fails at a thirty-second of it has another cause
MOST_SKIPS_IN_A_ROW = 10  # then it is not the batch


def steps_per_epoch(conf: TrainConf, train: Sized) -> int:
    """Steps that an epoch over these batches really takes."""
    return min(len(train), conf.max_steps_per_epoch or len(train))


class Trainer:
    """Trains the ordinary weights of a network.

    Hooks, in order: ``pre_fit``, ``pre_epoch``, ``pre_step``, the step, ``post_step``, ``post_epoch``, ``post_fit``.

    Args:
        conf_train: The settings.
        model: On its device already; returns logits (B, n_classes), or (logits, auxiliary logits or None).
        checkpoint: Where to save and from where to go on; None does neither.
        phase: Name of this run in the metrics.
        seed: What a step draws is a function of it and the number of the step.
        listener: Told of progress.
        stop: Asked between two steps whether to go on; None never stops.

    Every random draw is a function of (seed, phase, epoch, step), so a checkpoint needs no generator state. What draws
    from torch's default generators is given such numbers too; the caller's are put back.
    """

    def __init__(
        self,
        conf_train: TrainConf,
        model: nn.Module,
        checkpoint: CheckPoint | None = None,
        *,
        phase: str = "train",
        seed: int = 0,
        listener: Listener | None = None,
        stop: Stop | None = None,
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
        self.train_loss = nn.CrossEntropyLoss(label_smoothing=conf_train.label_smoothing)
        self.multi_optim = MultiOptim()
        self.finite = FiniteWatch(self.device, at_once=conf_train.on_nonfinite == "skip")
        self._sums = ScoreSums(self.device)
        self._epoch_lr = 0.0
        self._clock = PhaseClock()
        self._saved_at: tuple[int, int] | None = None  # epoch and step of the last checkpoint
        self._skipped = self._skipped_in_a_row = self._rollbacks = 0
        self._drop_path_draws = torch.Generator(self.device)
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
        self.multi_optim = self.create_multi_optim(self.ordinary_params())
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
        self._check_identity(self.checkpoint)
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
        self.metrics.records[-1] = replace(last, val=self._validation(data_loaders.val))
        self.listener.on_start(self.phase, self.metrics)  # who was told of the epoch hears of its validation

    def _validation(self, val: BatchLoader) -> Score:
        tester = Tester(self.model, precision=self.conf.precision)
        return tester.test(val, max_steps=self.conf.max_steps_per_epoch)

    def _run_epoch(self, data_loaders: DataLoaders) -> None:
        """The rest of an epoch."""
        if self.step == 0:
            self._clock.begin_epoch()
            self.pre_epoch(data_loaders)
            self._sums, self._epoch_lr, self._skipped = ScoreSums(self.device), self.multi_optim.get_lr(), 0
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
        steps = steps_per_epoch(self.conf, data_loaders.train)
        for x, y in islice(data_loaders.train.batches(self.epoch, self.step), steps - self.step):
            if self._time_is_up():
                self._cut_short()
                return
            self._seed_step()
            undo = self.remember_step() if self.conf.on_nonfinite == "skip" else None
            try:
                self.train_step(x, y, self._sums)
                self._skipped_in_a_row = 0
            except NotFiniteError as fault:
                if undo is None:
                    raise
                undo()
                self._skip(fault, data_loaders)
            self.global_step += 1
            self.step += 1
            if self.step % self.conf.log_every_steps == 0 or self.step == steps:
                self.read_progress(self.step, steps, self._sums)
            if self._save_is_due() or self.stop.asked:
                self._commit()
            self._stop_if_asked()

    def _seed_step(self) -> None:
        """What this step draws is a function of its number."""
        self.finite.begin(self.global_step)
        purpose = f"{self.phase}.step"
        seed_default_generators(self.seed, purpose, self.epoch, self.step, device=self.device)
        drop_path = derive_seed(self.seed, f"{self.phase}.drop_path", self.epoch, self.step)
        self._drop_path_draws.manual_seed(drop_path)

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

    def train_step(self, x: Tensor, y: Tensor, sums: ScoreSums) -> None:
        """One step on a batch, with its hooks."""
        self.pre_step(x, y)
        self._weight_step(x, y, sums)
        self.post_step(x, y)

    def _weight_step(self, x: Tensor, y: Tensor, sums: ScoreSums) -> None:
        self.multi_optim.zero_grad()
        with self.weight_pass():
            for part_x, part_y in zip(x.chunk(self.conf.batch_chunks), y.chunk(self.conf.batch_chunks), strict=True):
                logits, aux = self.forward(part_x, mixing=self.train_mixing(part_x, part_y))
                loss = self.compute_loss(self.train_loss, part_y, logits, self.conf.aux_weight, aux)
                self.finite.see(loss, "training loss")
                (loss * (len(part_y) / len(y))).backward()
                sums.add(loss, logits, part_y)
        params = self.multi_optim.params()
        norm = get_total_norm([p.grad for p in params if p.grad is not None])
        self.finite.see(norm, "norm of the gradient")
        if self.conf.grad_clip > 0:
            clip_grads_with_norm_(params, self.conf.grad_clip, norm)
        self.multi_optim.step()

    def forward(
        self, x: Tensor, *, full_precision: bool = False, mixing: Sequence[Tensor | None] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits and auxiliary logits, under autocast when the settings ask for it and ``full_precision`` does not.

        ``mixing`` goes to a supergraph, see :meth:`gradnas.supergraph.Model.forward`.
        """
        autocast = self.conf.precision == "bfloat16" and not full_precision
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            logits, aux = logits_of(self.model(x) if mixing is None else self.model(x, mixing))
        if autocast:
            return logits.float(), None if aux is None else aux.float()
        return logits, aux

    def compute_loss(
        self, lossfn: nn.Module, y: Tensor, logits: Tensor, aux_weight: float, aux_logits: Tensor | None
    ) -> Tensor:
        """The loss of a batch, a 0-dim tensor: main plus ``aux_weight`` times auxiliary."""
        loss: Tensor = lossfn(logits, y)
        if aux_logits is not None and aux_weight > 0:
            loss = loss + aux_weight * lossfn(aux_logits, y)
        return loss

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

    def _skip(self, fault: NotFiniteError, data_loaders: DataLoaders) -> None:
        self._skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > MOST_SKIPS_IN_A_ROW:
            raise FloatingPointError(
                f"{self._described(fault, data_loaders)} The {MOST_SKIPS_IN_A_ROW} batches before it were skipped: the "
                f"cause is not in the data. {self._advice()}"
            ) from fault
        _LOG.warning("skipped a batch: %s", self._described(fault, data_loaders))

    def _answer(self, fault: FloatingPointError, data_loaders: DataLoaders) -> None:
        """To a number that is not finite, or that a strategy refuses: stop, or roll back."""
        said = self._described(fault, data_loaders) if isinstance(fault, NotFiniteError) else str(fault)
        if self.conf.on_nonfinite != "rollback":
            if not isinstance(fault, NotFiniteError):
                raise fault
            raise FloatingPointError(f"{said} {self._advice()}") from fault
        if self._rollbacks == MOST_ROLLBACKS:
            raise FloatingPointError(f"{said} It was rolled back {MOST_ROLLBACKS} times already.") from fault
        assert self.checkpoint is not None
        self.checkpoint.load_existing()
        rollbacks, spent = self._rollbacks + 1, self._clock.state_dict()
        self._go_back(data_loaders)
        self._clock.load_state_dict({**self._clock.state_dict(), "phase": spent["phase"]})
        self.multi_optim.scale_lr(0.5 ** (rollbacks - self._rollbacks))
        self._rollbacks, self._epoch_lr = rollbacks, self.multi_optim.get_lr()
        self.finite.forget()
        self._commit()
        _LOG.warning(
            "%s Rolled back to epoch %d, step %d; the learning rate is %.3g now.",
            *(said, self.epoch, self.step, self.multi_optim.get_lr()),
        )

    def _described(self, fault: NotFiniteError, data_loaders: DataLoaders) -> str:
        """What happened, where, on which images, and what was saved last."""
        epoch, step = divmod(fault.global_step, steps_per_epoch(self.conf, data_loaders.train))
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

    def pre_fit(self, data_loaders: DataLoaders) -> None:
        """Before anything is restored or trained; the optimizers exist."""

    def pre_epoch(self, data_loaders: DataLoaders) -> None:
        """Before each epoch: drop path follows its schedule."""
        if isinstance(self.model, Model):
            self.model.drop_path_prob(self.conf.drop_path * self.epoch / max(1, self.conf.epochs))
            self.model.drop_path_generator(self._drop_path_draws)

    def pre_step(self, x: Tensor, y: Tensor) -> None:
        """Before each weight step; must leave weights, gradients, optimizer state and batch-norm buffers alone."""

    def train_mixing(self, x: Tensor, y: Tensor) -> Sequence[Tensor | None] | None:
        """Mixing weights of a weight step for a supergraph; None, here, for its own."""
        return None

    @contextmanager
    def weight_pass(self) -> Iterator[None]:
        """Around forward and backward of the weight step."""
        yield

    def post_step(self, x: Tensor, y: Tensor) -> None:
        """After each weight step."""

    def post_epoch(self, data_loaders: DataLoaders, train: Score, lr: float, start: float) -> None:
        """After each epoch: validation, and the record of the epoch."""
        last = self.epoch + 1 == self.conf.epochs or self.out_of_time
        val = None
        if data_loaders.val is not None and (last or (self.epoch + 1) % self.conf.validate_every_epochs == 0):
            val = self._validation(data_loaders.val)
        seconds = time.perf_counter() - start
        record = EpochRecord(
            self.phase, self.epoch, train=train, val=val, lr=lr, seconds=seconds, skipped=self._skipped
        )
        self.metrics.add(record)
        self.listener.on_epoch(record)

    def post_fit(self, data_loaders: DataLoaders) -> None:
        """After the last epoch: the test set, once."""
        if data_loaders.test is None or self.metrics.test is not None:
            return
        start = time.perf_counter()
        tester = Tester(self.model, precision=self.conf.precision)
        score, confusion = tester.predict(data_loaders.test, max_steps=self.conf.max_steps_per_epoch)
        record = EpochRecord(self.phase, self.epoch, test=score, seconds=time.perf_counter() - start)
        self.metrics.add(record)
        self.confusion = confusion
        self.listener.on_epoch(record)
        if not self.out_of_time:
            self._commit()

    confusion: Tensor | None = None
    """Confusion matrix of the test set (n_classes, n_classes), rows the true class; None before the test."""

    def entropy(self) -> float | None:
        """Mean entropy of the mixing weights in nats; None for a network without a choice."""
        return None

    def ordinary_params(self) -> list[nn.Parameter]:
        """Every parameter that is not an architecture parameter, in module order."""
        return list(ArchParams.nonarch_from_module(self.model, recurse=True))

    def create_optimizer(self, conf_optim: OptimConf, params: Iterable[nn.Parameter]) -> Optimizer:
        """The optimizer of the weights."""
        return create_optimizer(conf_optim, params)

    def create_multi_optim(self, params: Iterable[nn.Parameter]) -> MultiOptim:
        """The optimizers of the weights and their schedules."""
        optimizer = self.create_optimizer(self.conf.optimizer, params)
        scheduler = create_scheduler(self.conf.optimizer, optimizer, self.conf.epochs)
        return MultiOptim([OptimSched(optimizer, scheduler)])

    def data_identity(self, data_loaders: DataLoaders) -> dict[str, str]:
        """Which images the phase has, as checksums."""
        parts = {"training": data_loaders.train, "validation": data_loaders.val, "test": data_loaders.test}
        return {f"{name} images": loader.fingerprint for name, loader in parts.items() if loader is not None}

    def _identity(self) -> dict[str, Any]:
        desc = self.model.desc.hash() if isinstance(self.model, Model) else type(self.model).__name__
        shaping = {f.name: getattr(self.conf, f.name) for f in fields(self.conf) if f.name not in WATCHING}
        plain = {name: repr(value) if is_dataclass(value) else value for name, value in shaping.items()}
        return {"phase": self.phase, "architecture": desc, "seed": self.seed, **self._data_identity, **plain}

    def _check_identity(self, checkpoint: CheckPoint) -> None:
        ours, theirs = self._identity(), checkpoint["identity"]
        changed = [part for part in self._data_identity if theirs.get(part) != ours[part]]
        if changed and any(part in theirs for part in changed):
            raise ValueError(
                f"{checkpoint.path} was made with other {' and '.join(changed)}. Put the images back that the run "
                "began with, or begin a new run in another folder."
            )
        different = [f"{key}: {theirs.get(key)!r}, now {ours[key]!r}" for key in ours if theirs.get(key) != ours[key]]
        if different:
            raise ValueError(f"{checkpoint.path} is of another run ({'; '.join(different)}); choose another folder.")

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
        checkpoint["confusion"] = self.confusion
        checkpoint["sums"] = self._sums.state_dict()
        checkpoint["epoch_lr"] = self._epoch_lr
        checkpoint["skipped"] = [self._skipped, self._skipped_in_a_row]
        checkpoint["rollbacks"] = self._rollbacks
        checkpoint["seconds"] = self._clock.state_dict()

    def restore_checkpoint(self) -> None:
        """Take the state of the checkpoint, which is of this run."""
        assert self.checkpoint is not None
        self.model.load_state_dict(self.checkpoint["model"])
        self.multi_optim.load_state_dict(self.checkpoint["optimizers"], self._names)
        self.metrics = Metrics.from_list(self.checkpoint["metrics"])
        self.confusion = self.checkpoint["confusion"]
        self.epoch, self.step = self.checkpoint["epoch"], self.checkpoint["step"]
        self.global_step = self.checkpoint["global_step"]
        self.stopped = self.checkpoint["stopped"]
        self._sums.load_state_dict(self.checkpoint["sums"])
        self._epoch_lr = self.checkpoint["epoch_lr"]
        self._skipped, self._skipped_in_a_row = self.checkpoint["skipped"]
        self._rollbacks = self.checkpoint["rollbacks"]
        self._clock.load_state_dict(self.checkpoint["seconds"])
