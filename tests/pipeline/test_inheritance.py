"""Tests of retraining with the weights of the search, ``retrain.inherit_weights``."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gradnas import api
from gradnas.config import BaselineConf, ComponentConf, DataConf, GridConf, RetrainConf, RunConf, SearchConf
from gradnas.finalizers import Finalizers
from gradnas.pipeline import ExperimentRunner, RunFolder
from gradnas.spaces import DartsSpace
from gradnas.supergraph import Model
from gradnas.training import CheckPoint

SIZE: dict[str, Any] = {"channels": 4, "cells": 3, "nodes": 2, "reductions": 1}
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 16, "max_steps_per_epoch": 3}
SAME: dict[str, Any] = {"channels": 4, "cells": 3, **QUICK}


def configuration(**changes: Any) -> RunConf:
    settings = {
        "data": DataConf(source="digits"),
        "space": ComponentConf(options=SIZE),
        "search": SearchConf(**QUICK),
        "retrain": RetrainConf(**SAME, inherit_weights=True),
        "device": "cpu",
    }
    return RunConf(**{**settings, **changes})


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inherited") / "run"
    api.search(DartsSpace(1, 8, **SIZE), "digits", out=folder, device="cpu", **QUICK)
    return folder


def first_weights(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, Any]:
    """The network of a retraining before its first step."""

    class Begun(Exception):  # noqa: N818 - no error
        pass

    weights: dict[str, Any] = {}

    def begin(self: Any, data: Any) -> None:
        weights.update({name: value.clone() for name, value in self.model.state_dict().items()})
        raise Begun

    monkeypatch.setattr("gradnas.pipeline.evaluater.Trainer.fit", begin)
    with pytest.raises(Begun):
        api.retrain(source, out=tmp_path / "begun", **{**SAME, **settings})
    return weights


def test_network_begins_with_the_weights_of_the_chosen_candidates(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the supergraph in the last checkpoint, found by a way of their own."""
    space = DartsSpace(1, 8, **SIZE)
    supergraph = Model(space.build(), droppath=False, affine=False, fused=True, registry=space.registry)
    stored = CheckPoint(searched / "checkpoints" / "search.pt")
    assert stored.load_existing()
    supergraph.load_state_dict(stored["model"])
    found = Finalizers().finalize_model(supergraph)
    weights = first_weights(tmp_path, searched, monkeypatch, inherit_weights=True, aux_weight=0.0)

    edges = {
        f"cells.{c}.nodes.{n}.{e}.op": edge.op_desc
        for c, cell in enumerate(found.cell_descs)
        for n, node in enumerate(cell.nodes())
        for e, edge in enumerate(node.edges)
    }
    compared = 0
    for place, op in edges.items():
        assert op.trainables is not None
        for name, value in op.trainables["sd"].items():
            if "pool" in op.name and f"{place}.{name}" not in weights:  # its norm is one of searches
                continue
            assert torch.equal(weights[f"{place}.{name}"], value), (place, name)
            compared += 1
    assert compared > 10
    assert torch.equal(weights["logits_op.linear.weight"], supergraph.state_dict()["logits_op.linear.weight"])
    norms = [value for name, value in weights.items() if name.endswith("bn.weight")]
    assert norms
    assert all(torch.equal(value, torch.ones_like(value)) for value in norms)  # a search has none to leave


def test_without_it_the_network_begins_afresh(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = first_weights(tmp_path, searched, monkeypatch)
    inherited = first_weights(tmp_path / "other", searched, monkeypatch, inherit_weights=True)
    assert fresh.keys() == inherited.keys()
    assert not torch.equal(fresh["logits_op.linear.weight"], inherited["logits_op.linear.weight"])


def test_run_and_runner_and_retraining_elsewhere_inherit_the_same(searched: Path, tmp_path: Path) -> None:
    whole = api.run(configuration(), out=tmp_path / "run")
    apart = api.retrain(searched, out=tmp_path / "apart", inherit_weights=True, **SAME)
    (tmp_path / "conf.yaml").write_text((whole.folder / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    _, evaluated = ExperimentRunner(tmp_path / "conf.yaml", "runner", out=tmp_path).run()
    assert evaluated is not None
    test = evaluated.train_metrics.test
    assert test is not None
    assert whole.summary["test_loss"] == apart.summary["test_loss"] == test.loss


def test_killed_retraining_goes_on_with_the_same_result(searched: Path, tmp_path: Path) -> None:
    settings = {**SAME, "epochs": 2, "inherit_weights": True}
    whole = api.retrain(searched, out=tmp_path / "whole", **settings)
    api.retrain(searched, out=tmp_path / "cut", max_time=0.001, **settings)
    assert api.resume(tmp_path / "cut", max_time=600).summary["test_loss"] == whole.summary["test_loss"]


@pytest.mark.parametrize(
    "changes",
    [
        {"retrain": RetrainConf(**{**SAME, "channels": 8}, inherit_weights=True)},
        {"retrain": RetrainConf(**{**SAME, "cells": 5}, inherit_weights=True)},
    ],
)
def test_network_of_another_size_is_refused_before_the_search(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs the network of the search, 3 cells of 4 channels .* got"):
        api.run(configuration(**changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_network_of_another_size_is_refused_before_the_retraining(searched: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the network of the search, 3 cells of 4 channels .* got 20 cells of 36"):
        api.retrain(searched, out=tmp_path / "other", inherit_weights=True)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": ComponentConf(name="random")}, "'random' does not train whole candidates"),
        ({"strategy": ComponentConf(name="pcdarts")}, "'pcdarts' does not train whole candidates"),
        ({"baseline": BaselineConf(samples=1)}, "and a random baseline: only one search"),
        ({"grid": GridConf(max_nodes=3)}, "and a grid: only one search"),
    ],
)
def test_search_that_leaves_no_weights_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        api.run(configuration(**changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["random", "pcdarts"])
def test_retraining_says_that_the_search_has_left_no_weights(name: str, tmp_path: Path) -> None:
    options = {"samples": 1} if name == "random" else {}
    strategy = ComponentConf(name=name, options=options)
    result = api.run(configuration(strategy=strategy, retrain=RetrainConf(epochs=0)), out=tmp_path / "run")
    assert not (result.folder / "arch.safetensors").exists()
    with pytest.raises(FileNotFoundError, match=r"there are no weights at .*arch.safetensors: only a search that"):
        api.retrain(result, inherit_weights=True, **SAME)


def test_damaged_weights_are_named(searched: Path, tmp_path: Path) -> None:
    result = api.retrain(searched, out=tmp_path / "one", inherit_weights=True, **SAME)
    weights = RunFolder(result.folder) / "arch.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=r"arch\.safetensors was changed or damaged"):
        api.retrain(result, out=tmp_path / "two", inherit_weights=True, **SAME)
