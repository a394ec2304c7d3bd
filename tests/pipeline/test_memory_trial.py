"""Tests of ``src/gradnas/pipeline/memory_trial.py``: predictions beside real phases at full batch, counted exactly."""

import gc
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas.config import STRATEGIES, ComponentConf, DataConf, RetrainConf, RunConf, SearchConf
from gradnas.costs import AvailableMemory, MemoryTracer
from gradnas.data import Augmentation, DataFacts, DataSource, ImageSet, Normalization
from gradnas.pipeline import RunContext, RunFolder, prepare
from gradnas.pipeline.plan import PhasePlan, plan_phases
from gradnas.strategies import StabilizeConf

PRIMITIVES = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "none"]
SPACE = {"channels": 4, "cells": 3, "nodes": 1, "reductions": 1, "primitives": PRIMITIVES}
UNKNOWN = AvailableMemory(None, "not asked for")
BATCH = 16


def images(n: int, dtype: torch.dtype = torch.uint8) -> ImageSet:
    pixels = torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return ImageSet(images=pixels.to(dtype), labels=torch.arange(n) % 5, classes=tuple("abcde"))


def source(n: int = 8 * BATCH) -> DataSource:
    train = images(n)
    return DataSource(
        name="noise",
        train=train,
        test=images(40),
        augmentation=Augmentation(crop_padding=1, flip=True),
        normalization=Normalization.of(train),
    )


def conf_of(
    strategy: str = "darts", options: dict[str, Any] | None = None, retrain: Any = None, **search: Any
) -> RunConf:
    settings = {"batch_size": BATCH, "eval_batch_size": 24, "epochs": 2, "max_steps_per_epoch": 1, **search}
    return RunConf(
        data=DataConf(source=None),
        space=ComponentConf(options=SPACE),
        strategy=ComponentConf(name=strategy, options=options or {}),
        search=SearchConf(**settings),
        retrain=retrain or RetrainConf(epochs=0),
    )


def predicted(conf: RunConf, data: DataSource, phase: str = "search", **context: Any) -> PhasePlan:
    experiment = prepare(conf, RunContext(data=data, seed=conf.seed, **context))
    held_out = context.get("val_set")
    facts = replace(DataFacts.of(data), n_val=None if held_out is None else len(held_out))
    return next(iter(plan_phases(experiment, facts, UNKNOWN, only=phase)))


def peak_of_search(conf: RunConf, data: DataSource, **context: Any) -> int:
    """What a real search holds at once, the data set it was given apart."""
    gc.collect()
    with MemoryTracer("cpu") as tracer:
        prepare(conf, RunContext(data=data, seed=conf.seed, **context)).search()
    return tracer.peak_bytes()


def beside_source(plan: PhasePlan, data: DataSource) -> int:
    assert data.test is not None
    return plan.peak_bytes - DataFacts.of(data).bytes_of(len(data.train) + len(data.test))


GRADIENT = [name for name in STRATEGIES if name != "random"]


@pytest.mark.parametrize(
    ("strategy", "fused"), [*((name, True) for name in GRADIENT), ("darts", False), ("gdas", False)]
)
def test_the_peak_of_every_strategy_is_that_of_a_real_search(strategy: str, fused: bool) -> None:
    data, conf = source(), conf_of(strategy, fused=fused)
    assert beside_source(predicted(conf, data), data) == pytest.approx(peak_of_search(conf, data), rel=0.2)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_second_order_is_seen(fused: bool) -> None:
    data = source()
    first, second = (conf_of("darts", {"order": order}, fused=fused, eval_batch_size=4) for order in (1, 2))
    ours = [predicted(conf, data) for conf in (first, second)]
    assert ours[1].train_bytes > ours[0].train_bytes
    assert beside_source(ours[1], data) == pytest.approx(peak_of_search(second, data), rel=0.2)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_chunks": 3},
        {"precision": "bfloat16"},
        {"eval_batch_size": 1024},
        {"stabilize": StabilizeConf(eigenvalue="stop")},
        {"stabilize": StabilizeConf(perturb="adversarial", perturb_steps=2)},
        {"stabilize": StabilizeConf(skip_dropout=0.5, skip_limit="stop", skip_limit_from=1)},
        {"on_nonfinite": "skip"},
        {"augment_val_batches": True, "cutout": 4},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_change_memory_are_seen(settings: dict[str, Any]) -> None:
    data, conf = source(), conf_of(fused=False, **settings)
    assert beside_source(predicted(conf, data), data) == pytest.approx(peak_of_search(conf, data), rel=0.2)


