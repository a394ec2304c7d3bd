"""Training of one network; the search trains its supergraph with the same loop."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from gradnas.data import BatchLoader, DataLoaders
from gradnas.foundation.seeds import derive_seed
from gradnas.ops import ArchParams
from gradnas.supergraph import Model
from gradnas.training.batch_mixing import BatchMixing, class_shares
from gradnas.training.checkpoint import CheckPoint
from gradnas.training.ema import EMA
from gradnas.training.listener import Listener
from gradnas.training.loop import TrainingLoop
from gradnas.training.metrics import EpochRecord, Score, ScoreSums
from gradnas.training.multi_optim import MultiOptim, OptimSched
from gradnas.training.optimizers import create_optimizer
from gradnas.training.schedules import create_scheduler
from gradnas.training.settings import OptimConf, TrainConf
from gradnas.training.stopping import Stop
from gradnas.training.test_report import TestReport
from gradnas.training.tester import Tester, logits_of


class Trainer(TrainingLoop):
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

    With a moving average of the weights (``ema``) the network has it in validation and test and after :meth:`fit`;
    checkpoints hold both.
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
        super().__init__(conf_train, model, checkpoint, phase=phase, seed=seed, listener=listener, stop=stop)
        self.train_loss = nn.CrossEntropyLoss(label_smoothing=conf_train.label_smoothing)
        self.ema: EMA | None = None
        self.test_report: TestReport | None = None
        """All about the test; None before it, and where there is no test set."""
        self._mixing = BatchMixing(conf_train.mixup, conf_train.cutmix)
        self._drop_path_draws = torch.Generator(self.device)

    @property
    def confusion(self) -> Tensor | None:
        """Confusion matrix of the test set (n_classes, n_classes), rows the true class; None before the test."""
        return None if self.test_report is None else torch.tensor(self.test_report.confusion)

    def set_up(self) -> None:
        """Optimizers, and the moving average if there is one."""
        self.multi_optim = self.create_multi_optim(self.ordinary_params())
        self.ema = EMA(self.model, self.conf.ema) if self.conf.ema > 0 else None

    def pre_fit(self, data_loaders: DataLoaders) -> None:
        """Before anything is restored or trained; the optimizers exist."""

    def seed_step(self) -> None:
        super().seed_step()
        drop_path = derive_seed(self.seed, f"{self.phase}.drop_path", self.epoch, self.step)
        self._drop_path_draws.manual_seed(drop_path)

    def train_step(self, x: Tensor, y: Tensor, sums: ScoreSums) -> None:
        self.pre_step(x, y)
        self._weight_step(x, y, sums)
        if self.ema is not None:
            self.ema.update()
        self.post_step(x, y)

    def _weight_step(self, x: Tensor, y: Tensor, sums: ScoreSums) -> None:
        """The gradient of the mean loss over the batch, also in parts: each counts by its samples."""
        x, shares = self._mixing(x)
        chunks = min(self.conf.batch_chunks, max(1, len(y) // 2))  # a norm cannot learn from a part of one sample
        parts = zip(x.tensor_split(chunks), y.tensor_split(chunks), strict=True)
        shares_of_parts = iter(()) if shares is None else iter(shares.tensor_split(chunks))
        self.multi_optim.zero_grad()
        with self.weight_pass():
            for part_x, part_y in parts:
                logits, aux = self.forward(part_x, mixing=self.train_mixing(part_x, part_y))
                part_shares = next(shares_of_parts, None)
                targets = part_y if part_shares is None else class_shares(part_shares, y, logits.shape[1])
                loss = self.compute_loss(self.train_loss, targets, logits, self.conf.aux_weight, aux)
                self.finite.see(loss, "training loss")
                (loss * (len(part_y) / len(y))).backward()
                sums.add(loss, logits, part_y if part_shares is None else targets.argmax(1))
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
        """The loss of a batch, a 0-dim tensor: main plus ``aux_weight`` times auxiliary.

        ``y`` are labels (B,), or for mixed images the shares of the classes (B, n_classes).
        """
        loss: Tensor = lossfn(logits, y)
        if aux_logits is not None and aux_weight > 0:
            loss = loss + aux_weight * lossfn(aux_logits, y)
        return loss

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

    def validate(self, val: BatchLoader) -> Score:
        with self._averaged():
            return Tester(self.model, precision=self.conf.precision).test(val, max_steps=self.conf.max_steps_per_epoch)

    def _averaged(self) -> AbstractContextManager[None]:
        """Within, the network has its moving average, if there is one."""
        return nullcontext() if self.ema is None else self.ema.averaged()

    def post_epoch(self, data_loaders: DataLoaders, train: Score, lr: float, start: float) -> None:
        """After each epoch: validation, and the record of the epoch."""
        last = self.epoch + 1 == self.conf.epochs or self.out_of_time
        val = None
        if data_loaders.val is not None and (last or (self.epoch + 1) % self.conf.validate_every_epochs == 0):
            val = self.validate(data_loaders.val)
        seconds = time.perf_counter() - start
        skipped = self.faults.skipped
        record = EpochRecord(self.phase, self.epoch, train=train, val=val, lr=lr, seconds=seconds, skipped=skipped)
        self.metrics.add(record)
        self.listener.on_epoch(record)

    def post_fit(self, data_loaders: DataLoaders) -> None:
        """After the last epoch: the test set, once."""
        if data_loaders.test is None or self.metrics.test is not None:
            return
        start = time.perf_counter()
        with self._averaged():
            tester = Tester(self.model, precision=self.conf.precision)
            self.test_report = tester.report(data_loaders.test, max_steps=self.conf.max_steps_per_epoch)
        seconds = time.perf_counter() - start
        record = EpochRecord(self.phase, self.epoch, test=self.test_report.score, seconds=seconds)
        self.metrics.add(record)
        self.listener.on_epoch(record)
        if not self.out_of_time:
            self._commit()

    def wind_up(self) -> None:
        """The network keeps its moving average."""
        if self.ema is not None:
            self.ema.exchange()
            self.ema = None

    def ordinary_params(self) -> list[nn.Parameter]:
        """Every parameter that is not an architecture parameter, in module order."""
        return list(ArchParams.nonarch_from_module(self.model, recurse=True))

    def create_optimizer(self, conf_optim: OptimConf, params: Iterable[nn.Parameter]) -> Optimizer:
        """The optimizer of the weights."""
        return create_optimizer(conf_optim, params)

    def create_multi_optim(self, params: Iterable[nn.Parameter]) -> MultiOptim:
        """The optimizers of the weights and their schedules."""
        optimizer = self.create_optimizer(self.conf.optimizer, params)
        conf = self.conf.optimizer
        scheduler = create_scheduler(conf, optimizer, self.conf.epochs, self.steps_per_epoch)
        return MultiOptim([OptimSched(optimizer, scheduler, sched_on_epoch=not conf.schedule_per_step)])

    def update_checkpoint(self, checkpoint: CheckPoint) -> None:
        super().update_checkpoint(checkpoint)
        checkpoint["ema"] = None if self.ema is None else self.ema.state_dict()
        checkpoint["test_report"] = None if self.test_report is None else self.test_report.to_dict()

    def restore_checkpoint(self) -> None:
        super().restore_checkpoint()
        assert self.checkpoint is not None
        if self.ema is not None:
            self.ema.load_state_dict(self.checkpoint["ema"])
        report = self.checkpoint["test_report"]
        self.test_report = None if report is None else TestReport.from_dict(report)
