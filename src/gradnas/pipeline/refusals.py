"""What can be refused before a run starts."""

from dataclasses import replace

import torch

from gradnas.arch import DARTS_PRIMITIVES, ModelDesc
from gradnas.config import PhaseConf, SearchConf
from gradnas.data import BatchPlan, stratified_split
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.evaluater import other_size
from gradnas.pipeline.experiment import Experiment, dataset_conf
from gradnas.pipeline.given_architecture import given_desc
from gradnas.pipeline.grid_plan import plan_combinations
from gradnas.pipeline.manual_experiment import AnyExperiment, ManualExperiment
from gradnas.pipeline.network_check import check_network
from gradnas.pipeline.search_plan import check_graph, check_monitor, check_penalty, search_schedule, warmup_epochs
from gradnas.pipeline.stabilizer import NO_SKIPS
from gradnas.pipeline.tensorboard_log import check_tensorboard
from gradnas.spaces import with_changes
from gradnas.strategies import MetaOptimizer, StabilizeConf
from gradnas.strategies.perturbation import SKIP
from gradnas.training import create_optimizer


def refuse_early(experiment: AnyExperiment, *, search: bool = True) -> None:
    """What would fail in a late phase fails now, before anything is written or trained.

    Args:
        experiment: The run that is about to start.
        search: Whether it searches; if not, only its retraining is looked at.

    Raises:
        ImportError: When a package that the run asks for is missing.
        ValueError: As the phase would.
    """
    if experiment.conf.tensorboard:
        check_tensorboard()
    if isinstance(experiment, ManualExperiment):
        _refuse_model(experiment)
        return
    conf, context, space, strategy = experiment.conf, experiment.context, experiment.space, experiment.strategy
    found = None if conf.arch is None else given_desc(conf.arch, space)
    search = search and found is None
    if search:
        needs_validation = not isinstance(strategy, MetaOptimizer) or strategy.bilevel
        if needs_validation and context.val_set is None and conf.search.val_ratio == 0:
            raise ValueError(
                f"the strategy {conf.strategy.name!r} learns the architecture on held-out data, but there is none. "
                "Set val_ratio above 0 or give a validation set."
            )
        sizes = _sizes(conf.search, context)
        _check_batches(conf.search, sizes, context, "search")
        if isinstance(strategy, MetaOptimizer):
            check_penalty(conf.search, strategy)
            if conf.search.cuda_graph:
                check_graph(strategy, context.device.type, conf.search.stabilize)
            _check_candidates(strategy.supergraph(space.build()), conf.search)
            strategy.check_weight_optimizer(create_optimizer(conf.search.optimizer, [torch.zeros(1)]))
            check_monitor(conf.search.stabilize, strategy, "validation" in sizes)
            waits = warmup_epochs(conf.search.stabilize, strategy, conf.search.epochs)
            plans = {part: BatchPlan.of(n, conf.search.batch_size, shuffle=True) for part, n in sizes.items()}
            strategy.check_schedule(search_schedule(conf.search, plans["training"], plans.get("validation"), waits))
        elif conf.search.stabilize != StabilizeConf():
            raise ValueError(
                f"the strategy {conf.strategy.name!r} trains no supergraph: search.stabilize has no effect. Remove it."
            )
    own = (space.settings if found is None else found.conf_model_desc).n_reductions
    reductions = _check_grid(experiment) if search and conf.grid.enabled else {own}
    if conf.retrain.epochs > 0:
        if search and conf.retrain.inherit_weights:
            _check_inheritance(experiment)
        for count in sorted(reductions):
            space.build(with_changes(space.settings, reductions=count, **conf.retrain.network()))
        create_optimizer(conf.retrain.optimizer, [torch.zeros(1)])
        _check_batches(conf.retrain, _sizes(conf.retrain, context), context, "retrain")


def _refuse_model(experiment: ManualExperiment) -> None:
    conf, context = experiment.conf, experiment.context
    check_network(conf.model, conf.retrain, dataset_conf(context.data), context.seed)
    create_optimizer(conf.retrain.optimizer, [torch.zeros(1)])
    _check_batches(conf.retrain, _sizes(conf.retrain, context), context, "retrain")


