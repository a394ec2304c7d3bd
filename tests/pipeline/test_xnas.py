"""Tests of ``src/gradnas/pipeline/xnas.py``, and of the strategy in real searches."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gradnas.config import ComponentConf, RunConf, to_yaml
from gradnas.data import BatchLoader, DataLoaders, ImageSet, Normalization
from gradnas.finalizers import Finalizers
from gradnas.foundation.seeds import seeded_initialization
from gradnas.pipeline import (
    ArchTrainer,
    Searcher,
    XnasArchTrainer,
    XnasExperimentRunner,
    XnasModelDescBuilder,
)
from gradnas.spaces import DartsSpace
from gradnas.strategies import Darts, Xnas, XnasOp
from gradnas.supergraph import Model
from gradnas.supergraph.mixing import entry
from gradnas.training import OptimConf, TrainConf


def supergraph(space: DartsSpace) -> Model:
    with seeded_initialization(0, "test"):
        return Model(space.build(), droppath=False, affine=False, registry=space.registry)


def survivors(model: Model) -> list[list[bool]]:
    return [entry(op.arch_params(), "survivors").tolist() for c in model.owner_cells() for op in c.mixed_ops()]


def loader(n: int, batch_size: int, **settings: Any) -> BatchLoader:
    numbers = torch.Generator().manual_seed(n)
    images = ImageSet(
        images=torch.randn(n, 1, 8, 8, generator=numbers), labels=torch.arange(n) % 5, classes=tuple("abcde")
    )
    return BatchLoader(
        images,
        batch_size=batch_size,
        normalization=Normalization(mean=(0.0,), std=(1.0,)),
        shuffle=True,
        seed=0,
        purpose="test",
        **settings,
    )


@pytest.mark.parametrize(
    ("n_train", "n_val", "batch_size", "epochs", "most_steps", "drop_last"),
    [
        (16, 16, 8, 2, None, False),  # whole batches
        (20, 20, 8, 2, None, False),  # short last batches
        (20, 12, 8, 3, None, False),  # validation shorter than training: its iterator starts again in mid-epoch
        (12, 29, 8, 3, None, False),  # validation longer than training
        (17, 17, 8, 2, None, False),  # a trailing single sample is dropped
        (20, 20, 8, 2, None, True),
        (40, 20, 8, 2, 2, False),  # epochs cut short
    ],
)
def test_departure_06_the_last_step_is_the_last_round(
    tools: Any, n_train: int, n_val: int, batch_size: int, epochs: int, most_steps: int | None, drop_last: bool
) -> None:
    model = supergraph(tools.space)
    trainer = XnasArchTrainer(TrainConf(epochs=epochs, max_steps_per_epoch=most_steps), model)
    drawn: list[int] = []
    step = trainer.strategy.step
    trainer.strategy.step = lambda train, val: (drawn.append(len(val[1])), step(train, val))[1]  # type: ignore[index,method-assign,assignment,func-returns-value]  # to watch
    train = loader(n_train, batch_size, drop_last=drop_last)
    trainer.fit(DataLoaders(train=train, alpha=loader(n_val, batch_size, drop_last=drop_last)))
    rounds = trainer.strategy.describe()["rounds"]
    assert rounds["regular"] == [2 * sum(drawn)] * 2
    assert rounds["reduction"] == [sum(drawn)] * 2
    assert all(sum(row) == 1 for row in survivors(model))  # at t = T only the leader is left: the horizon was right


def test_trainer_is_an_arch_trainer_with_the_strategy_of_the_paper(tools: Any) -> None:
    trainer = XnasArchTrainer(TrainConf(epochs=1), supergraph(tools.space))
    assert isinstance(trainer.strategy, Xnas)
    assert (trainer.strategy.bound, trainer.strategy.wipe_out) == (1.0, True)
    other = XnasArchTrainer(TrainConf(epochs=1), supergraph(tools.space), strategy=Darts())
    with pytest.raises(TypeError, match=r"XnasArchTrainer trains by Xnas, got Darts.* Use ArchTrainer"):
        other.fit(DataLoaders(train=loader(16, 8), alpha=loader(16, 8)))


def test_optimizer_never_holds_architecture_parameters(tools: Any) -> None:
    model = supergraph(tools.space)
    trainer = XnasArchTrainer(TrainConf(epochs=1), model)
    model.create_arch_params([("alphas", torch.nn.Parameter(torch.zeros(2)))])
    optimizer = trainer.create_optimizer(OptimConf(), model.parameters())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.weights()}


def test_nesterov_is_an_option_of_the_weight_optimizer(tools: Any) -> None:
    trainer = XnasArchTrainer(TrainConf(epochs=1, optimizer=OptimConf(nesterov=True)), supergraph(tools.space))
    optimizer = trainer.create_optimizer(trainer.conf.optimizer, trainer.ordinary_params())
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 3e-4, True)


def test_trainer_refuses_to_start_without_validation_data(tools: Any) -> None:
    trainer = XnasArchTrainer(TrainConf(epochs=1), supergraph(tools.space))
    with pytest.raises(ValueError, match="Xnas learns the architecture on held-out data, but there is none"):
        trainer.fit(DataLoaders(train=loader(16, 8)))


def test_a_short_horizon_is_refused_before_the_first_step(tools: Any) -> None:
    model = supergraph(tools.space)
    trainer = XnasArchTrainer(TrainConf(epochs=2), model, strategy=Xnas(horizon=31))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"horizon=31 is shorter than the search, which will draw 32"):
        trainer.fit(DataLoaders(train=loader(16, 8), alpha=loader(16, 8)))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_builder_puts_xnas_ops_on_every_edge_of_the_dense_cell(tools: Any) -> None:
    builder = XnasModelDescBuilder(1, 8, 5, channels=2, cells=3, nodes=2, reductions=1, primitives=tools.primitives)
    desc = builder.build()
    plain = tools.space.build()
    assert all(e.op_desc.name == "xnas_op" for c in desc.cell_descs for n in c.nodes() for e in n.edges)
    assert [[e.input_ids for n in c.nodes() for e in n.edges] for c in desc.cell_descs] == [
        [e.input_ids for n in c.nodes() for e in n.edges] for c in plain.cell_descs
    ]
    model = supergraph(builder)
    assert all(isinstance(op, XnasOp) for op in model.mixed_ops())
    assert not list(model.all_owned().param_by_kind())
    assert "xnas_op" not in tools.space.registry.names()  # building it changed no other registry


def test_both_spaces_learn_the_same(tools: Any) -> None:
    options = {"channels": 2, "cells": 3, "nodes": 2, "reductions": 1, "primitives": tools.primitives}
    models = [supergraph(tools.space), supergraph(XnasModelDescBuilder(1, 8, 5, **options))]
    models[0].set_mixing_rule(Xnas().mixing_rule)
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        XnasArchTrainer(TrainConf(epochs=2), model).fit(DataLoaders(train=loader(16, 8), alpha=loader(16, 8)))
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name]), name
    found = [Finalizers().finalize_model(model).genotype() for model in models]
    assert found[0] == found[1]


def conf(tools: Any, **changes: Any) -> RunConf:
    return replace(tools.conf(strategy=ComponentConf(name="xnas", options={"bound": 0.05})), **changes)


def searched(tools: Any, name: str, *, kill_at: int | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The alpha log and the last checkpoint of a search in a folder; it is continued if it is there."""
    settings = tools.search_conf(epochs=3)
    resume = (tools.tmp_path / name).exists()
    folder = tools.folder(name, conf(tools, search=settings))
    listener = tools.kill_after("search", kill_at) if kill_at is not None else None
    context = tools.context(folder, resume=resume, **({} if listener is None else {"listener": listener}))
    searcher = Searcher(context, Xnas(bound=0.05))
    try:
        searcher.search(settings, tools.space, ArchTrainer, Finalizers())
    except tools.killed:
        return [], {}
    log = [json.loads(line) for line in (folder / "alphas.jsonl").read_text().splitlines()]
    checkpoint = context.checkpoint("search", tools.search_conf())
    resumed = replace(context, resume=True).checkpoint("search", tools.search_conf())
    assert checkpoint is not None
    assert resumed is not None
    return log, dict(resumed)


