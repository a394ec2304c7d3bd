"""Settings of training: frozen, checked when made. Accuracies are in percent, rates per step unless said."""

import math
from dataclasses import dataclass, field
from typing import Literal

from gradnas.arch.shapes import check_count
from gradnas.foundation.names import did_you_mean

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("cosine", "constant")
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
    """The optimizer of the weights and its schedule.

    Args:
        name: ``sgd``, ``adam`` or ``adamw``.
        lr: Learning rate at its highest.
        momentum: Momentum of SGD.
        weight_decay: L2 factor (decoupled for adamw).
        nesterov: Nesterov momentum; SGD only.
        schedule: ``cosine`` from lr to lr_min over the epochs, or ``constant``.
        lr_min: Where the cosine ends.
        warmup_epochs: Epochs of linear warm-up before, from lr / warmup_epochs; a shorter training is all warm-up.
    """

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    nesterov: bool = False
    schedule: Literal["cosine", "constant"] = "cosine"
    lr_min: float = 0.0
    warmup_epochs: int = 0

    def __post_init__(self) -> None:
        _check_choice(self.name, "optimizer name", OPTIMIZERS)
        _check_choice(self.schedule, "schedule", SCHEDULES)
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"optimizer lr must be positive, got {self.lr}.")
        if not 0 <= self.lr_min <= self.lr:
            raise ValueError(f"lr_min must be between 0 and lr={self.lr}, got {self.lr_min}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum}.")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}.")
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise ValueError("nesterov=True needs name='sgd' and a positive momentum.")
        check_count(self.warmup_epochs, "warmup_epochs", 0)


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
        batch_chunks: Process each batch in this many parts; the gradient is that of one batch.
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
    precision: Literal["float32", "bfloat16"] = "float32"
    log_every_steps: int = 20
    validate_every_epochs: int = 1
    checkpoint_every_epochs: int = 1
    checkpoint_every_seconds: float = 300.0
    keep_checkpoints: int = 2
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    max_steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        check_count(self.epochs, "epochs", 0)
        _check_choice(self.precision, "precision", PRECISIONS)
        _check_choice(self.on_nonfinite, "answer to a loss that is not finite", ON_NONFINITE)
        for name in (
            *("batch_chunks", "log_every_steps", "validate_every_epochs"),
            *("checkpoint_every_epochs", "keep_checkpoints"),
        ):
            check_count(getattr(self, name), name)
        if not (math.isfinite(self.checkpoint_every_seconds) and self.checkpoint_every_seconds >= 0):
            raise ValueError(f"checkpoint_every_seconds must be at least 0, got {self.checkpoint_every_seconds}.")
        if self.max_steps_per_epoch is not None:
            check_count(self.max_steps_per_epoch, "max_steps_per_epoch")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}.")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, got {self.drop_path}.")
        for name in ("grad_clip", "aux_weight", "l1_alphas"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")


def _check_choice(value: str, what: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}. {did_you_mean(value, known)}")
