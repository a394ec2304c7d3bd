"""Learning rates over a training; the schedules are torch's own.

Sources: Loshchilov and Hutter, SGDR (ICLR 2017), equation 5 without restarts (cosine); Smith and Topin,
Super-Convergence (2018), in the two phases of ``torch.optim.lr_scheduler.OneCycleLR`` (onecycle); Goyal et al.,
Accurate, Large Minibatch SGD (2017), section 2.2 (gradual warm-up); He et al., Deep Residual Learning (CVPR 2016),
section 4.2 (steps at half and three quarters).
Deviations: OneCycle leaves the momentum as it is set, and its peak falls on a step.
Reference tests: closed forms over all steps in ``tests/training/test_schedules.py``.
"""

from bisect import bisect_right

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
)

from gradnas.training.settings import OptimConf

EXPONENTIAL_FACTOR = 0.97  # DARTS on ImageNet
MULTISTEP_FACTOR, MILESTONES = 0.1, (0.5, 0.75)  # He et al. on CIFAR-10
ONECYCLE_START, ONECYCLE_END, ONECYCLE_RISE = 1 / 25, 1e-4, 0.3  # of the peak, of the start, of all steps: torch's
_FEWEST_STEPS = 3  # of OneCycle: begin, peak, end


def create_scheduler(conf: OptimConf, optimizer: Optimizer, epochs: int, steps_per_epoch: int = 1) -> LRScheduler:
    """The schedule of these settings, to be stepped after each epoch, or after each step where the settings say so.

    A warm-up of n epochs comes before: in epoch e < n the rate is lr · (f + (1 − f) · e / (n − 1)), f being its
    factor, by default 1/n; so it is never 0 and reaches lr in its last epoch. What follows begins at lr.

    Args:
        conf: The settings.
        optimizer: Whose rate it is.
        epochs: Of the training.
        steps_per_epoch: Optimizer steps in each; OneCycle counts them.
    """
    if conf.schedule == "onecycle":
        return _one_cycle(conf, optimizer, epochs * steps_per_epoch, conf.warmup_epochs * steps_per_epoch)
    n = conf.warmup_epochs
    main = _main(conf, optimizer, epochs)
    if n == 0:
        return main
    factor = 1.0 / n if conf.warmup_factor is None else conf.warmup_factor
    warmup = LinearLR(optimizer, start_factor=factor, end_factor=1.0, total_iters=max(1, n - 1))
    return SequentialLR(optimizer, [warmup, main], milestones=[n])


def _main(conf: OptimConf, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """What follows the warm-up; its epochs count from there."""
    if conf.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=max(1, epochs - conf.warmup_epochs), eta_min=conf.lr_min)
    if conf.schedule == "constant":
        return ConstantLR(optimizer, factor=1.0, total_iters=0)
    if conf.schedule == "exponential":
        factor = EXPONENTIAL_FACTOR if conf.factor is None else conf.factor
        return LambdaLR(optimizer, lambda epoch: factor**epoch)
    factor = MULTISTEP_FACTOR if conf.factor is None else conf.factor
    ends = [max(1, round(m * epochs)) if m < 1 else int(m) for m in conf.milestones or MILESTONES]
    return LambdaLR(optimizer, lambda epoch: factor ** bisect_right(ends, epoch + conf.warmup_epochs))


def _one_cycle(conf: OptimConf, optimizer: Optimizer, steps: int, rise: int) -> OneCycleLR:
    """Up in ``rise`` steps, the first and the peak among them, and down to the end in the last step."""
    steps = max(_FEWEST_STEPS, steps)
    rise = min(max(2, rise or round(ONECYCLE_RISE * steps)), steps - 1)
    start = ONECYCLE_START if conf.warmup_factor is None else conf.warmup_factor
    end = conf.lr_min / conf.lr if conf.lr_min > 0 else start * ONECYCLE_END
    return OneCycleLR(
        optimizer,
        max_lr=conf.lr,
        total_steps=steps,
        pct_start=rise / steps,
        cycle_momentum=False,
        div_factor=1 / start,
        final_div_factor=start / end,
    )
