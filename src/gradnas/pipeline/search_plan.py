"""What a search will really run, and what of its settings cannot work together: known before anything is built."""

from collections.abc import Sized

from gradnas.arch import ModelDesc
from gradnas.data import BatchPlan
from gradnas.strategies import MetaOptimizer, SearchSchedule, StabilizeConf
from gradnas.training import TrainConf, steps_per_epoch


def search_schedule(conf: TrainConf, train: Sized, alpha: BatchPlan | None, warmup_epochs: int = 0) -> SearchSchedule:
    """What a search will really run.

    Args:
        conf: Its settings.
        train: Batches of the weight steps; only their number counts.
        alpha: Batches of the architecture steps, or None.
        warmup_epochs: Epochs in which only weights learn.
    """
    steps = steps_per_epoch(conf, train)
    drawn = 0 if alpha is None else alpha.samples_in((conf.epochs - warmup_epochs) * steps)
    return SearchSchedule(epochs=conf.epochs, steps_per_epoch=steps, val_samples=drawn)


def warmup_epochs(conf: StabilizeConf, strategy: MetaOptimizer, epochs: int) -> int:
    """Epochs in which only weights learn. ValueError when none is left for the architecture."""
    waits = conf.warmup_epochs if conf.warmup_epochs is not None else strategy.warmup_epochs(epochs)
    if waits >= epochs > 0:
        raise ValueError(
            f"the architecture waits for {waits} epochs, but the search has {epochs}: it would never learn. Lower "
            "stabilize.warmup_epochs, or search longer."
        )
    return waits


def check_graph(strategy: MetaOptimizer, device: str, stabilize: StabilizeConf | None = None) -> None:
    """Refuse to record a step that cannot be recorded. ValueError."""
    if device != "cuda":
        raise ValueError(f"cuda_graph needs an NVIDIA GPU, the search runs on {device!r}. Set search.cuda_graph=false.")
    if not strategy.capturable:
        raise ValueError(f"no CUDA graph can be made of the step of {strategy!r}. Set search.cuda_graph=false.")
    if stabilize is not None and stabilize.noisy:
        raise ValueError(
            "a recorded step would repeat its noise: skip_dropout and perturb need search.cuda_graph=false."
        )


def check_penalty(conf: TrainConf, strategy: MetaOptimizer) -> None:
    """Refuse a penalty on alphas that the strategy does not have. ValueError."""
    if conf.l1_alphas > 0 and "alphas" not in strategy.mixing_rule.entries:
        raise ValueError(f"l1_alphas acts on parameters that {type(strategy).__name__} does not have. Set it to 0.")


def check_aux_tower(conf: TrainConf, desc: ModelDesc) -> None:
    """Refuse the loss of an auxiliary tower that a supergraph does not have. ValueError."""
    if conf.aux_weight > 0 and not desc.has_aux_tower():
        raise ValueError("search.aux_weight has no effect: the supergraph has no auxiliary tower. Set it to 0.")


def check_monitor(stabilize: StabilizeConf, strategy: MetaOptimizer, has_validation: bool) -> None:
    """Refuse to watch an eigenvalue that does not exist. ValueError."""
    if stabilize.eigenvalue == "none":
        return
    if not has_validation:
        raise ValueError(
            "the Hessian eigenvalue is that of the validation loss, but there is no validation set. Set val_ratio "
            "above 0, or stabilize.eigenvalue='none'."
        )
    if "alphas" not in strategy.mixing_rule.entries:
        raise ValueError(
            f"{type(strategy).__name__} learns without gradients: there is no Hessian of its parameters. Set "
            "stabilize.eigenvalue='none'."
        )
