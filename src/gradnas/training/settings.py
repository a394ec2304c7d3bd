"""Settings of training: frozen, checked when made. Accuracies are in percent, rates per step unless said."""

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from gradnas.arch.shapes import check_count
from gradnas.foundation.declared_types import bring_to_declared_types
from gradnas.foundation.names import did_you_mean

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("cosine", "constant", "exponential", "multistep", "onecycle")
SGD_MOMENTUM = 0.9  # where none is given
PRECISIONS = ("float32", "bfloat16")
ON_NONFINITE = ("stop", "skip", "rollback")

WATCHING = frozenset(
    {
        *("log_every_steps", "validate_every_epochs", "eval_batch_size", "on_nonfinite"),
        *("checkpoint_every_epochs", "checkpoint_every_seconds", "keep_checkpoints"),
    }
)
"""Settings of training that change what is seen or saved of a run, not the run: they may differ when it goes on."""


@dataclass(frozen=True, kw_only=True)
class OptimConf:
    """The optimizer of the weights and its schedule. A setting that the chosen ones would ignore is an error.

    Args:
        name: ``sgd``, ``adam``, ``adamw``, or the class path of an optimizer of torch's kind, as
            ``torch.optim.RMSprop``.
        lr: Learning rate at its highest.
        momentum: Momentum of ``sgd``; None is 0.9. Another optimizer takes its own among the options.
        weight_decay: L2 factor (decoupled for adamw).
        nesterov: Nesterov momentum; ``sgd`` only.
        options: Further arguments of the optimizer's class, as ``betas`` of adam.
        schedule: ``cosine`` from lr to lr_min over the epochs; ``constant``; ``exponential``, times ``factor`` after
            every epoch; ``multistep``, times ``factor`` at each of the milestones; ``onecycle``, after every step: up
            from lr / 25 to lr, then down to lr_min, both as half a cosine.
        lr_min: Where cosine and OneCycle end; 0 is lr / 250,000 for OneCycle, the published end.
        factor: Of exponential, by default 0.97, and of multistep, by default 0.1.
        milestones: Of multistep: shares of the epochs if below 1, otherwise epochs, of which the training must have
            more; by default 0.5 and 0.75.
        warmup_epochs: Epochs of linear warm-up before; a shorter training is all warm-up. With OneCycle the epochs of
            its rise; 0 is three tenths of all.
        warmup_factor: The share of lr that a warm-up or OneCycle begins with; None is 1 / warmup_epochs, and 1 / 25 for
            OneCycle.
    """

    name: str = "sgd"
    lr: float = 0.025
    momentum: float | None = None
    weight_decay: float = 3e-4
    nesterov: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    schedule: Literal["cosine", "constant", "exponential", "multistep", "onecycle"] = "cosine"
    lr_min: float = 0.0
    factor: float | None = None
    milestones: tuple[float, ...] = ()
    warmup_epochs: int = 0
    warmup_factor: float | None = None

    def __post_init__(self) -> None:
        bring_to_declared_types(self)
        if "." not in self.name and self.name not in OPTIMIZERS:
            raise ValueError(
                f"unknown optimizer name {self.name!r}. {did_you_mean(self.name, OPTIMIZERS)} Or give a class path."
            )
        _check_choice(self.schedule, "schedule", SCHEDULES)
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"optimizer lr must be positive, got {self.lr}.")
        _check_amount(self, "weight_decay")
        self._check_momentum()
        self._check_schedule()

    def _check_momentum(self) -> None:
        if self.momentum is not None:
            if self.name != "sgd":
                raise ValueError(
                    f"momentum={self.momentum} is a setting of sgd, not of {self.name!r}. Leave it out; what "
                    f"{self.name!r} takes goes into the options of the optimizer."
                )
            if not 0 <= self.momentum < 1:
                raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum}.")
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise ValueError("nesterov=True needs name='sgd' and a positive momentum.")

    def _check_schedule(self) -> None:
        check_count(self.warmup_epochs, "warmup_epochs", 0)
        if not 0 <= self.lr_min <= self.lr:
            raise ValueError(f"lr_min must be between 0 and lr={self.lr}, got {self.lr_min}.")
        if self.factor is not None and not 0 < self.factor <= 1:
            raise ValueError(f"factor must be above 0 and at most 1, got {self.factor}.")
        if self.warmup_factor is not None and not 0 < self.warmup_factor <= 1:
            raise ValueError(f"warmup_factor must be above 0 and at most 1, got {self.warmup_factor}.")
        shares, epochs = (
            all(0 < m < 1 for m in self.milestones),
            all(m >= 1 and float(m).is_integer() for m in self.milestones),
        )
        if not (shares or epochs) or any(a >= b for a, b in itertools.pairwise(self.milestones)):
            raise ValueError(
                "milestones must rise, all shares of the epochs between 0 and 1, or all whole epochs, got "
                f"{list(self.milestones)}."
            )
        for name, unset, users in (
            ("lr_min", 0, ("cosine", "onecycle")),
            ("factor", None, ("exponential", "multistep")),
            ("milestones", (), ("multistep",)),
        ):
            value = getattr(self, name)
            if value != unset and self.schedule not in users:
                raise ValueError(
                    f"{name}={value} would have no effect with schedule={self.schedule!r}: it is a setting of "
                    f"{' and '.join(users)}. Leave it out, or set it to {'null' if unset is None else unset}."
                )
        if self.warmup_factor is not None and self.warmup_epochs == 0 and self.schedule != "onecycle":
            raise ValueError(
                f"warmup_factor={self.warmup_factor} would have no effect without warmup_epochs. Leave it out, or set "
                "warmup_epochs."
            )

    @property
    def schedule_per_step(self) -> bool:
        """Whether the rate changes after every step, not after every epoch."""
        return self.schedule == "onecycle"