def _check_inheritance(experiment: Experiment) -> None:
    """Refuse to inherit weights that the search will not leave, or that will not fit."""
    conf, space, strategy = experiment.conf, experiment.space, experiment.strategy
    if conf.grid.enabled or conf.baseline.samples > 0:
        what = "grid" if conf.grid.enabled else "random baseline"
        raise ValueError(
            f"retrain.inherit_weights=true and a {what}: only one search at one size leaves weights to inherit. Leave "
            "out one of both."
        )
    desc = strategy.supergraph(space.build()) if isinstance(strategy, MetaOptimizer) else None
    if desc is None or any(op.params.get("partial", 1) != 1 for _, top in desc.top_ops() for _, op in top.all_ops()):
        raise ValueError(
            f"retrain.inherit_weights=true, but the strategy {conf.strategy.name!r} does not train whole candidates. "
            "Begin afresh."
        )
    retrained = with_changes(space.settings, **conf.retrain.network())
    if retrained != with_changes(space.settings, aux_weight=conf.retrain.aux_weight):
        raise ValueError(other_size(retrained, space.settings))


def _check_grid(experiment: Experiment) -> set[int]:
    """Refuse a grid that cannot be searched or has a baseline; the numbers of reductions that may be found."""
    conf = experiment.conf
    if experiment.context.val_set is None and conf.search.val_ratio == 0:
        raise ValueError(
            "the combinations of a grid are compared on held-out data, but there is none. Set val_ratio above 0 or "
            "give a validation set."
        )
    if conf.baseline.samples > 0:
        raise ValueError(
            "a random baseline gets the budget of one search, and a grid is many. Set baseline.samples to 0, or search "
            "the grid with the strategy 'random' to compare with."
        )
    planned = plan_combinations(experiment.space, conf.grid, conf.search, experiment.strategy)
    return {each.combination.reductions for each in planned if each.reason is None}


def _check_candidates(desc: ModelDesc, conf: SearchConf) -> None:
    """Refuse a supergraph in which nothing can be chosen, or a remedy against skips that it does not have."""
    ops = [op for _, top in desc.top_ops() for _, op in top.all_ops()]
    listed = [op.params.get("primitives", DARTS_PRIMITIVES if op.name == "mixed_op" else ()) for op in ops]
    candidates = {name for names in listed if isinstance(names, tuple) for name in names}
    if not candidates:
        raise ValueError("the space has no edge with a choice between candidates: there is nothing to search.")
    if conf.stabilize.skip_dropout > 0 and SKIP not in candidates:
        raise ValueError(NO_SKIPS)
    if conf.stabilize.skip_limit != "none" and SKIP not in candidates:
        raise ValueError(f"no candidate of the space is {SKIP!r}: skip_limit has no effect. Set it to 'none'.")


def _check_batches(conf: PhaseConf, sizes: dict[str, int], context: RunContext, phase: str) -> None:
    for part, n in sizes.items():
        if conf.batch_size > n and (part == "training" or isinstance(conf, SearchConf)):
            raise ValueError(
                f"fewer samples than the batch: {n} {part} images, {phase}.batch_size={conf.batch_size}. "
                f"Lower {phase}.batch_size to at most {n}."
            )
    train = context.data.train
    channels, height, width = train.shape
    augmentation = replace(context.data.augmentation, cutout=conf.cutout, policy=conf.policy)
    augmentation.check_fits(height, width)
    augmentation.check_pixels(channels, train.dtype)


def _sizes(conf: PhaseConf, context: RunContext) -> dict[str, int]:
    """Samples that train, and those held out if any."""
    train, held_out = context.data.train, context.val_set
    if held_out is None and conf.val_ratio > 0:
        kept, rest = stratified_split(train.labels, conf.val_ratio, seed=context.seed)
        return {"training": len(kept), "validation": len(rest)}
    return {"training": len(train), **({} if held_out is None else {"validation": len(held_out)})}
