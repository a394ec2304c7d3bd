"""Tests of ``src/gradnas/pipeline/plan.py``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gradnas as gn
from gradnas.arch import ModelDesc
from gradnas.config import BaselineConf, ComponentConf, DataConf, RetrainConf, RunConf, SearchConf
from gradnas.costs import MemoryModel, count_macs, count_params
from gradnas.pipeline import RunContext, RunFolder, load_source, prepare
from gradnas.pipeline.memory_advice import ways_to_shrink
from gradnas.pipeline.memory_trial import PhaseMemory
from gradnas.pipeline.plan import PhasePlan, plan
from gradnas.supergraph import Model

OPTIONS = {"channels": 2, "cells": 3, "nodes": 1, "reductions": 1, "primitives": ["skip_connect", "sep_conv_3x3"]}


def full(**changes: Any) -> RunConf:
    conf = RunConf(
        space=ComponentConf(options=OPTIONS),
        search=SearchConf(epochs=3, batch_size=50),
        retrain=RetrainConf(epochs=4, batch_size=30, channels=4, cells=3),
        baseline=BaselineConf(samples=2),
        device="cpu",
    )
    return replace(conf, **changes)


@pytest.fixture(scope="module")
def whole() -> gn.Plan:
    return gn.plan(full())


def test_each_phase_that_is_asked_for_is_planned(whole: gn.Plan) -> None:
    assert [(phase.phase, phase.network) for phase in whole.phases] == [
        ("search", "supergraph"),
        ("retrain", "random member"),
        ("baseline", "random member"),
    ]
    alone = plan(full(retrain=RetrainConf(epochs=0), baseline=BaselineConf()))
    assert [phase.phase for phase in alone.phases] == ["search"]


def test_steps_batches_and_samples_are_those_of_the_run(whole: gn.Plan) -> None:
    search, retrain, baseline = whole.phases
    # 1437 images: 718 train, 719 validate, 360 test
    assert (search.n_train, search.steps_per_epoch, search.epochs, search.eval_batch_size) == (718, 15, 3, 719)
    assert (retrain.n_train, retrain.steps_per_epoch, retrain.epochs, retrain.eval_batch_size) == (1437, 48, 4, 360)
    assert (baseline.n_train, baseline.steps_per_epoch, baseline.epochs) == (718, 15, None)
    conf = full()
    context = RunContext(data=load_source(conf))
    loaders = context.loaders(conf.search, "search", test=False)
    assert len(loaders.train) == search.steps_per_epoch
    assert len(context.loaders(conf.retrain, "retrain", test=True).train) == retrain.steps_per_epoch


def test_weights_and_multiply_adds_are_those_of_the_networks(whole: gn.Plan) -> None:
    conf = full()
    experiment = prepare(conf, RunContext(data=load_source(conf)))
    supergraph = Model(experiment.space.build(), droppath=False, affine=False, registry=experiment.space.registry)
    search = whole.phases[0]
    assert (search.params, search.macs) == (count_params(supergraph), count_macs(supergraph, (1, 8, 8)))
    assert whole.phases[1].params > whole.phases[2].params > 0


def test_the_data_is_what_the_loaders_and_the_set_hold(whole: gn.Plan) -> None:
    image = 8 * 8 + 8
    assert whole.phases[0].data_bytes == image * (1437 + 360 + 718 + 2 * 719)
    assert whole.phases[1].data_bytes == image * (1437 + 360 + 1437 + 360)


def test_of_a_run_folder_the_found_network_is_retrained(tmp_path: Path) -> None:
    conf = full(baseline=BaselineConf())
    folder = RunFolder.create(tmp_path / "run", conf)
    experiment = prepare(conf, RunContext(data=load_source(conf)))
    member = _member(experiment)
    member.save(folder / "arch.json")
    planned = plan(str(folder.path)).phases[1]
    assert planned.network == "found network"
    grown = experiment.space.grow(member, channels=4, cells=3, nodes=1, aux_weight=0.0)
    assert planned.params == count_params(Model(grown, registry=experiment.space.registry))


def test_a_given_architecture_is_not_called_found() -> None:
    conf = RunConf(
        arch="DARTS_V2", space=ComponentConf(options={"reductions": 1}), retrain=full().retrain, device="cpu"
    )
    assert [(phase.phase, phase.network) for phase in plan(conf).phases] == [("retrain", "given network")]


def _member(experiment: Any) -> ModelDesc:
    from gradnas.pipeline.random_searcher import random_member

    supergraph = Model(experiment.space.build(), droppath=False, affine=False, registry=experiment.space.registry)
    return random_member(supergraph, 77, 0)


def test_nothing_is_written_or_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    conf = full(data=DataConf(source="mnist"), retrain=RetrainConf(epochs=0), baseline=BaselineConf())
    planned = plan(conf)
    assert planned.facts.shape == (1, 28, 28)
    assert planned.phases[0].n_train == 30_000
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search": SearchConf(batch_size=800)}, "fewer samples than the batch: 718 training images"),
        ({"search": SearchConf(val_ratio=0.0)}, "learns the architecture on held-out data"),
        ({"data": DataConf(source=None)}, "data set object given in Python"),
        ({"device": "nowhere"}, "device 'nowhere' cannot be used here"),
    ],
)
def test_what_the_run_would_refuse_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(full(**changes))


def test_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        plan(tmp_path / "nothing")


def phase_of(available: int | None, *, train: float = 100.0, evaluation: float = 10.0, **changes: Any) -> PhasePlan:
    """A phase of 1000 + train · B bytes in training and 500 + evaluation · E in evaluation, 200 of data."""

    def model(fixed: float, slope: float) -> MemoryModel:
        numbers = (torch.tensor([x], dtype=torch.float64) for x in (fixed, slope))
        return MemoryModel(fixed=next(numbers), per_sample=next(numbers))

    memory = PhaseMemory(training=model(1000, train), evaluation=model(500, evaluation), held_bytes=10, chunks=1)
    values: dict[str, Any] = {
        **{"phase": "search", "network": "supergraph", "epochs": 1, "steps_per_epoch": 1},
        **{"batch_size": 64, "eval_batch_size": 100, "n_train": 500, "memory": memory, "data_bytes": 200},
        **{"model": torch.nn.Identity(), "image_shape": (1, 8, 8)},
        **{"available_bytes": available, "options": SearchConf(), "device": "cpu"},
    }
    return PhasePlan(**{**values, **changes})


def test_the_peak_is_the_largest_moment_and_the_data() -> None:
    assert phase_of(None).peak_bytes == 200 + 1000 + 6400
    assert phase_of(None, evaluation=100).peak_bytes == 200 + 500 + 10_000
    saving = phase_of(None, memory=replace(phase_of(None).memory, held_bytes=5000))
    assert saving.peak_bytes == 200 + 15_000
    assert replace(saving, device="cuda").peak_bytes == 200 + 7400
    assert phase_of(None, eval_batch_size=0).eval_bytes == 0


def test_it_fits_with_room_for_what_is_not_predicted() -> None:
    needed = 200 + int(1.9 * 7400)
    assert phase_of(needed + 2).fits is True
    assert phase_of(needed - 100).fits is False
    assert phase_of(None).fits is None


def test_the_largest_batches_and_the_fewest_chunks_fit() -> None:
    tight = phase_of(200 + int(1.9 * 4250))
    assert tight.largest_batch == 32
    assert tight.fewest_chunks == 2  # 32 samples at a time
    assert phase_of(200 + int(1.9 * 2650)).fewest_chunks == 4  # 16 at a time
    assert phase_of(10**9).largest_batch == 500  # all samples
    assert phase_of(100).largest_batch == 0
    assert phase_of(100).fewest_chunks is None
    assert phase_of(200 + int(1.9 * 600)).largest_eval_batch in (9, 10)
    assert phase_of(None).largest_batch is phase_of(None).fewest_chunks is phase_of(None).largest_eval_batch is None


def ways(phase: PhasePlan, **changes: Any) -> list[str]:
    conf = full(**changes)
    return ways_to_shrink(phase, conf, prepare(conf, RunContext(data=load_source(conf))).space)


def test_only_what_applies_is_advised() -> None:
    tight = phase_of(200 + int(1.9 * 4250))
    assert ways(tight) == [
        "search.batch_size=32",
        "search.batch_chunks=2 (the same batch in parts)",
        "strategy.name=gdas or pcdarts",
        "search.precision=bfloat16",
        "smaller space.options.channels, space.options.cells or space.options.nodes",
    ]
    second = ways(tight, strategy=ComponentConf(name="darts", options={"order": 2}))
    assert "strategy.options.order=1" in second
    for sparing in ("gdas", "pcdarts"):
        assert "strategy.name=gdas or pcdarts" not in ways(tight, strategy=ComponentConf(name=sparing))
    plain = replace(tight, options=SearchConf(fused=False, precision="bfloat16"))
    assert "search.fused=true" in ways(plain)
    assert "search.precision=bfloat16" not in ways(plain)


def test_where_evaluation_is_too_large_its_batch_comes_first() -> None:
    said = ways(phase_of(200 + int(1.9 * 8000), evaluation=100))
    assert said[0] == "search.eval_batch_size=75"
    assert not any("search.batch" in way for way in said)


def test_a_retraining_is_shrunk_by_its_own_settings() -> None:
    tight = phase_of(200 + int(1.9 * 4250), phase="retrain", network="found network", options=RetrainConf())
    assert ways(tight) == [
        "retrain.batch_size=32",
        "retrain.batch_chunks=2 (the same batch in parts)",
        "retrain.precision=bfloat16",
        "smaller retrain.channels or retrain.cells",
    ]


def test_where_not_even_the_data_fits_that_is_said() -> None:
    assert ways(phase_of(100))[-1] == "a smaller data.image_size, or fewer images"
    assert not any("batch_size" in way for way in ways(phase_of(100)))


def test_where_nobody_knows_what_is_there_the_same_settings_are_named() -> None:
    said = ways(phase_of(None))
    assert said[:3] == [
        "a smaller search.eval_batch_size",
        "a smaller search.batch_size",
        "more search.batch_chunks (the same batch in parts)",
    ]