def test_a_warm_up_does_not_hide_the_architecture_steps() -> None:
    data = source()
    waiting = conf_of("darts", {"order": 2}, fused=False, epochs=3, stabilize=StabilizeConf(warmup_epochs=2))
    assert (
        predicted(waiting, data).train_bytes
        == predicted(conf_of("darts", {"order": 2}, fused=False, epochs=3), data).train_bytes
    )


def test_chunks_shrink_the_step_and_the_plan_says_by_how_much() -> None:
    data = source()
    whole = predicted(conf_of(fused=False), data)
    for chunks in (2, 4):
        chunked = predicted(conf_of(fused=False, batch_chunks=chunks), data)
        assert chunked.train_bytes < whole.train_bytes
        assert whole.memory.train_bytes(BATCH, chunks) == pytest.approx(chunked.train_bytes, rel=0.2)


def test_random_search_and_its_members_are_predicted() -> None:
    data, conf = source(), conf_of("random", {"samples": 2, "epochs": 2})
    ours = predicted(conf, data)
    assert ours.network == "random member"
    assert beside_source(ours, data) == pytest.approx(peak_of_search(conf, data), rel=0.2)


@pytest.mark.parametrize(
    "settings",
    [{}, {"drop_path": 0.3}, {"batch_chunks": 2, "precision": "bfloat16"}, {"val_ratio": 0.25, "eval_batch_size": 16}],
    ids=["plain", "drop path", "chunks", "validation"],
)
def test_the_peak_of_a_retraining_is_that_of_a_real_one(settings: dict[str, Any], tmp_path: Path) -> None:
    values = {"epochs": 2, "batch_size": BATCH, "channels": 8, "cells": 4, "drop_path": 0.0, "max_steps_per_epoch": 1}
    conf = conf_of(retrain=RetrainConf(**{**values, **settings}))
    data = source()
    folder = RunFolder.create(tmp_path / "run", conf)
    experiment = prepare(conf, RunContext(data=data, seed=conf.seed, folder=folder))
    found = experiment.search().model_desc
    assert found is not None
    ours = next(iter(plan_phases(experiment, DataFacts.of(data), UNKNOWN, found, only="retrain")))
    assert ours.network == "found network"
    gc.collect()
    with MemoryTracer("cpu") as tracer:
        experiment.retrain()
    assert beside_source(ours, data) == pytest.approx(tracer.peak_bytes(), rel=0.2)


def test_a_validation_set_of_its_own_is_used() -> None:
    data, held_out = source(), images(200)
    conf = conf_of(eval_batch_size=1024)
    ours = predicted(conf, data, val_set=held_out)
    assert (ours.n_train, ours.eval_batch_size) == (len(data.train), 200)
    assert beside_source(ours, data) == pytest.approx(peak_of_search(conf, data, val_set=held_out), rel=0.2)


def test_pixels_as_floats_are_counted_as_such() -> None:
    data = source()
    train = images(8 * BATCH, torch.float32)
    floats = replace(data, train=train, test=images(40, torch.float32), normalization=Normalization.of(train))
    conf = conf_of(eval_batch_size=4)
    more = predicted(conf, floats).data_bytes - predicted(conf, data).data_bytes
    assert more == 3 * 8 * 8 * 3 * (len(train) + 40 + 64 + 64 + 64)  # both sets, training, validation twice


def test_the_trial_says_nothing_and_leaves_random_numbers_alone(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with caplog.at_level(logging.DEBUG):
        predicted(conf_of("darts"), source())
    assert not caplog.records
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_keeps_no_graph(tmp_path: Path) -> None:
    seen: set[tuple[bool, bool]] = set()

    def look(module: torch.nn.Module, args: Any, out: Any) -> None:
        first = out[0] if isinstance(out, tuple) else out
        if isinstance(first, torch.Tensor):
            seen.add((module.training, first.requires_grad))

    data = source()
    conf = conf_of(retrain=RetrainConf(epochs=1, batch_size=BATCH, channels=2, cells=3, max_steps_per_epoch=1))
    hook = torch.nn.modules.module.register_module_forward_hook(look)
    try:
        experiment = prepare(conf, RunContext(data=data, folder=RunFolder.create(tmp_path / "run", conf)))
        experiment.search()
        experiment.retrain()
    finally:
        hook.remove()
    assert (True, True) in seen
    assert (False, False) in seen
    assert (False, True) not in seen