def test_a_killed_search_continues_to_the_bit_identical_end(tools: Any) -> None:
    log, whole = searched(tools, "whole")
    assert searched(tools, "killed", kill_at=1) == ([], {})
    again, resumed = searched(tools, "killed")
    assert again == log
    assert whole["strategy"]["examples"] == resumed["strategy"]["examples"] == 3 * 2 * 8
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name


def test_the_log_of_each_epoch_tells_of_the_experts(tools: Any) -> None:
    log, checkpoint = searched(tools, "run")
    for epoch, record in enumerate(log):
        assert record["strategy"]["rounds"] == {"regular": [(epoch + 1) * 32, 96], "reduction": [(epoch + 1) * 16, 48]}
        assert set(record["strategy"]["bound_hits"]) == {"regular", "reduction"}
        for cell in record["cells"].values():
            alphas, alive = torch.tensor(cell["alphas"]), torch.tensor(cell["survivors"])
            assert alphas.shape == alive.shape == (5, 4)
            assert alphas.isfinite().all()
            expected = torch.where(alive, alphas, -torch.inf).softmax(1)
            torch.testing.assert_close(torch.tensor(cell["weights"]), expected)
    assert all(sum(row) == 1 for cell in log[-1]["cells"].values() for row in cell["survivors"])
    held: dict[str, Tensor] = checkpoint["model"]
    assert sum("survivors" in name for name in held) == 10


