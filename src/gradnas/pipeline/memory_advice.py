"""Which settings make a phase take less memory."""

from collections.abc import Iterator

from gradnas.config import RunConf, SearchConf, build_strategy
from gradnas.pipeline.plan import SUPERGRAPH, PhasePlan
from gradnas.spaces import ModelDescBuilder
from gradnas.strategies import MetaOptimizer


def ways_to_shrink(phase: PhasePlan, conf: RunConf, space: ModelDescBuilder | None) -> list[str]:
    """Settings that let a phase fit, or at least take less, the most effective first; only those that apply.

    Args:
        phase: The phase that does not fit.
        conf: The run.
        space: Its space; None where nothing is searched.
    """
    part = "retrain" if phase.phase == "retrain" else "search"
    ways: list[str] = []
    if phase.too_large(phase.eval_bytes) is not False and phase.eval_bytes > 0:
        if phase.largest_eval_batch is None:
            ways.append(f"a smaller {part}.eval_batch_size")
        elif phase.largest_eval_batch > 0:
            ways.append(f"{part}.eval_batch_size={phase.largest_eval_batch}")
    if phase.too_large(phase.train_bytes) is not False:
        ways += _for_training(phase, conf, part)
    ways += _for_the_network(phase, space)
    if phase.too_large(0):
        ways.append("a smaller data.image_size, or fewer images")
    return ways


def _for_training(phase: PhasePlan, conf: RunConf, part: str) -> Iterator[str]:
    batch, chunks = phase.largest_batch, phase.fewest_chunks
    if batch is None:
        yield f"a smaller {part}.batch_size"
        yield f"more {part}.batch_chunks (the same batch in parts)"
    elif batch > 1:
        yield f"{part}.batch_size={batch}"
    if chunks is not None:
        yield f"{part}.batch_chunks={chunks} (the same batch in parts)"
    options = phase.options
    if isinstance(options, SearchConf) and phase.network == SUPERGRAPH:
        if not options.fused:
            yield "search.fused=true"
        strategy = build_strategy(conf.strategy)
        if getattr(strategy, "order", 1) == 2:
            yield "strategy.options.order=1"
        if isinstance(strategy, MetaOptimizer) and not strategy.mixing_rule.sparse and conf.strategy.name != "pcdarts":
            yield "strategy.name=gdas or pcdarts"
    if options.precision == "float32":
        yield f"{part}.precision=bfloat16"


def _for_the_network(phase: PhasePlan, space: ModelDescBuilder | None) -> Iterator[str]:
    if space is None:
        yield "a smaller model"
        return
    if phase.phase == "retrain":
        yield "smaller retrain.channels or retrain.cells"
        return
    sizes = [f"space.options.{name}" for name in ("channels", "cells", "nodes") if name in space.options]
    if sizes:
        yield f"smaller {' or '.join([', '.join(sizes[:-1]), sizes[-1]] if len(sizes) > 1 else sizes)}"