@dataclass(frozen=True, kw_only=True)
class TrainConf:
    """How a network is trained.

    Args:
        epochs: Passes over the training set; 0 trains nothing where the caller allows it.
        optimizer: Optimizer and schedule of the weights.
        grad_clip: Largest global norm of the weight gradients; 0 does not clip.
        label_smoothing: Of the training loss, in [0, 1); losses reported on other sets are without.
        aux_weight: Weight of the auxiliary loss, where the network has a tower.
        drop_path: Drop-path probability at the end; at epoch e of E it is drop_path · e / E.
        l1_alphas: Weight of the sum of absolute architecture parameters in the loss of a search.
        batch_chunks: Process each batch in this many parts, which takes less memory; the gradient is the mean over the
            whole batch, as with one part. Batch statistics are those of a part.
        ema: Decay per step of the moving average of the weights, which validation, test and the saved network have; 0
            keeps none. Begins lower, see :class:`gradnas.training.EMA`. Not in a search.
        mixup: Alpha of the Beta distribution with which training images are blended in pairs, labels too; 0 blends
            none. Not in a search.
        cutmix: Likewise for images that get a rectangle of another one. With mixup, each batch gets one of both, drawn
            evenly.
        precision: ``float32``, or ``bfloat16`` for autocast.
        log_every_steps: Read the metrics from the device this often.
        validate_every_epochs: Validate after every so many epochs, and after the last.
        checkpoint_every_epochs: Save after every so many epochs, and after the last.
        checkpoint_every_seconds: Save between two steps once so many seconds have gone by since the last time; 0 saves
            after epochs only.
        keep_checkpoints: How many checkpoints of the phase are kept; older ones are removed.
        on_nonfinite: What follows a loss or gradient that is not a finite number: ``stop`` with an error, ``skip`` the
            batch as if it had not been drawn, or ``rollback`` to the last checkpoint and go on with half the rate.
        max_steps_per_epoch: Stop each epoch after this many steps; None runs whole epochs. For trying things out.
    """

    epochs: int = 600
    optimizer: OptimConf = field(default_factory=OptimConf)
    grad_clip: float = 5.0
    label_smoothing: float = 0.0
    aux_weight: float = 0.0
    drop_path: float = 0.0
    l1_alphas: float = 0.0
    batch_chunks: int = 1
    ema: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    log_every_steps: int = 20
    validate_every_epochs: int = 1
    checkpoint_every_epochs: int = 1
    checkpoint_every_seconds: float = 300.0
    keep_checkpoints: int = 2
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    max_steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        bring_to_declared_types(self)
        check_count(self.epochs, "epochs", 0)
        self._check_milestones()
        _check_choice(self.precision, "precision", PRECISIONS)
        _check_choice(self.on_nonfinite, "answer to a loss that is not finite", ON_NONFINITE)
        for name in (
            *("batch_chunks", "log_every_steps", "validate_every_epochs"),
            *("checkpoint_every_epochs", "keep_checkpoints"),
        ):
            check_count(getattr(self, name), name)
        if self.max_steps_per_epoch is not None:
            check_count(self.max_steps_per_epoch, "max_steps_per_epoch")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}.")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, got {self.drop_path}.")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and below 1, got {self.ema}.")
        _check_amount(self, "grad_clip", "aux_weight", "l1_alphas", "mixup", "cutmix", "checkpoint_every_seconds")

    def _check_milestones(self) -> None:
        late = [m for m in self.optimizer.milestones if m >= max(1, self.epochs)]
        if self.epochs > 0 and late:
            raise ValueError(
                f"milestones={[int(m) for m in self.optimizer.milestones]} are epochs, and the training is over after "
                f"epochs={self.epochs}: at {int(late[0])} the rate would not fall. Give earlier ones, or shares of the "
                "epochs, such as [0.5, 0.75]."
            )

    def for_epochs(self, epochs: int) -> Self:
        """The same training in so many epochs; milestones that were given in epochs stay at their share of them."""
        ends = self.optimizer.milestones
        if self.epochs > 0 and any(m >= 1 for m in ends):
            shares = tuple(m / self.epochs for m in ends)
            return replace(self, epochs=epochs, optimizer=replace(self.optimizer, milestones=shares))
        return replace(self, epochs=epochs)

    def check_search(self) -> None:
        """Refuse what a search cannot have. ValueError."""
        for name, why in (
            ("ema", "it takes its architecture from the weights as they are"),
            ("mixup", "its strategies learn from images of one class"),
            ("cutmix", "its strategies learn from images of one class"),
        ):
            if getattr(self, name) > 0:
                raise ValueError(f"{name} is a setting of trainings after a search: {why}. Set {name} to 0.")


def _check_amount(settings: OptimConf | TrainConf, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {value}.")


def _check_choice(value: str, what: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}. {did_you_mean(value, known)}")
