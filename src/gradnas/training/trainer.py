"""Training of one network; the search trains its supergraph with the same loop."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from gradnas.data import DataLoaders
from gradnas.foundation.seeds import generator
from gradnas.ops import ArchParams
from gradnas.supergraph import Model
from gradnas.training.checkpoint import CheckPoint, checkpoint_empty
from gradnas.training.listener import Listener, Progress, Silence
from gradnas.training.metrics import EpochRecord, Metrics, Score, ScoreSums
from gradnas.training.multi_optim import MultiOptim, OptimSched, create_optimizer, create_scheduler
from gradnas.training.settings import OptimConf, TrainConf
from gradnas.training.tester import Tester, logits_of

# Settings that change what is seen of a run, not the run: they may differ when it is continued.
_WATCHING = frozenset(
    {
        *("log_every_steps", "validate_every_epochs", "eval_batch_size", "on_nonfinite"),
        *("checkpoint_every_epochs", "checkpoint_every_seconds", "keep_checkpoints"),
    }
)


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
        seed: Drop-path draws are a function of it and the epoch.
        listener: Told of progress.

    Every random draw is a function of (seed, phase, epoch, step), so a checkpoint needs no generator state.
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
    ) -> None:
        self.conf, self.model, self.checkpoint = conf_train, model, checkpoint
        self.phase, self.seed = phase, seed
        self.listener: Listener = listener if listener is not None else Silence()
        self.device = next(model.parameters()).device
        self.metrics = Metrics()
        self.epoch = 0  # the epoch that runs, or the next one
        self.global_step = 0
        self.stopped = False  # before the last epoch, by a rule
        self.train_loss = nn.CrossEntropyLoss(label_smoothing=conf_train.label_smoothing)
        self.multi_optim = MultiOptim()
        self._names = {id(p): name for name, p in model.named_parameters()}

    def fit(self, data_loaders: DataLoaders) -> Metrics:
        """Train to the last epoch, then use the test set once if there is one.

        A finished run, also one from a checkpoint, gives its metrics again, test included.

        Raises:
            FloatingPointError: When the loss is not finite, naming phase, epoch and steps.
            ValueError: When the checkpoint is of another run.
        """
        if 0 < self.conf.epochs <= self.epoch or self.stopped:
            return self.metrics  # trained by an earlier call
        self.multi_optim = self.create_multi_optim(self.ordinary_params())
        self.pre_fit(data_loaders)
        if self.checkpoint is not None and not checkpoint_empty(self.checkpoint):
            self.restore_checkpoint()
        while self.epoch < self.conf.epochs and not self.stopped:
            start = time.perf_counter()
            self.pre_epoch(data_loaders)
            lr = self.multi_optim.get_lr()
            train = self._train_epoch(data_loaders)
            self.multi_optim.epoch()
            self.post_epoch(data_loaders, train, lr, start)
            self.epoch += 1
            last = self.epoch == self.conf.epochs or self.stopped
            if last or self.epoch % self.conf.checkpoint_every_epochs == 0:
                self._commit()
        self.post_fit(data_loaders)
        return self.metrics

    def _train_epoch(self, data_loaders: DataLoaders) -> Score:
        self.model.train()
        steps = steps_per_epoch(self.conf, data_loaders.train)
        sums = ScoreSums(self.device)
        for step, (x, y) in enumerate(data_loaders.train.batches(self.epoch)):
            if step == steps:
                break
            self.train_step(x, y, sums)
            self.global_step += 1
            if (step + 1) % self.conf.log_every_steps == 0 or step + 1 == steps:
                self.read_progress(step + 1, steps, sums)
        return sums.read()

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
                (loss * (len(part_y) / len(y))).backward()
                sums.add(loss, logits, part_y)
        if self.conf.grad_clip > 0:
            clip_grad_norm_(self.multi_optim.params(), self.conf.grad_clip)
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
        """Read the metrics from the device, tell the listener, and stop on a loss that is not finite."""
        running = sums.read()
        if not math.isfinite(running.loss):
            first = max(0, step - self.conf.log_every_steps)
            raise FloatingPointError(
                f"the training loss became {running.loss} in phase {self.phase!r}, epoch {self.epoch}, between steps "
                f"{first} and {step}. Lower the learning rate, clip gradients, or look for NaNs in the data."
            )
        self.listener.on_progress(
            Progress(self.phase, self.epoch, self.conf.epochs, step, steps, running, self.entropy())
        )

    def pre_fit(self, data_loaders: DataLoaders) -> None:
        """Before anything is restored or trained; the optimizers exist."""

    def pre_epoch(self, data_loaders: DataLoaders) -> None:
        """Before each epoch: drop path follows its schedule."""
        if isinstance(self.model, Model):
            self.model.drop_path_prob(self.conf.drop_path * self.epoch / max(1, self.conf.epochs))
            draws = generator(self.seed, f"{self.phase}.drop_path", self.epoch, device=self.device)
            self.model.drop_path_generator(draws)

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
        last = self.epoch + 1 == self.conf.epochs
        val = None
        if data_loaders.val is not None and (last or (self.epoch + 1) % self.conf.validate_every_epochs == 0):
            tester = Tester(self.model, precision=self.conf.precision)
            val = tester.test(data_loaders.val, max_steps=self.conf.max_steps_per_epoch)
        record = EpochRecord(self.phase, self.epoch, train=train, val=val, lr=lr, seconds=time.perf_counter() - start)
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

    def _identity(self) -> dict[str, Any]:
        desc = self.model.desc.hash() if isinstance(self.model, Model) else type(self.model).__name__
        shaping = {f.name: getattr(self.conf, f.name) for f in fields(self.conf) if f.name not in _WATCHING}
        plain = {name: repr(value) if is_dataclass(value) else value for name, value in shaping.items()}
        return {"phase": self.phase, "architecture": desc, "seed": self.seed, **plain}

    def _commit(self) -> None:
        if self.checkpoint is not None:
            self.update_checkpoint(self.checkpoint)
            self.checkpoint.commit()

    def update_checkpoint(self, checkpoint: CheckPoint) -> None:
        """Put everything the next step depends on into the checkpoint."""
        checkpoint["identity"] = self._identity()
        checkpoint["epoch"] = self.epoch
        checkpoint["global_step"] = self.global_step
        checkpoint["stopped"] = self.stopped
        checkpoint["model"] = self.model.state_dict()
        checkpoint["optimizers"] = self.multi_optim.state_dict(self._names)
        checkpoint["metrics"] = self.metrics.to_list()
        checkpoint["confusion"] = self.confusion

    def restore_checkpoint(self) -> None:
        """Go on from the checkpoint.

        Raises:
            ValueError: When it is of another run, naming the differences.
        """
        assert self.checkpoint is not None
        ours, theirs = self._identity(), self.checkpoint["identity"]
        different = [f"{key}: {theirs.get(key)!r}, now {ours[key]!r}" for key in ours if theirs.get(key) != ours[key]]
        if different:
            raise ValueError(
                f"{self.checkpoint.path} is of another run ({'; '.join(different)}); choose another folder."
            )
        self.model.load_state_dict(self.checkpoint["model"])
        self.multi_optim.load_state_dict(self.checkpoint["optimizers"], self._names)
        self.metrics = Metrics.from_list(self.checkpoint["metrics"])
        self.confusion = self.checkpoint["confusion"]
        self.epoch, self.global_step = self.checkpoint["epoch"], self.checkpoint["global_step"]
        self.stopped = self.checkpoint["stopped"]