def test_a_second_fit_keeps_what_the_first_has_learnt(tools: Any) -> None:
    model = supergraph(tools.space)
    trainer = XnasArchTrainer(TrainConf(epochs=2), model)
    loaders = DataLoaders(train=loader(16, 8), alpha=loader(16, 8))
    metrics = trainer.fit(loaders)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert trainer.fit(loaders) is metrics
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_runner_refuses_bad_settings_before_it_cleans(tools: Any, tmp_path: Path, npz: Path) -> None:
    good = conf(tools)
    good = replace(good, data=replace(good.data, source=str(npz)))
    path = tmp_path / "conf.yaml"
    path.write_text(to_yaml(good))
    XnasExperimentRunner(path, "mine", out=tmp_path).run(eval=False)
    before = sorted(p.name for p in (tmp_path / "mine_search").iterdir())
    short = replace(good, strategy=ComponentConf(name="xnas", options={"horizon": 10}))
    large = replace(good, retrain=replace(good.retrain, batch_size=10**6))
    for bad, message in ((short, "horizon=10 is shorter"), (large, r"retrain\.batch_size=1000000")):
        path.write_text(to_yaml(bad))
        with pytest.raises(ValueError, match=message):
            XnasExperimentRunner(path, "mine", True, out=tmp_path).run()
        assert sorted(p.name for p in (tmp_path / "mine_search").iterdir()) == before


def test_runner_searches_and_evaluates(tools: Any, tmp_path: Path, npz: Path) -> None:
    settings = conf(tools)
    settings = replace(settings, data=replace(settings.data, source=str(npz)))
    path = tmp_path / "conf.yaml"
    path.write_text(to_yaml(settings))
    runner = XnasExperimentRunner(path, "mine", out=tmp_path)
    found, evaluated = runner.run()
    assert found is not None
    assert evaluated is not None
    assert (tmp_path / "mine_search" / "arch.json").is_file()
    assert isinstance(runner.model_desc_builder(), XnasModelDescBuilder)
    assert runner.trainer_class() is XnasArchTrainer
    again = XnasExperimentRunner(tmp_path / "mine_search" / "config.yaml", "mine", out=tmp_path)
    assert again.conf.space == runner.conf.space  # the folder says which builder made it


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": ComponentConf(name="darts")}, r"searches by Xnas, the configuration says 'darts'"),
        (
            {"space": ComponentConf(name="my.space.Own")},
            r"searches the space 'darts', the configuration says 'my.space.Own'",
        ),
    ],
)
def test_runner_refuses_another_method(
    tools: Any, tmp_path: Path, npz: Path, changes: dict[str, Any], message: str
) -> None:
    settings = conf(tools, **changes)
    settings = replace(settings, data=replace(settings.data, source=str(npz)))
    path = tmp_path / "conf.yaml"
    path.write_text(to_yaml(settings))
    with pytest.raises(ValueError, match=message):
        XnasExperimentRunner(path, "mine", out=tmp_path)


@pytest.fixture
def npz(tools: Any, tmp_path: Path) -> Path:
    """The images of the tests as a file."""
    import numpy as np

    path = tmp_path / "set.npz"
    parts = {"train": tools.source.train, "test": tools.source.test}
    arrays = {}
    for part, images in parts.items():
        pixels = (images.images.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1)
        arrays[f"x_{part}"], arrays[f"y_{part}"] = pixels.numpy(), images.labels.numpy()
    np.savez(path, **arrays)
    return path
